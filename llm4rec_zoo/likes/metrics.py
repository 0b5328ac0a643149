"""Metrics of the predicted likes of n rows: areas under the ROC curve, over all rows and within users.

With `c(i, j)` = 1 if the liked row i scores above the disliked row j, 1/2 if they tie, otherwise 0:

    auc               Σ c(i, j) over all pairs / the number of pairs
    auc_within_users  the same over pairs of one user: the mean of the users' own AUCs, weighted by their pairs
    uauc              the plain mean of the users' own AUCs (CoLLM's)
    log_loss          the mean of -log p of what the user said

A user has pairs, and an AUC, if one of their rows is liked and one is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llm4rec_cli.evaluation.bootstrap import WEIGHTS_AT_ONCE, interval_ends, resampled_weights

FloatArray = NDArray[np.floating[Any]]
LEAST_PROBABILITY = 1e-7  # a smaller one counts as this in the log loss


class _Sums(NamedTuple):
    """Sums by user, (n_users,) each.

    Attributes:
        wins: Σ c(i, j) over the user's own pairs.
        pairs: the number of these.
        rows: the number of rows.
        loss: Σ -log p; None without probabilities.
    """

    wins: FloatArray
    pairs: FloatArray
    rows: FloatArray
    loss: FloatArray | None


def like_metrics(
    liked: NDArray[np.bool_], score: FloatArray, user: NDArray[Any], probability: FloatArray | None = None
) -> dict[str, float]:
    """Return the metrics, and `users_with_both`, the number of users that have pairs. Those without any pair are left
    out, as is `log_loss` without probabilities.

    Args:
        liked, score, user, probability: (n,) of each row.
    """
    values = like_values(liked, score, user, probability)
    pairs = _sums(liked, score, np.unique(user, return_inverse=True)[1], None).pairs
    return {name: float(of_rows.mean()) for name, of_rows in values.items()} | {
        "users_with_both": float((pairs > 0).sum())
    }


def like_values(
    liked: NDArray[np.bool_], score: FloatArray, user: NDArray[Any], probability: FloatArray | None = None
) -> dict[str, FloatArray]:
    """Return (n,) pseudo-values of each metric: their mean is the metric, and how their sums over users vary is, for
    many users, how the metric varies (DeLong et al., Biometrics 1988; Obuchowski, Biometrics 1997). So runs on the same
    rows are compared as by other means over examples.
    """
    n = len(liked)
    values: dict[str, FloatArray] = {}
    if 0 < (n_liked := int(liked.sum())) < n:
        share = _share_of_others(liked, score, np.zeros(n, dtype=np.int64))
        auc = share[liked].mean()
        values["auc"] = auc + (share - auc) * n / np.where(liked, n_liked, n - n_liked)
    _, number = np.unique(user, return_inverse=True)
    sums = _sums(liked, score, number, probability)
    if sums.pairs.any():
        rows, all_pairs = sums.rows[number], sums.pairs.sum()
        within = sums.wins.sum() / all_pairs
        values["auc_within_users"] = within + ((sums.wins - within * sums.pairs)[number] / rows) * n / all_pairs
        own, has_pairs = _own_auc(sums), sums.pairs > 0
        uauc = own[has_pairs].mean()
        values["uauc"] = uauc + (np.where(has_pairs, own - uauc, 0)[number] / rows) * n / has_pairs.sum()
    if probability is not None:
        values["log_loss"] = _losses(liked, probability)
    return values


def like_intervals(
    liked: NDArray[np.bool_],
    score: FloatArray,
    user: NDArray[Any],
    probability: FloatArray | None,
    rng: np.random.Generator,
    resamples: int,
) -> dict[str, tuple[float, float]]:
    """Return a 95 % interval of each metric: users are drawn with replacement, each with all of their rows."""
    _, number = np.unique(user, return_inverse=True)
    sums = _sums(liked, score, number, probability)
    order = np.argsort(score, kind="stable")
    first = np.flatnonzero(np.diff(score[order], prepend=np.nan) != 0)  # of each group of equal scores
    drawn: dict[str, list[FloatArray]] = {}
    for weights in resampled_weights(len(sums.rows), rng, resamples):
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample may lack pairs: NaN
            for name, values in _resampled(weights, sums).items():
                drawn.setdefault(name, []).append(values)
            for block in np.array_split(weights, -(-len(weights) * len(score) // WEIGHTS_AT_ONCE)):
                drawn.setdefault("auc", []).append(_weighted_auc(block, liked[order], number[order], first))
    stacked = {name: np.concatenate(values) for name, values in drawn.items()}
    return {name: interval_ends(values) for name, values in stacked.items() if not np.isnan(values).all()}


def _resampled(weights: FloatArray, sums: _Sums) -> Mapping[str, FloatArray]:
    """Return (r,) values of the metrics that are ratios of sums over users.

    Args:
        weights: (r, n_users) how often each user is drawn.
    """
    values = {
        "auc_within_users": weights @ sums.wins / (weights @ sums.pairs),
        "uauc": weights @ _own_auc(sums) / (weights @ (sums.pairs > 0)),
    }
    return values if sums.loss is None else values | {"log_loss": weights @ sums.loss / (weights @ sums.rows)}


def _weighted_auc(
    weights: FloatArray, liked: NDArray[np.bool_], number: NDArray[np.int64], first: NDArray[np.int64]
) -> FloatArray:
    """Return (r,) the AUC over all rows, each counted as often as its user is drawn.

    Args:
        weights: (r, n_users)
        liked, number: (n,) label and user of each row, by ascending score.
        first: where each group of equal scores begins.
    """
    of_rows = weights[:, number]
    liked_in_group = np.add.reduceat(of_rows * liked, first, axis=1)
    disliked_in_group = np.add.reduceat(of_rows * ~liked, first, axis=1)
    below = np.cumsum(disliked_in_group, axis=1) - disliked_in_group / 2
    wins = (liked_in_group * below).sum(axis=1)
    return wins / (liked_in_group.sum(axis=1) * disliked_in_group.sum(axis=1))


def _sums(
    liked: NDArray[np.bool_], score: FloatArray, number: NDArray[np.int64], probability: FloatArray | None
) -> _Sums:
    n_liked, rows = _by_user(number, liked), _by_user(number, np.ones(len(number)))
    pairs = n_liked * (rows - n_liked)
    won = np.where(liked, _share_of_others(liked, score, number), 0) * (rows - n_liked)[number]
    loss = None if probability is None else _by_user(number, _losses(liked, probability))
    return _Sums(_by_user(number, won), pairs, rows, loss)


def _by_user(number: NDArray[np.int64], values: NDArray[Any]) -> FloatArray:
    return np.bincount(number, weights=values).astype(np.float64)


def _own_auc(sums: _Sums) -> FloatArray:
    """Return (n_users,) each user's AUC; 0 without pairs."""
    return np.divide(sums.wins, sums.pairs, out=np.zeros(len(sums.pairs)), where=sums.pairs > 0)


def _share_of_others(liked: NDArray[np.bool_], score: FloatArray, group: NDArray[np.int64]) -> FloatArray:
    """Return (n,) the share of a row's pairs within its group in which the liked one is above; 0 without pairs."""
    n_liked = np.bincount(group, weights=liked)[group]
    n_opposite = np.where(liked, np.bincount(group)[group] - n_liked, n_liked)
    scores = pd.Series(score)
    among_all, among_own = (scores.groupby(keys).rank().to_numpy() for keys in (group, [group, liked]))
    n_below = among_all - among_own  # of the other label, with half of those that tie
    wins = np.where(liked, n_below, n_opposite - n_below)
    return np.divide(wins, n_opposite, out=np.zeros(len(score)), where=n_opposite > 0)


def _losses(liked: NDArray[np.bool_], probability: FloatArray) -> FloatArray:
    return -np.log(np.maximum(np.where(liked, probability, 1 - probability), LEAST_PROBABILITY))
