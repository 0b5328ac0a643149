"""How sure a mean over users is: percentile bootstrap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

WEIGHTS_AT_ONCE = 4_000_000  # 32 MB: a block of resamples, whatever the number of users


def bootstrap_intervals(
    values: Mapping[str, NDArray[np.floating[Any]]],
    rng: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """An interval around the mean of each metric; users are drawn with replacement.

    Args:
        values: (n,) values a metric, one an example, all over the same examples. Each resample serves all of them.
        rng: what draws the resamples.
        resamples: how many.
        level: the probability that the interval holds.

    Returns:
        Lower and upper end for each metric.
    """
    matrix = np.stack(list(values.values()), axis=1)  # (n, metrics)
    n = len(matrix)
    block = max(1, WEIGHTS_AT_ONCE // n)
    means = np.concatenate(
        [_weights(rng, min(block, resamples - i), n) @ matrix / n for i in range(0, resamples, block)]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(values)}


def _weights(rng: np.random.Generator, resamples: int, n: int) -> NDArray[np.float64]:
    """(resamples, n) how often each example is drawn: multinomial, n draws a row."""
    drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
