"""Percentile bootstrap intervals of means over examples, and of functions of sums over users."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.progress import track

FloatArray = NDArray[np.floating[Any]]
MetricsOfSums = Callable[[Mapping[str, FloatArray]], Mapping[str, FloatArray]]  # functions of sums over examples

LEVEL = 0.95  # the coverage of intervals
COUNT = "examples"  # column of ones among the metric columns: its sum is the number of examples
WEIGHTS_AT_ONCE = 4_000_000  # in a block of resamples, which takes about 100 MB, for any number of examples


def bootstrap_intervals(
    values: Mapping[str, NDArray[np.floating[Any]]],
    rng: np.random.Generator,
    resamples: int = 1000,
    user: NDArray[Any] | None = None,
) -> dict[str, tuple[float, float]]:
    """Return a 95 % interval of each metric's mean over examples. Users are drawn with replacement, each with all of
    their examples.

    Args:
        values: (n,) values per metric; all metrics share the resamples.
        user: (n,) the user of each example; None = each has another.
    """
    n = len(next(iter(values.values())))
    if user is None or len(np.unique(user)) == n:
        return {name: interval_ends(sums / n) for name, sums in _resampled_sums(values, rng, resamples).items()}

    def means(sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return {name: sums[name] / sums[COUNT] for name in values}

    return bootstrap_of_sums({**values, COUNT: np.ones(n)}, means, user, rng, resamples)


def bootstrap_of_sums(
    columns: Mapping[str, FloatArray],
    metrics: MetricsOfSums,
    user: NDArray[np.integer[Any]],
    rng: np.random.Generator,
    resamples: int = 1000,
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of functions of sums over examples: a root of a mean, a ratio of two sums, corpus BLEU.

    Users are drawn with replacement, each with all of their examples. Resamples where a metric is NaN do not count for
    it.

    Args:
        columns: (n,) values per name.
        metrics: maps the (r,) sums of each column in r resamples to (r,) values of each metric.
    """
    _, number = np.unique(user, return_inverse=True)
    by_user = {name: np.bincount(number, weights=column).astype(np.float64) for name, column in columns.items()}
    resampled = metrics(_resampled_sums(by_user, rng, resamples))
    return {name: interval_ends(values) for name, values in resampled.items()}


def interval_ends(values: FloatArray) -> tuple[float, float]:
    """Return both ends of the 95 % interval of a metric with these values in the resamples; NaN do not count."""
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _resampled_sums(
    columns: Mapping[str, FloatArray], rng: np.random.Generator, resamples: int
) -> dict[str, FloatArray]:
    """Return (resamples,) sums of each column over rows drawn with replacement; all columns share the resamples."""
    matrix = np.stack(list(columns.values()), axis=1)  # (n, columns)
    sums = [weights @ matrix for weights in resampled_weights(len(matrix), rng, resamples)]
    return dict(zip(columns, np.concatenate(sums).T, strict=True))


def resampled_weights(n: int, rng: np.random.Generator, resamples: int) -> Iterator[FloatArray]:
    """Yield, in blocks, (r, n) how often each of n is drawn in each resample."""
    block = max(1, WEIGHTS_AT_ONCE // n)
    for start in track(range(0, resamples, block), "bootstrap"):
        rows = min(block, resamples - start)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
