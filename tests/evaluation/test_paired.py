"""Paired comparison: p and intervals beside those of scipy, margins, and the plain counts."""

import numpy as np
import pytest
from scipy import stats

from llm4rec_cli.evaluation.paired import Margin, as_one_family, holm, paired_differences


def compared(a, b, user=None, margin=None):
    """Of one run each, or of lists of them, one a seed."""
    a, b = ([side] if isinstance(side, dict) else side for side in (a, b))
    user = np.arange(len(next(iter(a[0].values())))) if user is None else np.array(user)
    return paired_differences(a, b, user, margin)


def over_seeds(a, b, **more):
    """The difference in a metric of (seeds, n) values."""
    return compared([{"m": of} for of in np.array(a, float)], [{"m": of} for of in np.array(b, float)], **more)["m"]


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


@pytest.mark.parametrize(
    ("seeds", "users", "by_hand"),
    [
        ((1, 1), 3, 2 / 8),  # of the signs of three users all plus and all minus
        ((3, 3), 50, 2 / 20),  # of 20 ways to divide six trainings two are as far apart
        ((2, 3), 50, 1 / 10),
        ((1, 3), 50, 2 / 2**50),  # the rule was not trained twice
    ],
)
def test_where_nothing_varies_p_is_that_of_permutations(seeds, users, by_hand):
    a, b = (np.full((n, users), value) for n, value in zip(seeds, (0.0, 1.0), strict=True))
    assert over_seeds(a, b).p == pytest.approx(by_hand)


def test_of_one_run_each_p_and_interval_are_those_of_scipys_t_test():
    rng = np.random.default_rng(0)
    d = rng.normal(0.1, 1, size=60)
    result, test = compared({"m": np.zeros(60)}, {"m": d})["m"], stats.ttest_1samp(d, 0)
    assert result.p == pytest.approx(test.pvalue)
    assert result.interval == pytest.approx(tuple(test.confidence_interval(0.95)))


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
    result = paired_differences(runs_a, runs_b, np.arange(60), margin)["x"]
    at_most_minus, at_most_plus = result.p_above
    for interval, alpha in ((result.margin_interval, 0.025), (result.margin_interval_90, 0.05)):
        assert (interval[0] > result.margin) == (at_most_plus < alpha)
        assert (interval[0] > -result.margin) == (at_most_minus < alpha)
        assert (interval[1] < result.margin) == (1 - at_most_plus < alpha)
        assert (interval[1] < -result.margin) == (1 - at_most_minus < alpha)
