"""Errors of predicted ratings.

Stars form an interval scale, so errors are squared and absolute; papers report RMSE and MAE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

LIKED = 4  # stars from which P5 counts a like
PREDICTED_LIKED = 3.5  # predictions are not whole numbers: from here on they are nearer to a like


def rating_values(rating: FloatArray, predicted: FloatArray) -> dict[str, FloatArray]:
    """Return the errors of each example.

    Returns:
        (n,) values of `mse` and `mae`, the squared and the absolute error, named after their means; and of
            `like_accuracy`, whether `predicted >= PREDICTED_LIKED` agrees with `rating >= LIKED`, on a scale of five
            stars.
    """
    error = predicted - rating
    return {
        "mse": error**2,
        "mae": np.abs(error),
        "like_accuracy": ((predicted >= PREDICTED_LIKED) == (rating >= LIKED)).astype(np.float64),
    }


def rating_columns(
    rating: FloatArray,
    predicted: FloatArray,
    parsed: FloatArray | None = None,
    parsed_as_published: FloatArray | None = None,
) -> dict[str, FloatArray]:
    """Return the columns, (n,) values each, whose sums `rating_metrics` takes.

    Args:
        parsed, parsed_as_published: (n,) the number in the model's answer, as `capabilities.Ratings` has them; NaN
            where there is none; None without answers.
    """
    columns = {"n": np.ones(len(rating)), **rating_values(rating, predicted)}
    for name, numbers in (("said", parsed), ("said_paper", parsed_as_published)):
        if numbers is not None:
            readable = ~np.isnan(numbers)
            errors = rating_values(rating, np.where(readable, numbers, rating))  # no error without a number
            columns |= {f"{name}/n": readable.astype(np.float64), **{f"{name}/{e}": errors[e] for e in ("mse", "mae")}}
    return columns


def rating_metrics(sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the metrics from the sums of `rating_columns` over examples, in the shape of the sums.

    For a model that answers in words, `said/rmse` and `said/mae` are over the readable answers, and left out where
    there are none; `said/coverage` is the share of these. `said_paper/…` are the same of the answers as the method's
    published code reads them.
    """
    n = sums["n"]
    metrics = {
        "rmse": np.sqrt(sums["mse"] / n),
        "mae": sums["mae"] / n,
        "like_accuracy": sums["like_accuracy"] / n,
        "mse": sums["mse"] / n,
    }
    for name in ("said", "said_paper"):
        if f"{name}/n" in sums:
            readable = sums[f"{name}/n"]
            if np.any(readable):
                with np.errstate(invalid="ignore"):  # a resample without a readable answer has no error: NaN
                    metrics[f"{name}/rmse"] = np.sqrt(sums[f"{name}/mse"] / readable)
                    metrics[f"{name}/mae"] = sums[f"{name}/mae"] / readable
            metrics[f"{name}/coverage"] = readable / n
    return metrics


def majority_metrics(rating: FloatArray, in_training: FloatArray) -> dict[str, float]:
    """Return the metrics of constant predictions: the most frequent training rating, and for `like_accuracy` the more
    frequent of like and dislike."""
    values = rating_values(rating, np.full(len(rating), commonest(in_training)))
    likes = np.mean(in_training >= LIKED) >= 0.5
    return {
        "n": len(rating),
        "rmse": float(np.sqrt(values["mse"].mean())),
        "mae": float(values["mae"].mean()),
        "like_accuracy": float(((rating >= LIKED) == likes).mean()),
    }


def commonest(rating: FloatArray) -> float:
    """Return the most frequent rating; of equally frequent ones the lowest."""
    values, counts = np.unique(rating, return_counts=True)
    return float(values[counts.argmax()])
