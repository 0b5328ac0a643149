"""Means of the training part:

    rating(u, i) = μ + b_i + b_u        b_i = Σ_u (r_ui - μ) / (n_i + λ)        b_u = Σ_i (r_ui - μ - b_i) / (n_u + λ)

as in Koren, "Factor in the Neighbors" (TKDD 2010), 2.1, which has one λ for users and another for items; here one,
chosen on validation. A user or item without ratings is like the mean of all. Clipped to the scale.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.capabilities import Ratings
from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import Split
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.ratings import TrainRatings, train_ratings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mean:
    """Means of ratings.

    Attributes:
        mean: of all.
        of_item, of_user: (n_items,) and (n_users,) how far theirs lie from it.
        scale: the lowest and the highest rating.
    """

    mean: float
    of_item: NDArray[np.float64]
    of_user: NDArray[np.float64]
    scale: tuple[float, float]

    def rate(self, examples: Examples) -> Ratings:
        value = self.mean + self.of_item[examples.target] + self.of_user[examples.user]
        return Ratings(np.clip(value, *self.scale))


def means(ratings: TrainRatings, n_users: int, n_items: int, damping: float) -> Mean:
    """The means of these ratings; `damping` is λ."""
    mean = float(ratings.rating.mean())
    of_item = _damped(ratings.item, ratings.rating - mean, n_items, damping)
    of_user = _damped(ratings.user, ratings.rating - mean - of_item[ratings.item], n_users, damping)
    return Mean(mean, of_item, of_user, ratings.scale)


def _damped(owner: NDArray[Any], values: NDArray[np.float64], n: int, damping: float) -> NDArray[np.float64]:
    count = np.bincount(owner, minlength=n) + damping
    total = np.bincount(owner, weights=values, minlength=n)
    return np.divide(total, count, out=np.zeros(n), where=count > 0)


def chosen(split: Split, dampings: Sequence[float]) -> Mean:
    """The means with the damping whose RMSE on validation is lowest, the first of equals."""
    ratings = train_ratings(split)
    candidates = [means(ratings, split.n_users, split.n_items, damping) for damping in dampings]
    given = split.dataset.interactions["rating"].to_numpy(dtype=np.float64)
    asked = split.examples(SplitName.valid)
    asked = asked[np.flatnonzero(~np.isnan(given[asked.row]))]
    if len(asked) == 0:
        return candidates[0]
    errors = [float(np.sqrt(np.mean((m.rate(asked).value - given[asked.row]) ** 2))) for m in candidates]
    best = int(np.argmin(errors))
    log.info("damping %g: RMSE %.4f on validation", dampings[best], errors[best])
    return candidates[best]


def build(context: Context) -> Mean:
    return chosen(context.split, list(context.config.damping))
