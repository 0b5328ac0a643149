"""What accuracy hides: how much of the catalogue is ever recommended, and for which targets the hits are."""

from __future__ import annotations

from collections.abc import Mapping
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
    bucket = np.searchsorted(list(FREQUENCY_BUCKETS.values()), train_count, side="right") - 1
    return by_group(values, {name: bucket == i for i, name in enumerate(FREQUENCY_BUCKETS)})


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
