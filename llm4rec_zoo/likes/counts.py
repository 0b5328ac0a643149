"""Counts of likes, of which the floors of the task `like` are made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.likes import LabelledRows
from llm4rec_cli.errors import DataError

FloatArray = NDArray[np.floating[Any]]


def log_odds(probability: FloatArray) -> FloatArray:
    odds: FloatArray = np.log(probability) - np.log1p(-probability)
    return odds


def probabilities(log_odds: FloatArray) -> FloatArray:
    probability: FloatArray = 1 / (1 + np.exp(-log_odds))
    return probability


def liked_share(examples: Examples) -> FloatArray:
    """Return (n,) (likes + 1) / (items + 2) of each history: 1/2 for an empty one."""
    _, offsets = examples.histories()
    likes = np.concatenate([[0], np.cumsum(examples.liked_in_history())])
    return (likes[offsets[1:]] - likes[offsets[:-1]] + 1) / (np.diff(offsets) + 2)


class SmoothedMeans:
    """The share of likes of each user and item, pulled to the share of all as if there were more interactions.

    An interaction counts once, whether it is the target of a row or in the histories of several.

    Attributes:
        overall: the share of likes of all, (likes + 1) / (n + 2).
    """

    def __init__(self, rows: LabelledRows, n_users: int, n_items: int, smoothing: float) -> None:
        if len(rows) == 0:
            raise DataError("there are no training rows to count likes of", "a dataset with a training part")
        examples = rows.examples
        assert examples.liked is not None
        # A target follows its history in the sequence of all rated interactions.
        length = examples.end - examples.start + 1
        place = np.repeat(examples.end + 1 - np.cumsum(length), length) + np.arange(length.sum())
        place, first = np.unique(place, return_index=True)
        user, item = np.repeat(examples.user, length)[first], examples.sequence[place]
        liked = examples.liked[place].astype(np.float64)
        self.overall = float((liked.sum() + 1) / (len(liked) + 2))
        self.smoothing = smoothing
        self.users = _likes_and_count(user, liked, n_users)
        self.items = _likes_and_count(item, liked, n_items)

    def of_users(self, user: IntArray, label: NDArray[np.bool_] | None = None) -> FloatArray:
        """Return (n,) the mean of each user; with the labels of counted interactions, without these."""
        return self._means(*self.users, user, label)

    def of_items(self, item: IntArray, label: NDArray[np.bool_] | None = None) -> FloatArray:
        return self._means(*self.items, item, label)

    def _means(
        self, likes: FloatArray, count: FloatArray, number: IntArray, label: NDArray[np.bool_] | None
    ) -> FloatArray:
        own, one = (0, 0) if label is None else (label, 1)
        prior = self.smoothing * self.overall
        means: FloatArray = (likes[number] - own + prior) / (count[number] - one + self.smoothing)
        return means


def _likes_and_count(number: IntArray, liked: FloatArray, n: int) -> tuple[FloatArray, FloatArray]:
    """Return (n,) the likes of each of n, and the number of its interactions."""
    likes, count = (np.bincount(number, weights=of, minlength=n) for of in (liked, np.ones(len(liked))))
    return likes.astype(np.float64), count.astype(np.float64)
