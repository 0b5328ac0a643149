"""What people say of texts beside one another: how each system's texts rank, and how far those who judge agree.

Whoever judges an example judges all of its texts, so every number is of the same examples for all systems. An example
counts once, with the mean over those who judged it, however many they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from llm4rec_cli.evaluation.bootstrap import bootstrap_intervals

FloatArray = NDArray[np.floating[Any]]

# With fewer a comparison settles nothing.
FEWEST_RATERS = 3
FEWEST_EXAMPLES = 50


class Scale(Enum):
    """How a text is judged."""

    score = "score"  # 1 to BEST_SCORE, each text by itself
    rank = "rank"  # 1 is the best of the example's texts, and no two share a rank


BEST_SCORE = 5


@dataclass(frozen=True)
class Estimate:
    """A mean over examples, and its 95 % bootstrap interval over them."""

    mean: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Standing:
    """How one system came out on one criterion.

    Attributes:
        mean_rank: 1 is best; of equal texts each has the mean of their ranks.
        first: how often its text is the best; of k texts that are best alike each counts 1 / k.
        mean_score: None where texts were ranked.
    """

    mean_rank: Estimate
    first: Estimate
    mean_score: Estimate | None = None


def standings(ratings: FloatArray, scale: Scale, rng: np.random.Generator) -> list[Standing]:
    """How each system came out.

    Args:
        ratings: (raters, examples, systems) scores or ranks; NaN for all systems of an example that a rater left out.
            At least one example is rated.
        scale: which of the two they are.
        rng: what draws the resamples; one serves all systems.

    Returns:
        One a system.
    """
    numbers = {"mean_rank": ranks(ratings, scale), "first": firsts(ratings, scale)}
    if scale is Scale.score:
        numbers["mean_score"] = ratings
    systems = range(ratings.shape[2])
    means = {name: _over_raters(values) for name, values in numbers.items()}
    columns = {(name, i): values[:, i] for name, values in means.items() for i in systems}
    intervals = bootstrap_intervals({f"{name} {i}": column for (name, i), column in columns.items()}, rng)
    return [
        Standing(**{name: Estimate(float(columns[name, i].mean()), intervals[f"{name} {i}"]) for name in numbers})
        for i in systems
    ]


def ranks(ratings: FloatArray, scale: Scale) -> FloatArray:
    """(…, systems) ranks from 1, the best, of the systems of each example; equal ones share the mean of theirs."""
    found: FloatArray = rankdata(_lower_is_better(ratings, scale), axis=-1)
    return found


def firsts(ratings: FloatArray, scale: Scale) -> FloatArray:
    """(…, systems) 1 for the best of each example and 0 for others; k that are best alike share it, 1 / k each."""
    placed = _lower_is_better(ratings, scale)
    best = (placed == placed.min(axis=-1, keepdims=True)).astype(np.float64)
    shares = best / np.maximum(best.sum(axis=-1, keepdims=True), 1)
    return np.where(np.isnan(placed), np.nan, shares)


def krippendorff_alpha(ratings: FloatArray) -> float | None:
    """Krippendorff's alpha of ordinal ratings: 1 = all agree, 0 = as chance would, below 0 = worse than chance.

    Args:
        ratings: (raters, units) scores or ranks; NaN where a rater gave none.

    Returns:
        None where it means nothing: nobody else judged what anybody judged, or all judgements are the same.
    """
    import krippendorff

    judged_by_several = ratings[:, (~np.isnan(ratings)).sum(axis=0) > 1]
    if len(np.unique(judged_by_several[~np.isnan(judged_by_several)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=judged_by_several, level_of_measurement="ordinal"))


def _lower_is_better(ratings: FloatArray, scale: Scale) -> FloatArray:
    return -ratings if scale is Scale.score else ratings


def _over_raters(values: FloatArray) -> FloatArray:
    """(rated examples, systems) means over the raters of each example."""
    rated = ~np.isnan(values[:, :, 0]).all(axis=0)
    means: FloatArray = np.nanmean(values[:, rated], axis=0)
    return means
