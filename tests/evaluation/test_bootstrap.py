import numpy as np
import pytest
from scipy import stats

from llm4rec_cli.evaluation import bootstrap
from llm4rec_cli.evaluation.bootstrap import bootstrap_intervals, bootstrap_of_sums


def test_interval_agrees_with_scipy():
    values = np.random.default_rng(0).exponential(size=300)
    ours = bootstrap_intervals({"m": values}, np.random.default_rng(1), resamples=4000)["m"]
    scipy = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=2).confidence_interval
    assert ours == pytest.approx(tuple(scipy), abs=0.01)  # a standard error is 0.058


def test_metrics_share_their_resamples():
    hit = (np.arange(50) % 3 == 0).astype(float)
    intervals = bootstrap_intervals({"hit": hit, "miss": 1 - hit}, np.random.default_rng(0))
    low, high = intervals["hit"]
    assert intervals["miss"] == pytest.approx((1 - high, 1 - low))


def test_a_constant_has_no_spread():
    assert bootstrap_intervals({"m": np.full(20, 0.25)}, np.random.default_rng(0))["m"] == (0.25, 0.25)


def test_blocks_do_not_change_the_interval(monkeypatch):
    values = {"m": np.random.default_rng(0).random(40)}
    whole = bootstrap_intervals(values, np.random.default_rng(1), resamples=101)
    monkeypatch.setattr(bootstrap, "WEIGHTS_AT_ONCE", 400)  # ten resamples at once
    assert bootstrap_intervals(values, np.random.default_rng(1), resamples=101)["m"] == pytest.approx(whole["m"])


@np.errstate(invalid="ignore")
def ratio(sums):
    return {"ratio": sums["above"] / sums["below"], "mean": sums["above"] / sums["n"]}


def columns(above, below):
    return {"n": np.ones(len(above)), "above": np.asarray(above, float), "below": np.asarray(below, float)}


def test_of_one_example_a_user_a_mean_of_sums_has_the_interval_of_a_mean():
    values = np.random.default_rng(0).random(40)
    intervals = bootstrap_of_sums(columns(values, values + 1), ratio, np.arange(40), np.random.default_rng(1))
    assert intervals["mean"] == pytest.approx(bootstrap_intervals({"m": values}, np.random.default_rng(1))["m"])


def test_a_ratio_of_sums_has_the_interval_of_resampled_ratios():
    rng = np.random.default_rng(0)
    above, below = rng.random(60), 1 + rng.random(60)
    low, high = bootstrap_of_sums(columns(above, below), ratio, np.arange(60), rng, resamples=4000)["ratio"]
    drawn = rng.integers(60, size=(4000, 60))
    assert (low, high) == pytest.approx(
        np.quantile(above[drawn].sum(1) / below[drawn].sum(1), [0.025, 0.975]), abs=0.005
    )


def test_the_examples_of_a_user_are_drawn_together():
    values = np.repeat(np.random.default_rng(0).random(30), 20)
    user = np.repeat(np.arange(30), 20)
    apart = bootstrap_of_sums(columns(values, values), ratio, np.arange(600), np.random.default_rng(1))["mean"]
    together = bootstrap_of_sums(columns(values, values), ratio, user, np.random.default_rng(1))["mean"]
    assert np.diff(together) > 3 * np.diff(apart)  # by the root of 20
    intervals = bootstrap_intervals({"mean": values}, np.random.default_rng(1), user=user)
    assert intervals["mean"] == pytest.approx(together)


def test_a_resample_without_a_value_leaves_the_interval_to_the_others():
    intervals = bootstrap_of_sums(columns([1, 0], [1, 0]), ratio, np.arange(2), np.random.default_rng(0))
    assert intervals["ratio"] == (1, 1)
