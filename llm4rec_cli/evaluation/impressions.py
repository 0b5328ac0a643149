"""Metrics of impressions: of the items that a user was shown together, how far up do the clicked ones come out?

As MIND defines them (each impression counts alike, whatever its number of clicks), but for ties: every metric is its
expectation over all orders of the items that share a score, so that a constant scorer scores exactly as chance. A click
is then equally likely at each rank that its tied group takes, and all that is summed over clicks follows from that.
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
    """Where each click came out among what was shown with it.

    Args:
        scores: (total,) of all items shown, impression after impression; none is NaN.
        offsets: (n + 1,) impression i is scores[offsets[i]:offsets[i + 1]].
        clicked: (total,) which items were clicked.

    Returns:
        (clicks,) each: the impression, how many items of it score above the click, and how many share its score, itself
        included.
    """
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((-scores, row))  # impressions stay where they are
    ordered = scores[order]
    begins = np.ones(len(ordered), dtype=bool)  # where a tied group does
    begins[1:] = (ordered[1:] != ordered[:-1]) | (row[1:] != row[:-1])
    start = np.flatnonzero(begins)
    size = np.diff(start, append=len(ordered))
    group = np.cumsum(begins) - 1
    clicks = np.flatnonzero(clicked[order])
    return row[clicks], start[group[clicks]] - offsets[row[clicks]], size[group[clicks]]


def impression_metrics(
    scores: FloatArray, offsets: IntArray, clicked: NDArray[np.bool_], cutoffs: Sequence[int]
) -> dict[str, FloatArray]:
    """All metrics of each impression; the order in which items are listed plays no part.

    Args:
        scores, offsets, clicked: as of `ranks_of_clicks`; each impression has an item that was clicked and one that was
            not.
        cutoffs: the k of nDCG.

    Returns:
        (n,) values in [0, 1] for each of
        `auc`: the share of pairs of a click and an item passed over in which the click stands above;
        `mrr`: the mean of 1 / rank over all clicks (not of the first alone);
        `ndcg@k`: Σ 1 / log2(rank + 1) over clicks of rank k at most, divided by what the best order would give.
    """
    row, n_better, n_tied = ranks_of_clicks(scores, offsets, clicked)
    n = len(offsets) - 1
    n_clicks = np.bincount(row, minlength=n)
    n_others = np.diff(offsets) - n_clicks

    def summed(of_click: FloatArray) -> FloatArray:
        return np.bincount(row, weights=of_click, minlength=n).astype(np.float64)

    # Of the items above a click, those that are clicks are 0, 1, 2, … from the top.
    others_above = summed(n_better + (n_tied - 1) / 2) - n_clicks * (n_clicks - 1) / 2
    values = {
        "auc": 1 - others_above / (n_clicks * n_others),
        "mrr": summed(expected_reciprocal_rank(n_better, n_tied)) / n_clicks,
    }
    for k in cutoffs:
        best = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
        values[f"ndcg@{k}"] = summed(expected_ndcg(n_better, n_tied, k)) / best[np.minimum(n_clicks, k) - 1]
    return values
