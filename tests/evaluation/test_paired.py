"""Paired comparison: p by writing out all signs, what the null gives, and the plain counts."""

import itertools

import numpy as np
import pytest
from scipy import stats

from llm4rec_cli.evaluation import paired
from llm4rec_cli.evaluation.paired import holm, paired_differences, sign_flip_p


def enumerated_p(differences):
    """The share of all choices of signs whose sum is as far from 0 as the observed one."""
    signs = np.array(list(itertools.product([1, -1], repeat=len(differences))))
    return (np.abs(signs @ differences) >= abs(np.sum(differences)) - 1e-12).mean()


def estimated_p(differences, seed=0, **more):
    (p,) = sign_flip_p(np.array(differences, dtype=float)[:, None], np.random.default_rng(seed), **more)
    return p


def compared(a, b):
    return paired_differences(a, b, np.random.default_rng(1), np.random.default_rng(2))


@pytest.mark.parametrize(
    ("differences", "by_hand"),
    [
        ([1, 2, 3], 2 / 8),  # only all plus and all minus sum to 6 or -6
        ([1, 1, 0], 4 / 8),  # the sign of 0 does not matter: 1/2 and 1/2 again
        ([3, 2, -1], 4 / 8),  # sums of ±6, ±4, ±2 and ±0, each once; observed 4
        ([1, -1, 0], 1.0),
    ],
)
def test_p_of_three_pairs_is_the_share_of_sign_choices_as_far_from_zero(differences, by_hand):
    assert enumerated_p(np.array(differences)) == pytest.approx(by_hand)
    assert estimated_p(differences) == pytest.approx(by_hand, abs=0.015)  # 3 standard errors of 10,000 draws


def test_p_agrees_with_scipy_where_all_choices_can_be_written_out():
    differences = np.random.default_rng(0).normal(0.3, 1, size=12)
    exact = stats.permutation_test(
        (differences, np.zeros(12)), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert estimated_p(differences) == pytest.approx(exact, abs=0.015)


def test_p_is_never_zero():
    assert estimated_p(np.ones(100), permutations=999) == 1 / 1000


def test_equal_models_have_p_one():
    assert estimated_p(np.zeros(50)) == 1.0


def test_under_the_null_p_is_uniform():
    rng = np.random.default_rng(0)
    p = sign_flip_p(rng.normal(size=(40, 2000)), rng, permutations=199)  # 2000 metrics, independent of one another
    for level in (0.05, 0.25, 0.5, 0.9):
        assert np.mean(p <= level) == pytest.approx(level, abs=0.04)


def test_a_true_difference_is_found():
    assert estimated_p(np.random.default_rng(0).normal(0.5, 1, size=100)) < 0.001


def test_swapping_the_models_leaves_p_as_it_is():
    differences = np.random.default_rng(0).normal(0.1, 1, size=70)
    assert estimated_p(differences) == estimated_p(-differences)


def test_the_size_of_blocks_changes_nothing(monkeypatch):
    differences = np.random.default_rng(0).normal(0.1, 1, size=(130, 2))
    whole = sign_flip_p(differences, np.random.default_rng(1), permutations=101)
    monkeypatch.setattr(paired, "SIGNS_AT_ONCE", 1300)  # ten permutations at once
    assert sign_flip_p(differences, np.random.default_rng(1), permutations=101).tolist() == whole.tolist()


def test_holm_multiplies_the_smallest_most_and_keeps_the_order():
    assert holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])  # 3·0.01, 2·0.03, then no less
    assert holm(np.array([0.6, 0.5])) == pytest.approx([1, 1])
    assert holm(np.array([0.2])) == pytest.approx([0.2])


def test_means_and_counts_are_those_of_the_pairs():
    a = {"m": np.array([0.0, 0.5, 1.0, 1.0])}
    b = {"m": np.array([1.0, 0.5, 0.5, 1.0])}
    found = compared(a, b)["m"]
    assert (found.a, found.b, found.difference) == (0.625, 0.75, 0.125)
    assert (found.better, found.equal, found.worse) == (1, 2, 1)
    assert found.interval[0] <= found.difference <= found.interval[1]


def test_identical_models_differ_in_nothing():
    values = {"m": np.random.default_rng(0).random(30)}
    found = compared(values, values)["m"]
    assert (found.difference, found.interval, found.p, found.p_holm) == (0, (0, 0), 1, 1)
    assert (found.better, found.equal, found.worse) == (0, 30, 0)


def test_the_interval_is_that_of_the_difference_and_not_of_the_means():
    values = np.random.default_rng(0).random(200)
    found = compared({"m": values}, {"m": values + 0.01})["m"]  # each user gains the same
    assert found.interval == pytest.approx((0.01, 0.01))
    assert found.p < 0.001


def test_metrics_are_corrected_together():
    rng = np.random.default_rng(0)
    a = {name: rng.random(50) for name in ("m", "n")}
    b = {name: values + rng.normal(0.05, 0.2, 50) for name, values in a.items()}
    found = compared(a, b)
    assert [d.p_holm for d in found.values()] == pytest.approx(holm(np.array([d.p for d in found.values()])))


def test_of_an_error_the_lower_is_better():
    found = compared({"mae": np.array([1.0, 2.0, 3.0])}, {"mae": np.array([0.5, 2.0, 1.0])})["mae"]
    assert (found.difference, found.better, found.equal, found.worse) == (pytest.approx(-2.5 / 3), 2, 1, 0)
