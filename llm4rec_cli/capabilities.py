"""What a model can be asked. Tasks ask by these words, models answer to them; neither knows the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from llm4rec_cli.data.examples import Examples


class Ranker(Protocol):
    """Scores items. `rank_catalogue`: without candidates; `rank_candidates`: with."""

    def score(self, examples: Examples) -> torch.Tensor:
        """Scores, higher is better, float32; the caller may overwrite them.

        Returns:
            (n, n_items) where `examples.candidates` is None, and (n, c), one a candidate, otherwise.
        """
        ...


@runtime_checkable
class Incomplete(Protocol):
    """A ranker that may lack some of the answers, and says what its numbers then hold."""

    def gaps(self, examples: Examples, ranks: pd.DataFrame, cutoffs: Sequence[int]) -> dict[str, str]:
        """What a reader of the numbers must know.

        Args:
            examples: (n) what was asked.
            ranks: (n) rows with `n_better`, `n_tied` and `n_candidates`: where the targets came out.
            cutoffs: the k of the metrics.

        Returns:
            label -> a sentence.

        Raises:
            DataError: so much is lacking that the numbers would mean nothing.
        """
        ...
