"""Ranking metrics: golden values, and a naive reference that writes out every order of the tied items."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llm4rec_cli.evaluation.ranking import (
    expected_auc,
    expected_hit_rate,
    expected_ndcg,
    expected_reciprocal_rank,
    ranking_metrics,
)


def test_without_ties_metrics_are_the_textbook_ones():
    n_better, n_tied = np.array([0, 2, 9, 10]), np.ones(4, dtype=int)
    assert expected_hit_rate(n_better, n_tied, 10).tolist() == [1, 1, 1, 0]
    assert expected_ndcg(n_better, n_tied, 10) == pytest.approx([1, 0.5, 1 / math.log2(11), 0])
    assert expected_reciprocal_rank(n_better, n_tied) == pytest.approx([1, 1 / 3, 1 / 10, 1 / 11])
    assert expected_auc(n_better, n_tied, np.full(4, 11)) == pytest.approx([1, 0.8, 0.1, 0])


def test_ties_share_their_ranks():
    n_better, n_tied = np.array([1]), np.array([3])  # ranks 2, 3 and 4 are equally likely
    assert expected_hit_rate(n_better, n_tied, 3) == pytest.approx([2 / 3])
    assert expected_ndcg(n_better, n_tied, 3) == pytest.approx([(1 / math.log2(3) + 1 / 2) / 3])
    assert expected_reciprocal_rank(n_better, n_tied) == pytest.approx([(1 / 2 + 1 / 3 + 1 / 4) / 3])
    assert expected_auc(n_better, n_tied, np.array([5])) == pytest.approx([2 / 4])


def test_auc_of_a_target_without_rivals_is_chance():
    assert expected_auc(np.array([0]), np.array([1]), np.array([1])).tolist() == [0.5]


@given(
    scores=arrays(float, st.integers(1, 6), elements=st.sampled_from([0.0, 0.5, 1.0])),
    target=st.integers(0, 5),
    k=st.integers(1, 8),
)
def test_expectation_equals_enumerating_orders(scores, target, k):
    target %= len(scores)
    n_better = np.array([(scores > scores[target]).sum()])
    n_tied = np.array([(scores == scores[target]).sum()])
    orders = [sorted(order, key=lambda i: -scores[i]) for order in itertools.permutations(range(len(scores)))]
    rank = np.array([order.index(target) + 1 for order in orders])  # sorted() keeps the order of ties
    assert expected_hit_rate(n_better, n_tied, k) == pytest.approx([(rank <= k).mean()])
    assert expected_ndcg(n_better, n_tied, k) == pytest.approx([((rank <= k) / np.log2(rank + 1)).mean()])
    assert expected_reciprocal_rank(n_better, n_tied) == pytest.approx([(1 / rank).mean()])
    if len(scores) > 1:
        below = (len(scores) - rank) / (len(scores) - 1)
        assert expected_auc(n_better, n_tied, np.array([len(scores)])) == pytest.approx([below.mean()])


def test_ranking_metrics_names_and_equal_recall():
    metrics = ranking_metrics(np.array([0, 3]), np.array([1, 2]), np.array([9, 9]), [1, 5])
    assert list(metrics) == ["hr@1", "hr@5", "recall@1", "recall@5", "ndcg@5", "mrr", "auc"]
    assert metrics["recall@5"].tolist() == metrics["hr@5"].tolist()
