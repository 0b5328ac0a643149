"""What accuracy hides: how much of the catalogue is ever recommended, and for which targets the hits are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]

FREQUENCY_BUCKETS = {"0": 0, "1-4": 1, "5-9": 5, "10-19": 10, "20+": 20}  # name -> least count


def coverage(top_items: IntArray, n_items: int) -> float:
    """The share of the catalogue that is recommended to anyone.

    Args:
        top_items: (n, k) item numbers, the best k of each example.
        n_items: size of the catalogue.
    """
    return len(np.unique(top_items)) / n_items


def by_frequency(values: Mapping[str, NDArray[np.floating[Any]]], train_count: IntArray) -> dict[str, dict[str, float]]:
    """Means by how often the target occurs in training; targets never seen there stand apart.

    Args:
        values: (n,) values a metric, one an example.
        train_count: (n,) training interactions of each example's target.

    Returns:
        For each bucket that has examples, in order: `n`, and the mean of each metric.
    """
    return by_group(values, frequency_groups(train_count))


def frequency_groups(train_count: IntArray) -> dict[str, NDArray[np.bool_]]:
    """(n,) which examples are in each bucket, of (n,) training interactions of each example's target."""
    bucket = np.searchsorted(list(FREQUENCY_BUCKETS.values()), train_count, side="right") - 1
    return {name: bucket == i for i, name in enumerate(FREQUENCY_BUCKETS)}


def by_group(
    values: Mapping[str, NDArray[np.floating[Any]]], groups: Mapping[str, NDArray[np.bool_]]
) -> dict[str, dict[str, float]]:
    """Means of groups of examples.

    Args:
        values: (n,) values a metric, one an example.
        groups: (n,) which examples are in each.

    Returns:
        For each group that has examples, in order: `n`, and the mean of each metric.
    """
    return {
        name: {"n": int(inside.sum()), **{m: float(v[inside].mean()) for m, v in values.items()}}
        for name, inside in groups.items()
        if inside.any()
    }


def by_group_of_sums(
    columns: Mapping[str, NDArray[np.floating[Any]]],
    metrics: Callable[[Mapping[str, NDArray[np.floating[Any]]]], Mapping[str, NDArray[np.floating[Any]]]],
    groups: Mapping[str, NDArray[np.bool_]],
) -> dict[str, dict[str, float]]:
    """What is computed of sums over examples, in groups of them.

    Args:
        columns, metrics: as of `bootstrap.bootstrap_of_sums`.
        groups: (n,) which examples are in each.

    Returns:
        For each group that has examples, in order: `n`, and each metric.
    """
    return {
        name: {
            "n": int(inside.sum()),
            **{m: float(v) for m, v in metrics({c: of[inside].sum() for c, of in columns.items()}).items()},
        }
        for name, inside in groups.items()
        if inside.any()
    }
