"""How sure a mean over users is, or what else is computed of sums over users: percentile bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

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
    n = len(next(iter(values.values())))
    means = {name: sums / n for name, sums in _resampled_sums(values, rng, resamples).items()}
    return {name: _ends(of, level) for name, of in means.items()}


def bootstrap_of_sums(
    columns: Mapping[str, FloatArray],
    metrics: Callable[[Mapping[str, FloatArray]], Mapping[str, FloatArray]],
    user: NDArray[np.integer[Any]],
    rng: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """An interval around what is computed of sums over examples: a root of a mean, a ratio of two sums, corpus BLEU.

    Users are drawn with replacement, each with all of their examples.

    Args:
        columns: (n,) values a name, one an example.
        metrics: of the sum of each column, (r,) of r resamples, makes (r,) of each metric.
        user: (n,) whose example it is.
        rng, resamples, level: as of `bootstrap_intervals`.

    Returns:
        Lower and upper end for each metric; where a resample has none (NaN), of the others.
    """
    _, number = np.unique(user, return_inverse=True)
    by_user = {name: np.bincount(number, weights=column).astype(np.float64) for name, column in columns.items()}
    return {name: _ends(of, level) for name, of in metrics(_resampled_sums(by_user, rng, resamples)).items()}


def bootstrap_over_seeds(
    columns: Sequence[Mapping[str, FloatArray]],
    metrics: Callable[[Mapping[str, FloatArray]], Mapping[str, FloatArray]],
    user: NDArray[Any],
    rng: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """An interval around the mean over seeds of what is computed of sums over examples.

    Users and seeds are drawn with replacement, independently: the users of a resample, each with all of their examples,
    are the same for all of its seeds. So it allows for other users and for other seeds, as far as these few tell.

    Args:
        columns: of each seed, as of `bootstrap_of_sums`, all about the same examples in the same order.
        metrics, user, rng, resamples, level: as of `bootstrap_of_sums`.

    Returns:
        Lower and upper end for each metric that all seeds have.
    """
    _, number = np.unique(user, return_inverse=True)
    by_user = {
        f"{seed} {name}": np.bincount(number, weights=column).astype(np.float64)
        for seed, of in enumerate(columns)
        for name, column in of.items()
    }
    sums = _resampled_sums(by_user, rng, resamples)
    of_each = [metrics({name: sums[f"{seed} {name}"] for name in of}) for seed, of in enumerate(columns)]
    drawn = rng.integers(len(columns), size=(len(columns), resamples))
    return {
        name: _ends(np.stack([of[name] for of in of_each])[drawn, np.arange(resamples)].mean(axis=0), level)
        for name in of_each[0]
        if all(name in of for of in of_each)
    }


def _ends(values: FloatArray, level: float) -> tuple[float, float]:
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled_sums(
    columns: Mapping[str, FloatArray], rng: np.random.Generator, resamples: int
) -> dict[str, FloatArray]:
    """(resamples,) sums of each column, (n,), whose rows are drawn with replacement; a resample serves all columns."""
    matrix = np.stack(list(columns.values()), axis=1)  # (n, columns)
    n = len(matrix)
    block = max(1, WEIGHTS_AT_ONCE // n)
    sums = np.concatenate([_weights(rng, min(block, resamples - i), n) @ matrix for i in range(0, resamples, block)])
    return {name: sums[:, i] for i, name in enumerate(columns)}


def _weights(rng: np.random.Generator, resamples: int, n: int) -> NDArray[np.float64]:
    """(resamples, n) how often each example is drawn: multinomial, n draws a row."""
    drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
