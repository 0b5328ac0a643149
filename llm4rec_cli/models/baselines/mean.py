"""Mean ratings with user and item offsets:

    rating(u, i) = μ + b_i + b_u        b_i = Σ_u (r_ui - μ) / (n_i + λ)        b_u = Σ_i (r_ui - μ - b_i) / (n_u + λ)

as in Koren, "Factor in the Neighbors" (TKDD 2010), 2.1, which has separate λ for users and items. Here a single λ is
chosen on validation. Users and items without ratings have offset 0. Predictions are clipped to the scale.
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
    """Predicts the mean μ plus the offsets b_i and b_u, clipped to the scale."""

    mean: float
    item_offset: NDArray[np.float64]
    user_offset: NDArray[np.float64]
    scale: tuple[float, float]

    def rate(self, examples: Examples) -> Ratings:
        value = self.mean + self.item_offset[examples.target] + self.user_offset[examples.user]
        return Ratings(np.clip(value, *self.scale))


def fit_means(ratings: TrainRatings, n_users: int, n_items: int, damping: float) -> Mean:
    """Fit the means to these ratings; `damping` is λ."""
    mean = float(ratings.rating.mean())
    item_offset = _damped_mean(ratings.rating - mean, ratings.item, n_items, damping)
    user_offset = _damped_mean(ratings.rating - mean - item_offset[ratings.item], ratings.user, n_users, damping)
    return Mean(mean, item_offset, user_offset, ratings.scale)


def _damped_mean(values: NDArray[np.float64], group: NDArray[Any], n: int, damping: float) -> NDArray[np.float64]:
    count = np.bincount(group, minlength=n) + damping
    total = np.bincount(group, weights=values, minlength=n)
    return np.divide(total, count, out=np.zeros(n), where=count > 0)


def fit_best_damping(split: Split, dampings: Sequence[float]) -> Mean:
    """Fit the means with the damping of lowest RMSE on validation. The first one on ties."""
    ratings = train_ratings(split)
    candidates = [fit_means(ratings, split.n_users, split.n_items, damping) for damping in dampings]
    examples = split.examples(SplitName.valid)
    truth = split.dataset.interactions["rating"].to_numpy(dtype=np.float64)[examples.row]
    examples, truth = examples[np.flatnonzero(~np.isnan(truth))], truth[~np.isnan(truth)]
    if len(examples) == 0:
        return candidates[0]
    errors = [float(np.sqrt(np.mean((m.rate(examples).value - truth) ** 2))) for m in candidates]
    best = int(np.argmin(errors))
    log.info("damping %g: RMSE %.4f on validation", dampings[best], errors[best])
    return candidates[best]


def build(context: Context) -> Mean:
    return fit_best_damping(context.split, list(context.config.damping))
