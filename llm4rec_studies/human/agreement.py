"""Statistics of human judgements: ranks, first places and scores of each system, and the agreement of the raters.

A rater judges all texts of an example or none, so all systems are compared on the same examples. Each example counts
once, with the mean over the raters who judged it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from llm4rec_cli.errors import UsageError
from llm4rec_cli.evaluation.bootstrap import bootstrap_intervals
from llm4rec_cli.results.result import Interval

FloatArray = NDArray[np.floating[Any]]

# Fewer are not conclusive.
MIN_RATERS = 3  # of an example
MIN_EXAMPLES = 50  # with that many raters


class Scale(Enum):
    """How texts are judged."""

    score = "score"  # 1 to BEST_SCORE, each text on its own
    rank = "rank"  # 1 is the best of the example's texts; no ties


BEST_SCORE = 5


@dataclass(frozen=True)
class Estimate:
    """A mean over examples, with its 95 % bootstrap interval."""

    mean: float
    interval: Interval


@dataclass(frozen=True)
class SystemResult:
    mean_score: Estimate | None  # None where texts were ranked
    mean_rank: Estimate  # 1 is best; tied texts share the mean of their ranks
    first: Estimate  # share of examples in which its text is the best; each of k texts that tie for best counts 1 / k


def system_results(ratings: FloatArray, scale: Scale, rng: np.random.Generator) -> list[SystemResult]:
    """Return the results of each system; all share the bootstrap resamples.

    Args:
        ratings: (raters, examples, systems) scores or ranks; NaN for all systems of an example that a rater skipped. At
            least one example is rated.
    """
    values = {"mean_rank": ranks(ratings, scale), "first": first_places(ratings, scale)}
    if scale is Scale.score:
        values["mean_score"] = ratings
    systems = range(ratings.shape[2])
    rated = ~np.isnan(ratings[:, :, 0]).all(axis=0)
    means = {name: np.nanmean(array[:, rated], axis=0) for name, array in values.items()}  # over the raters
    columns = {f"{name} {i}": array[:, i] for name, array in means.items() for i in systems}
    intervals = bootstrap_intervals(columns, rng)
    estimates = {key: Estimate(float(column.mean()), intervals[key]) for key, column in columns.items()}
    return [
        SystemResult(estimates.get(f"mean_score {i}"), estimates[f"mean_rank {i}"], estimates[f"first {i}"])
        for i in systems
    ]


def ranks(ratings: FloatArray, scale: Scale) -> FloatArray:
    """Return (…, systems) ranks within each example, 1 = best. Ties share the mean of their ranks."""
    ranked: FloatArray = rankdata(_lower_is_better(ratings, scale), axis=-1)
    return ranked


def first_places(ratings: FloatArray, scale: Scale) -> FloatArray:
    """Return (…, systems) 1 for the best system of each example, else 0; each of k that tie for best gets 1 / k."""
    costs = _lower_is_better(ratings, scale)
    best = (costs == costs.min(axis=-1, keepdims=True)).astype(np.float64)
    shares = best / np.maximum(best.sum(axis=-1, keepdims=True), 1)
    return np.where(np.isnan(costs), np.nan, shares)


def krippendorff_alpha(ratings: FloatArray) -> float | None:
    """Compute Krippendorff's alpha of ordinal ratings: 1 = perfect agreement, 0 = chance, below 0 = worse than chance.
    None where it is undefined: no text has two raters, or all ratings of those that do are equal.

    Args:
        ratings: (raters, texts) scores or ranks; NaN where a rater gave none.

    Raises:
        UsageError: the package that computes it is not installed.
    """
    try:
        import krippendorff
    except ImportError as error:
        problem = "the agreement of raters needs krippendorff, which is not installed"
        raise UsageError(problem, "pip install 'llm4rec[studies]'") from error

    rated_twice = ratings[:, (~np.isnan(ratings)).sum(axis=0) > 1]
    if len(np.unique(rated_twice[~np.isnan(rated_twice)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=rated_twice, level_of_measurement="ordinal"))


def _lower_is_better(ratings: FloatArray, scale: Scale) -> FloatArray:
    return -ratings if scale is Scale.score else ratings
