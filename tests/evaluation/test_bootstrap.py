import numpy as np
import pytest
from scipy import stats

from llm4rec_cli.evaluation import bootstrap
from llm4rec_cli.evaluation.bootstrap import bootstrap_intervals


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
