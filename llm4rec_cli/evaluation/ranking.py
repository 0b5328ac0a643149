"""Ranking metrics from the target's rank: how many candidates score above it, and how many tie with it.

Every metric is its expectation over all orders of the tied group, so a constant scorer scores exactly as chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.evaluation.metrics import offered_gains

IntArray = NDArray[np.integer[Any]]
FloatArray = NDArray[np.floating[Any]]


def expected_hit_rate(n_better: IntArray, n_tied: IntArray, k: int) -> FloatArray:
    """Return (n,) HR@k of each example, averaged over all orders of the items that tie with the target.

    With one relevant item HR@k and Recall@k are the same number. A constant scorer gets k / n_candidates, as chance
    does; counting ties for the target, as several published evaluations do, would give it 1.

    Args:
        n_better: (n,) how many candidates score above the target.
        n_tied: (n,) how many candidates share the target's score, itself included (>= 1).
    """
    return np.clip((k - n_better) / n_tied, 0.0, 1.0)


def expected_ndcg(n_better: IntArray, n_tied: IntArray, k: int) -> FloatArray:
    """Return (n,) NDCG@k with one relevant item: 1 / log2(rank + 1) up to rank k, otherwise 0; ties as above."""
    return _mean_gain(1.0 / np.log2(np.arange(2, k + 2)), n_better, n_tied)


def expected_reciprocal_rank(n_better: IntArray, n_tied: IntArray) -> FloatArray:
    """Return (n,) 1 / rank over the whole list, whose mean is MRR; ties as above."""
    return _mean_gain(1.0 / np.arange(1, np.max(n_better + n_tied, initial=0) + 1), n_better, n_tied)


def expected_auc(n_better: IntArray, n_tied: IntArray, n_candidates: IntArray) -> FloatArray:
    """Return (n,) AUC with one relevant item: the share of other candidates below the target; ties as above.

    It is 0.5, which is chance, where the target is the only candidate.

    Args:
        n_candidates: (n,) how many items were ranked, the target included.
    """
    n_others = n_candidates - 1
    n_above = n_better + (n_tied - 1) / 2
    return np.where(n_others > 0, 1 - n_above / np.maximum(n_others, 1), 0.5)


def _mean_gain(gain: FloatArray, n_better: IntArray, n_tied: IntArray) -> FloatArray:
    """Return the mean of `gain` ((k,) gains of ranks 1..k, 0 beyond) over ranks n_better + 1 .. n_better + n_tied."""
    total = np.concatenate([[0.0], np.cumsum(gain)])
    first, last = np.minimum(n_better, len(gain)), np.minimum(n_better + n_tied, len(gain))
    return (total[last] - total[first]) / n_tied


def ranking_metrics(
    n_better: IntArray, n_tied: IntArray, n_candidates: IntArray, cutoffs: Sequence[int]
) -> dict[str, FloatArray]:
    """Return all ranking metrics of each example.

    Args:
        n_better, n_tied: (n,) as in `expected_hit_rate`; but n_tied is 0 where the target was refused: a miss, where
            every metric is 0.
        n_candidates: (n,) as in `expected_auc`.
        cutoffs: the k of HR, Recall and NDCG; NDCG@1 equals HR@1 and is left out.

    Returns:
        (n,) values of each of `hr@k`, `recall@k`, `ndcg@k`, `mrr` and `auc`, and of the metrics of installed packages.
    """
    ranked, n_tied = n_tied > 0, np.maximum(n_tied, 1)
    hit_rate = {k: expected_hit_rate(n_better, n_tied, k) for k in cutoffs}
    values = {
        **{f"hr@{k}": values for k, values in hit_rate.items()},
        **{f"recall@{k}": values for k, values in hit_rate.items()},
        **{f"ndcg@{k}": expected_ndcg(n_better, n_tied, k) for k in cutoffs if k > 1},
        "mrr": expected_reciprocal_rank(n_better, n_tied),
        "auc": expected_auc(n_better, n_tied, n_candidates),
    }
    last = int(np.max(n_better + n_tied, initial=0))
    for metric, gain in offered_gains().items():
        ends = {f"{metric.name}@{k}": k for k in cutoffs} if metric.cutoffs else {metric.name: last}
        values |= {name: _mean_gain(gain(np.arange(1, end + 1)), n_better, n_tied) for name, end in ends.items()}
    return {name: np.where(ranked, metric, 0.0) for name, metric in values.items()}
