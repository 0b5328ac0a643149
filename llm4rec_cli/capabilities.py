"""What a model can be asked. Tasks ask by these words, models answer to them; neither knows the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from numpy.typing import NDArray

    from llm4rec_cli.config.schema import Written
    from llm4rec_cli.data.examples import Examples, Impressions


class Ranker(Protocol):
    """Scores items. `rank_catalogue`: without candidates; `rank_candidates`: with."""

    def score(self, examples: Examples) -> torch.Tensor:
        """Scores, higher is better, float32; the caller may overwrite them.

        Returns:
            (n, n_items) where `examples.candidates` is None, and (n, c), one a candidate, otherwise.
        """
        ...


class ImpressionRanker(Protocol):
    """`rank_impressions`: scores what a user was shown."""

    def score_shown(self, impressions: Impressions) -> torch.Tensor:
        """(total,) scores of all items shown, higher is better, float32, in the order of `impressions.shown()`.

        Of an impression nothing but its user, its time, its history and the items may be looked at.
        """
        ...


@dataclass(frozen=True)
class Ratings:
    """A model's ratings of n interactions, in the dataset's scale.

    Attributes:
        value: (n,) always defined.
        said: (n,) for a model that answers in words, the number that could be read in them, NaN where none could;
            None for a model that computes numbers.
    """

    value: NDArray[np.floating[Any]]
    said: NDArray[np.floating[Any]] | None = None


class Rater(Protocol):
    """`rate`: tells how many stars a user gives an item."""

    def rate(self, examples: Examples) -> Ratings:
        """(n) ratings; of the interaction itself nothing but its user and item may be looked at."""
        ...


class Writer(Protocol):
    """`write`: writes a text about a user's interaction with an item."""

    def write(self, examples: Examples, written: Written) -> list[str]:
        """(n) texts like the interactions' column `written`, which may not be looked at."""
        ...


class Learner(Protocol):
    """`all`: trained for every task by one loss, which can be told of what training did not see."""

    def held_out_losses(self, examples: Examples) -> dict[str, float]:
        """The mean loss of each kind of question about these held-out interactions, by name."""
        ...


@runtime_checkable
class Foreseeing(Protocol):
    """A model that wants to know all questions before it gives the first answer, and accounts for what it was told."""

    def foresee(self, examples: Examples) -> Examples:
        """Prepares all answers; returns the examples as they are to be evaluated, some perhaps several times."""
        ...

    def account(self, examples: Examples) -> pd.DataFrame:
        """(n) rows to stand beside the predictions: `status` (ok, repaired, invalid) and numbers `n_…` of an answer."""
        ...

    def spent(self) -> dict[str, Any]:
        """What the answers took: requests, tokens, seconds, cost."""
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
