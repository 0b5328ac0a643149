"""How far told ratings are from those that users gave.

Stars are an interval, so the errors are squared and absolute ones; what the papers print are their root mean and mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

LIKED = 4  # stars from which P5 calls it a like
PREDICTED_LIKED = 3.5  # a told rating is no whole number: from here on it is nearer to a like than to the stars below


def rating_values(rating: FloatArray, told: FloatArray) -> dict[str, FloatArray]:
    """What is scored of each example.

    Args:
        rating: (n,) what users gave.
        told: (n,) what a model tells.

    Returns:
        (n,) values for each of `mse` and `mae`, the squared and the absolute error, whose means are called so; and
        `like_accuracy`, whether `told >= PREDICTED_LIKED` just where `rating >= LIKED`. On a scale of five stars the last
        means like or dislike, whatever the other scale of another dataset makes of it.
    """
    error = told - rating
    return {
        "mse": error**2,
        "mae": np.abs(error),
        "like_accuracy": ((told >= PREDICTED_LIKED) == (rating >= LIKED)).astype(np.float64),
    }


def rating_columns(rating: FloatArray, told: FloatArray, said: FloatArray | None = None) -> dict[str, FloatArray]:
    """What `rating_metrics` needs the sums of: (n,) values a column, one an example.

    Args:
        rating, told: as of `rating_values`.
        said: (n,) the number that could be read in a model's words, NaN where none could; None = it says none.
    """
    columns = {"n": np.ones(len(rating)), **rating_values(rating, told)}
    if said is not None:
        readable = ~np.isnan(said)
        of_said = rating_values(rating, np.where(readable, said, rating))  # no error where there is no number
        columns |= {"readable": readable.astype(np.float64), "said/mse": of_said["mse"], "said/mae": of_said["mae"]}
    return columns


def rating_metrics(sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """The metrics, of the sums of `rating_columns` over examples.

    Returns:
        `rmse`, `mae`, `like_accuracy` and `mse` over all examples; of a model that answers in words also `said/rmse`
        and `said/mae` over those whose answer could be read, and `said/coverage`, their share. Where no answer could be
        read there are no errors of what was said. Each has the shape that the sums have.
    """
    n = sums["n"]
    metrics = {
        "rmse": np.sqrt(sums["mse"] / n),
        "mae": sums["mae"] / n,
        "like_accuracy": sums["like_accuracy"] / n,
        "mse": sums["mse"] / n,
    }
    if "readable" in sums:
        readable = sums["readable"]
        if np.any(readable):
            with np.errstate(invalid="ignore"):  # a resample without a readable answer has no error: NaN
                metrics["said/rmse"] = np.sqrt(sums["said/mse"] / readable)
                metrics["said/mae"] = sums["said/mae"] / readable
        metrics["said/coverage"] = readable / n
    return metrics


def majority_metrics(rating: FloatArray, in_training: FloatArray) -> dict[str, float]:
    """What always giving the commonest answer of the training part gets: its commonest rating, and for
    `like_accuracy` the commoner of like and not.

    Args:
        rating: (n,) what users gave where it is asked.
        in_training: (m,) the ratings of the training part, at least one.
    """
    values = rating_values(rating, np.full(len(rating), commonest(in_training)))
    likes = np.mean(in_training >= LIKED) >= 0.5
    return {
        "n": len(rating),
        "rmse": float(np.sqrt(values["mse"].mean())),
        "mae": float(values["mae"].mean()),
        "like_accuracy": float(((rating >= LIKED) == likes).mean()),
    }


def commonest(rating: FloatArray) -> float:
    """The rating that occurs most; of equals the lowest."""
    values, counts = np.unique(rating, return_counts=True)
    return float(values[counts.argmax()])
