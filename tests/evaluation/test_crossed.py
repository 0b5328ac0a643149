"""Intervals over users × seeds: hand-computed values, invariances, and coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from llm4rec_cli.evaluation import crossed
from llm4rec_cli.evaluation.text import bleu_counts, text_columns, text_metrics, text_values

RNG = np.random.default_rng


def draw(rng, n_users, n_seeds, user=1.0, seed=0.0, rest=0.0):
    return (
        user * rng.standard_normal((n_users, 1))
        + seed * rng.standard_normal((1, n_seeds))
        + rest * rng.standard_normal((n_users, n_seeds))
    )


def test_two_users_and_two_seeds_by_hand():
    """User means 1 and 3, seed means 1 and 3, no rest: V = 2/2 + 2/2 = 2; df = (1 + 1) / (1/1 + 1/1) = 1."""
    estimate = crossed.mean(np.array([[0.0, 2.0], [2.0, 4.0]]))
    assert (estimate.value, estimate.error**2, estimate.df) == pytest.approx((2.0, 2.0, 1.0))


def test_the_rest_is_counted_once():
    """Residuals ±1: MS_rest = 4/1; user and seed means are equal, so the floor leaves 0 variance: all of it is rest."""
    estimate = crossed.mean(np.array([[1.0, -1.0], [-1.0, 1.0]]))
    assert (estimate.value, estimate.error) == (0.0, 0.0)


def test_one_seed_is_the_t_interval_over_users():
    values = RNG(0).normal(size=(50, 1))
    estimate = crossed.mean(values)
    expected = stats.t.interval(0.95, 49, values.mean(), stats.sem(values[:, 0]))
    assert estimate.interval() == pytest.approx(expected)


def test_users_are_paired():
    """A model that is better by the same for every user differs without error over users."""
    a = draw(RNG(0), 40, 1)
    estimate = crossed.difference(a + 0.25, a)
    assert (estimate.value, estimate.error, estimate.p_value()) == (pytest.approx(0.25), 0.0, 0.0)


def test_seeds_are_not_paired():
    """The order in which seeds are given changes nothing."""
    rng = RNG(1)
    a, b = draw(rng, 30, 3, seed=1, rest=1), draw(rng, 30, 3, seed=1, rest=1)
    estimate, reverse = crossed.difference(b, a), crossed.difference(b[:, ::-1], a)
    assert (estimate.value, estimate.error, estimate.df) == pytest.approx((reverse.value, reverse.error, reverse.df))


def test_a_floor_that_is_not_trained_adds_no_variance_over_seeds():
    rng = RNG(2)
    b, floor = draw(rng, 30, 5, seed=1, rest=1), draw(rng, 30, 1)
    estimate = crossed.difference(b, floor)
    repeated = crossed.difference(b, np.repeat(floor, 3, axis=1))
    assert estimate.error == pytest.approx(repeated.error)


def test_the_p_value_inverts_the_interval():
    estimate = crossed.mean(draw(RNG(4), 60, 3, seed=0.3, rest=0.5))
    assert estimate.p_value(estimate.interval(0.95)[0]) == pytest.approx(0.05)


def test_log_scale_turns_differences_into_ratios():
    rng = RNG(5)
    a = rng.uniform(0.5, 1.5, size=(200, 3))
    estimate = crossed.difference(crossed.on_log_scale(1.1 * a), crossed.on_log_scale(a))
    assert np.exp(estimate.value) == pytest.approx(1.1)


def test_contributions_have_the_metric_as_mean_and_its_variance():
    """RMSE by its jackknife: close to the delete-one jackknife's standard error."""
    rng = RNG(6)
    squares = rng.chisquare(1, size=(400, 1))
    columns = np.hstack([squares, np.ones_like(squares)])
    total, n = columns.sum(axis=0)
    rmse = np.sqrt(total / n)
    gradient = np.array([0.5 / (rmse * n), -0.5 * rmse / n])
    estimate = crossed.contributions(columns, gradient, rmse)
    deleted = np.sqrt((total - squares[:, 0]) / (n - 1))
    jackknife = np.sqrt((n - 1) / n * np.square(deleted - deleted.mean()).sum())
    assert estimate.mean() == pytest.approx(rmse)
    assert estimate.std(ddof=1) / np.sqrt(n) == pytest.approx(jackknife, rel=0.02)


@pytest.mark.parametrize("n_seeds", [3, 5, 10])
@pytest.mark.parametrize("ratio", [0.1, 1.0, 10.0])
def test_intervals_cover_the_truth(n_seeds, ratio):
    """Coverage of 93 to 99 % at 200 users, where the variance over seeds is `ratio` times that over users."""
    rng, n_users, trials = RNG(7), 200, 2000
    seed = np.sqrt(ratio * n_seeds / n_users)
    covered = 0
    for _ in range(trials):
        low, high = crossed.mean(draw(rng, n_users, n_seeds, 1.0, seed, 0.5)).interval()
        covered += low <= 0 <= high
    assert 0.93 <= covered / trials <= 0.99


def test_metric_intervals_of_a_mean_are_its_t_interval():
    rng = RNG(8)
    seeds = [{"value": rng.normal(size=60), "n": np.ones(60)} for _ in range(3)]
    intervals = crossed.metric_intervals(seeds, lambda sums: {"mean": sums["value"] / sums["n"]}, np.arange(60))
    expected = crossed.mean(np.stack([of_seed["value"] for of_seed in seeds], axis=1)).interval()
    assert intervals["mean"] == pytest.approx(expected, rel=1e-4)


def test_a_metric_that_one_seed_lacks_has_no_interval():
    def metrics(sums):
        return {"mean": sums["n"] / sums["n"]} | ({"other": sums["x"]} if "x" in sums else {})

    seeds = [{"n": np.ones(5), "x": np.arange(5.0)}, {"n": np.ones(5)}]
    assert crossed.metric_intervals(seeds, metrics, np.arange(5)).keys() == {"mean"}


def test_a_metric_of_the_whole_run_varies_over_seeds_alone():
    values = RNG(9).normal(size=(1, 6))
    estimate = crossed.mean(values)
    assert estimate.interval() == pytest.approx(stats.t.interval(0.95, 5, values.mean(), stats.sem(values[0])))
    assert crossed.mean(values[:, :1]).error == np.inf, "one number has no error that could be estimated"


def test_texts_without_any_matching_ngram_have_intervals_too():
    texts, references = ["red soap", "a blue brush", "oil", "hair"], ["good", "the nail", "bad", "fine oil"]
    seeds = [text_columns(text_values(texts, references), bleu_counts(texts, references)) for _ in range(2)]
    assert sum(seeds[0]["matches2"]) == 0
    intervals = crossed.metric_intervals(seeds, text_metrics, np.arange(4))
    assert intervals["rouge1"] == (0, 0)
    assert np.isfinite([bound for name in ("bleu2", "bleu4") for bound in intervals[name]]).all()
