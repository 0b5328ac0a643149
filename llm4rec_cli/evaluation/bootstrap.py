"""Percentile bootstrap intervals of means over examples, and of functions of sums over users."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """Return a 95 % interval of each metric's mean over examples; users are drawn with replacement, each with all of
    their examples.

    Args:
        values: (n,) values per metric, one per example, over the same examples; all metrics share the resamples.
        user: (n,) the user of each example; None = each has another.

    Returns:
        Lower and upper end of each metric.
    """
    n = len(next(iter(values.values())))
    if user is None or len(np.unique(user)) == n:
        return {name: _ends(sums / n) for name, sums in _resampled_sums(values, rng, resamples).items()}

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
    """Return intervals of functions of sums over examples: a root of a mean, a ratio of two sums, corpus BLEU.

    Users are drawn with replacement, each with all of their examples.

    Args:
        columns: (n,) values per name, one per example.
        metrics: maps the (r,) sums of each column in r resamples to (r,) values of each metric.
        user: (n,) the user of each example.
        rng, resamples: as in `bootstrap_intervals`.

    Returns:
        Lower and upper end of each metric, over the resamples where it is not NaN.
    """
    _, number = np.unique(user, return_inverse=True)
    by_user = {name: np.bincount(number, weights=column).astype(np.float64) for name, column in columns.items()}
    resampled = metrics(_resampled_sums(by_user, rng, resamples))
    return {name: _ends(values) for name, values in resampled.items()}


def _ends(values: FloatArray) -> tuple[float, float]:
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _resampled_sums(
    columns: Mapping[str, FloatArray], rng: np.random.Generator, resamples: int
) -> dict[str, FloatArray]:
    """Return (resamples,) sums of each column over rows drawn with replacement; all columns share the resamples."""
    matrix = np.stack(list(columns.values()), axis=1)  # (n, columns)
    n = len(matrix)
    block = max(1, WEIGHTS_AT_ONCE // n)
    starts = track(range(0, resamples, block), "bootstrap")
    sums = np.concatenate([_weights(rng, min(block, resamples - i), n) @ matrix for i in starts])
    return {name: sums[:, i] for i, name in enumerate(columns)}


def _weights(rng: np.random.Generator, resamples: int, n: int) -> NDArray[np.float64]:
    """Return (resamples, n) how often each example is drawn: multinomial, n draws per row."""
    drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
