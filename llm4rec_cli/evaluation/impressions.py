"""Metrics of impressions: the ranks of clicked items among the items that a user was shown together.

The definitions are MIND's (each impression has the same weight, whatever its number of clicks), except for ties: every
metric is its expectation over all orders of the items with equal scores, so that a constant scorer scores exactly as
chance. A click is then equally likely at each rank of its tied group, and sums over clicks follow from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.evaluation.ranking import expected_ndcg, expected_reciprocal_rank

IntArray = NDArray[np.integer[Any]]
FloatArray = NDArray[np.floating[Any]]


def ranks_of_clicks(
    scores: FloatArray, offsets: IntArray, clicked: NDArray[np.bool_]
) -> tuple[IntArray, IntArray, IntArray]:
    """Return the rank of each click among the items of its impression.

    Args:
        scores: (total,) scores of all items shown, impression after impression; none is NaN.
        offsets: (n + 1,) impression i is scores[offsets[i]:offsets[i + 1]].
        clicked: (total,) which items were clicked.

    Returns:
        Three (clicks,) arrays: the impression, how many of its items score above the click, and how many share its
            score, the click included.
    """
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((-scores, row))  # impressions keep their places
    ordered = scores[order]
    begins = np.ones(len(ordered), dtype=bool)  # first of a tied group
    begins[1:] = (ordered[1:] != ordered[:-1]) | (row[1:] != row[:-1])
    start = np.flatnonzero(begins)
    size = np.diff(start, append=len(ordered))
    group = np.cumsum(begins) - 1
    clicks = np.flatnonzero(clicked[order])
    return row[clicks], start[group[clicks]] - offsets[row[clicks]], size[group[clicks]]


def impression_metrics(
    scores: FloatArray, offsets: IntArray, clicked: NDArray[np.bool_], cutoffs: Sequence[int]
) -> dict[str, FloatArray]:
    """Return all metrics of each impression; the order in which items are listed has no effect.

    Args:
        scores, offsets, clicked: as in `ranks_of_clicks`. Each impression has a clicked item and one not clicked.
        cutoffs: the k of nDCG.

    Returns:
        (n,) values in [0, 1] for each of
        `auc`: the share of pairs of a clicked and an unclicked item in which the clicked one is above;
        `mrr`: the mean of 1 / rank over all clicks (not only the first);
        `ndcg@k`: Σ 1 / log2(rank + 1) over clicks of rank k at most, divided by its value for the best order.
    """
    row, n_better, n_tied = ranks_of_clicks(scores, offsets, clicked)
    n = len(offsets) - 1
    n_clicks = np.bincount(row, minlength=n)
    n_others = np.diff(offsets) - n_clicks

    def sum_over_clicks(values: FloatArray) -> FloatArray:
        return np.bincount(row, weights=values, minlength=n).astype(np.float64)

    # From the top, the clicks have 0, 1, 2, … other clicks above them.
    others_above = sum_over_clicks(n_better + (n_tied - 1) / 2) - n_clicks * (n_clicks - 1) / 2
    values = {
        "auc": 1 - others_above / (n_clicks * n_others),
        "mrr": sum_over_clicks(expected_reciprocal_rank(n_better, n_tied)) / n_clicks,
    }
    for k in cutoffs:
        best = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
        values[f"ndcg@{k}"] = sum_over_clicks(expected_ndcg(n_better, n_tied, k)) / best[np.minimum(n_clicks, k) - 1]
    return values
