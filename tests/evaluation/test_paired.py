"""Paired comparison: p by writing out all signs and splits, what the null gives, margins, and the plain counts."""

import itertools

import numpy as np
import pytest
from scipy import stats

from llm4rec_cli.evaluation import paired
from llm4rec_cli.evaluation.paired import (
    Margin,
    as_one_family,
    holm,
    paired_differences,
    seed_permutation_p,
    sign_flip_p,
)


def enumerated_p(differences):
    """Return the share of all sign vectors with a sum at least as far from 0 as the observed one."""
    signs = np.array(list(itertools.product([1, -1], repeat=len(differences))))
    return (np.abs(signs @ differences) >= abs(np.sum(differences)) - 1e-12).mean()


def estimated_p(differences, seed=0, **more):
    (p,) = sign_flip_p(np.array(differences, dtype=float)[:, None], np.random.default_rng(seed), **more)
    return p


def compared(a, b, user=None, margin=None):
    """Of one run each, or of lists of them, one a seed."""
    a, b = ([side] if isinstance(side, dict) else side for side in (a, b))
    user = np.arange(len(next(iter(a[0].values())))) if user is None else np.array(user)
    return paired_differences(a, b, user, np.random.default_rng(2), margin)


def over_seeds(a, b, **more):
    """The difference in a metric of (seeds, n) values."""
    return compared([{"m": of} for of in np.array(a, float)], [{"m": of} for of in np.array(b, float)], **more)["m"]


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
    result = compared(a, b)["m"]
    assert (result.a, result.b, result.difference) == (0.625, 0.75, 0.125)
    assert (result.better, result.equal, result.worse) == (1, 2, 1)
    assert result.interval[0] <= result.difference <= result.interval[1]


def test_identical_models_differ_in_nothing():
    values = {"m": np.random.default_rng(0).random(30)}
    result = compared(values, values)["m"]
    assert (result.difference, result.interval, result.p, result.p_holm) == (0, (0, 0), 1, 1)
    assert (result.better, result.equal, result.worse) == (0, 30, 0)


def test_of_an_error_the_lower_is_better():
    result = compared({"mae": np.array([1.0, 2.0, 3.0])}, {"mae": np.array([0.5, 2.0, 1.0])})["mae"]
    assert (result.difference, result.better, result.equal, result.worse) == (pytest.approx(-2.5 / 3), 2, 1, 0)


# ---- users × seeds


def parted(a, b):
    return seed_permutation_p(np.array(a, float), np.array(b, float), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("a", "b", "by_hand"),
    [
        ([1, 2, 3], [4, 5, 6], 2 / 20),  # of 20 ways to part six trainings two are as far apart
        ([1, 2], [3, 4], 2 / 6),
        ([1, 2, 4], [3, 5, 6], 4 / 20),  # 3 for 4 is the only nearer one on either side
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([1, 2, 3], [4, 9], 1 / 10),  # of ten ways this is the farthest
    ],
)
def test_p_over_trainings_is_the_share_of_ways_to_part_them(a, b, by_hand):
    assert parted(a, b) == pytest.approx(by_hand)


def test_of_many_trainings_ways_to_part_them_are_drawn():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=20), rng.normal(0.7, 1, size=20)
    assert parted(a, b) == pytest.approx(stats.ttest_ind(a, b).pvalue, abs=0.01)
    assert parted(a, b) == parted(a, b)


@pytest.mark.parametrize(("seeds", "least"), [(2, 1 / 3), (3, 0.1), (4, 1 / 35), (5, 1 / 126)])
def test_few_seeds_cannot_have_a_small_p(seeds, least):
    assert parted(np.zeros(seeds), np.arange(1.0, seeds + 1)) == pytest.approx(least)


def test_of_one_run_each_p_and_interval_are_those_of_scipys_t_test():
    rng = np.random.default_rng(0)
    d = rng.normal(0.1, 1, size=60)
    result, test = compared({"m": np.zeros(60)}, {"m": d})["m"], stats.ttest_1samp(d, 0)
    assert result.p == pytest.approx(test.pvalue)
    assert result.interval == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert result.p_seeds is None


def test_of_many_users_and_few_seeds_p_is_that_of_welchs_test_over_seeds():
    """The difference is the same for every user, so all its error is over seeds."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 1)), rng.normal(1, 1, size=(4, 1))
    result, test = (
        over_seeds(a + np.zeros(50), b[:3] + np.zeros(50)),
        stats.ttest_ind(b[:3, 0], a[:, 0], equal_var=False),
    )
    assert result.p == pytest.approx(test.pvalue)
    differ = compared([{"m": np.full(50, x)} for x in a[:, 0]], [{"m": np.full(50, x)} for x in b[:, 0]])["m"]
    assert differ.difference == pytest.approx(b.mean() - a.mean()), "numbers of seeds may differ"


def test_a_relative_margin_is_compared_with_the_interval_of_the_ratio():
    a = np.random.default_rng(0).uniform(0.5, 1.5, size=400)
    result = compared({"m": a}, {"m": 1.03 * a}, margin=Margin(0.05, True))["m"]
    assert result.equivalent
    assert result.margin_interval == pytest.approx((0.03 * a.mean(), 0.03 * a.mean()))
    assert result.interval[0] < result.margin_interval[0] < result.interval[1]


def test_a_coin_is_tossed_once_a_user_for_all_seeds_and_examples():
    d = np.array([1.0, 2.0, 3.0])
    assert over_seeds(np.zeros((4, 3)), np.tile(d, (4, 1))).p_users == pytest.approx(2 / 8, abs=0.015)
    twice = np.repeat(d, 2)[None]
    assert over_seeds(np.zeros((1, 6)), twice, user=[0, 0, 1, 1, 2, 2]).p_users == pytest.approx(2 / 8, abs=0.015)


def test_where_seeds_disagree_the_interval_and_p_say_so():
    users = np.random.default_rng(0).normal(0, 0.1, size=400)
    seeds = np.array([0.3, -0.1, 0.2])[:, None]
    result = over_seeds(np.zeros((3, 400)), users + seeds)
    over_users_alone = compared({"m": np.zeros(400)}, {"m": users + seeds.mean()})["m"]
    assert over_users_alone.interval[0] > 0.1
    assert over_users_alone.p < 0.001
    assert result.interval[0] < 0 < result.interval[1]
    assert result.p > 0.3


def test_means_and_counts_are_over_seeds():
    result = over_seeds([[0, 1, 1], [0, 1, 0]], [[1, 1, 1], [1, 0, 0]])
    assert (result.a, result.b, result.difference) == pytest.approx((0.5, 2 / 3, 1 / 6))
    assert (result.better, result.equal, result.worse) == (1, 1, 1)


# ---- equivalence


@pytest.mark.parametrize(
    ("text", "margin", "allowed"),
    [("0.01", Margin(0.01), 0.01), ("5%", Margin(0.05, True), 0.02), ("5 %", Margin(0.05, True), 0.02)],
)
def test_a_margin_is_a_difference_or_a_share_of_the_first_mean(text, margin, allowed):
    assert Margin.parse(text) == margin
    assert margin.absolute(0.4) == margin.absolute(-0.4) == pytest.approx(allowed)
    assert str(Margin.parse(str(margin))) == str(margin)


@pytest.mark.parametrize("text", ["", "small", "-0.1", "nan", "inf", "5%5", "%"])
def test_what_is_no_margin_is_refused(text):
    with pytest.raises(ValueError):
        Margin.parse(text)


def test_equivalent_are_those_whose_interval_of_90_percent_lies_within_the_margin():
    a = np.random.default_rng(0).random(400)
    b = a + np.random.default_rng(1).normal(0, 0.1, 400)  # standard error 0.005
    wide, narrow = (compared({"m": a}, {"m": b}, margin=Margin(size))["m"] for size in (0.03, 0.002))
    assert (wide.equivalent, narrow.equivalent) == (True, False)
    assert wide.interval[0] < wide.interval_90[0] < wide.difference < wide.interval_90[1] < wide.interval[1]
    assert max(map(abs, wide.interval_90)) < 0.03


def test_two_one_sided_tests_of_scipy_say_the_same():
    d = np.random.default_rng(3).normal(0.01, 0.1, size=300)
    result = compared({"m": np.zeros(300)}, {"m": d}, margin=Margin(0.02))["m"]
    for margin in (0.01, 0.015, 0.018, 0.02, 0.022, 0.025, 0.03):
        above = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
        below = stats.ttest_1samp(d, margin, alternative="less").pvalue
        within = -margin < result.interval_90[0] and result.interval_90[1] < margin
        assert within == (max(above, below) < 0.05)


def test_without_a_margin_equivalence_is_not_judged():
    result = compared({"m": np.zeros(5)}, {"m": np.ones(5)})["m"]
    assert (result.margin, result.equivalent) == (None, None)


# ---- a family


def test_one_family_is_corrected_over_all_pairs_and_metrics():
    rng = np.random.default_rng(0)
    a = {name: rng.random(50) for name in ("m", "n")}
    pairs = [
        compared(a, {name: of + rng.normal(shift, 0.2, 50) for name, of in a.items()}) for shift in (0.02, 0.05, 0.1)
    ]
    for pair in pairs:
        assert [d.p_holm for d in pair.values()] == pytest.approx(holm(np.array([d.p for d in pair.values()])))
        assert as_one_family([pair]) == [pair]
    together = as_one_family(pairs)
    expected = holm(np.array([d.p for pair in pairs for d in pair.values()]))
    assert [d.p_holm for pair in together for d in pair.values()] == pytest.approx(expected)
    assert [d.p for pair in together for d in pair.values()] == [d.p for pair in pairs for d in pair.values()]


def test_a_ratio_that_is_not_known_at_all_has_an_endless_interval():
    """Seeds of which one is almost 0: the log of the ratio varies by hundreds."""
    a, b = np.full((2, 20), 0.5), np.array([[1.0] * 20, [1e-9] * 20])
    result = over_seeds(a, b, margin=Margin(0.05, True))
    assert result.margin_interval[1] == np.inf or result.margin_interval[1] > 1e30
    assert result.equivalent is False


@pytest.mark.parametrize("text", ["0.02", "15%"])
@pytest.mark.parametrize("shift", [-0.06, -0.02, 0.0, 0.02, 0.06])
def test_one_sided_p_values_invert_the_intervals_that_a_margin_is_compared_with(text, shift):
    rng = np.random.default_rng(int(100 * shift) + 7)
    a, noise = rng.uniform(0.1, 0.3, 60), rng.normal(0, 0.03, (2, 60))
    runs_a, runs_b = ([{"x": values + noise_of_seed} for noise_of_seed in noise] for values in (a, a + shift))
    margin = Margin.parse(text)
    result = paired_differences(runs_a, runs_b, np.arange(60), np.random.default_rng(0), margin)["x"]
    at_most_minus, at_most_plus = result.p_above
    for interval, alpha in ((result.margin_interval, 0.025), (result.margin_interval_90, 0.05)):
        assert (interval[0] > result.margin) == (at_most_plus < alpha)
        assert (interval[0] > -result.margin) == (at_most_minus < alpha)
        assert (interval[1] < result.margin) == (1 - at_most_plus < alpha)
        assert (interval[1] < -result.margin) == (1 - at_most_minus < alpha)
