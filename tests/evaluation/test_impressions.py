"""Metrics of impressions: golden values, a naive reference that writes out every order of ties, and scikit-learn."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from llm4rec_cli.evaluation.impressions import impression_metrics, ranks_of_clicks

CUTOFFS = [1, 2, 5, 10]


def metrics(*impressions, cutoffs=CUTOFFS):
    """The metrics of impressions given as lists of (score, clicked)."""
    scores, clicked = zip(*itertools.chain.from_iterable(impressions), strict=True)
    offsets = np.cumsum([0, *map(len, impressions)])
    return impression_metrics(np.array(scores, dtype=np.float32), offsets, np.array(clicked, dtype=bool), cutoffs)


def plain(clicked):
    """Return the textbook metrics of one impression; items are in the order of their ranks."""
    ranks = [rank for rank, is_clicked in enumerate(clicked, start=1) if is_clicked]
    others = [rank for rank, is_clicked in enumerate(clicked, start=1) if not is_clicked]

    def dcg(of, k):
        return sum(1 / math.log2(rank + 1) for rank in of if rank <= k)

    return {
        "auc": sum(click < other for click in ranks for other in others) / (len(ranks) * len(others)),
        "mrr": sum(1 / rank for rank in ranks) / len(ranks),
        **{f"ndcg@{k}": dcg(ranks, k) / dcg(range(1, len(ranks) + 1), k) for k in CUTOFFS},
    }


@st.composite
def impression(draw, scores=(0.0, 0.5, 1.0)):
    """Items of which some were clicked and some were not, in any order."""
    length = draw(st.integers(2, 6))
    n_clicks = draw(st.integers(1, length - 1))
    clicked = draw(st.permutations([True] * n_clicks + [False] * (length - n_clicks)))
    return [(draw(st.sampled_from(scores)), is_clicked) for is_clicked in clicked]


def test_metrics_by_hand():
    values = metrics([(0.9, False), (0.8, True), (0.7, False), (0.6, True)])  # clicks at ranks 2 and 4
    ideal = 1 + 1 / math.log2(3)
    assert values["auc"] == pytest.approx([1 / 4])
    assert values["mrr"] == pytest.approx([(1 / 2 + 1 / 4) / 2])
    assert values["ndcg@1"] == pytest.approx([0])
    assert values["ndcg@2"] == pytest.approx([(1 / math.log2(3)) / ideal])
    assert values["ndcg@5"] == pytest.approx([(1 / math.log2(3) + 1 / math.log2(5)) / ideal])


@given(impression())
def test_expectations_equal_enumerating_orders(items):
    orders = [sorted(order, key=lambda item: -item[0]) for order in itertools.permutations(items)]
    each = [plain([is_clicked for _, is_clicked in order]) for order in orders]
    values = metrics(items)
    assert {name: value[0] for name, value in values.items()} == {
        name: pytest.approx(sum(one[name] for one in each) / len(each)) for name in each[0]
    }


@given(impression(scores=tuple(range(8))))
def test_auc_is_scikit_learns(items):
    scores, clicked = zip(*items, strict=True)
    assert metrics(items)["auc"] == pytest.approx([roc_auc_score(clicked, scores)])


@given(st.lists(impression(), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_impressions_are_apart_and_their_order_and_that_of_their_items_plays_no_part(impressions, random):
    together = metrics(*impressions)
    for i, items in enumerate(impressions):
        alone = metrics(random.sample(items, len(items)))
        assert {name: value[0] for name, value in alone.items()} == {
            name: pytest.approx(value[i]) for name, value in together.items()
        }


def test_every_real_score_counts_and_infinite_ones_too():
    values = metrics([(-np.inf, True), (0, False)], [(np.inf, True), (1e30, False)], [(-0.0, True), (0.0, False)])
    assert values["auc"].tolist() == [0, 1, 0.5]


def test_ranks_of_clicks_name_their_impressions():
    scores = np.array([1, 3, 2, 2, 5, 5, 5], dtype=np.float32)
    clicked = np.array([1, 0, 0, 1, 0, 1, 1], dtype=bool)
    row, n_better, n_tied = ranks_of_clicks(scores, np.array([0, 2, 7]), clicked)
    assert sorted(zip(row, n_better, n_tied, strict=True)) == [(0, 1, 1), (1, 0, 3), (1, 0, 3), (1, 3, 2)]
