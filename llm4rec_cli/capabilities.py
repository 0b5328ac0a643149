"""What a model can be asked. Tasks ask by these words, models answer to them; neither knows the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
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
