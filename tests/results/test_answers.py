"""Intervals over users and seeds from stored predictions."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from llm4rec_cli.evaluation.ranking import expected_ndcg
from llm4rec_cli.results.answers import interval_over_seeds
from tests.results.finished_runs import metrics_json, rankings, write_run

RNG = np.random.default_rng(0)
BETTER = RNG.integers(0, 30, size=400)


@pytest.fixture
def runs(tmp_path):
    """runs(*predictions) writes runs with these predictions, one per seed, and returns those of each."""

    def make(*predictions):
        return [[write_run(tmp_path / f"seed{i}", metrics_json(), answers)] for i, answers in enumerate(predictions)]

    return make


def test_if_seeds_agree_the_interval_over_users_equals_scipys(runs):
    interval = interval_over_seeds(runs(rankings(BETTER), rankings(BETTER)), ["ndcg@10"])["ndcg@10"]
    values = expected_ndcg(BETTER, np.ones_like(BETTER), 10)
    scipy = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    assert interval == pytest.approx(tuple(scipy), abs=0.005)  # a standard error is 0.014


def test_if_users_agree_the_interval_is_over_seeds(runs):
    first, last = rankings(np.zeros(50, dtype=int)), rankings(np.full(50, 50))
    interval = interval_over_seeds(runs(first, last), ["hr@10"])["hr@10"]
    assert interval == pytest.approx(stats.t.interval(0.95, 1, 0.5, 0.5)), "two trainings tell hardly anything"


def test_differing_seeds_give_a_wider_interval_than_their_mean_per_user(runs):
    seeds = [rankings(np.clip(BETTER + shift, 0, 99)) for shift in (0, 5, 40)]
    low, high = interval_over_seeds(runs(*seeds), ["ndcg@10"])["ndcg@10"]
    values = np.mean([expected_ndcg(s["n_better"].to_numpy(), s["n_tied"].to_numpy(), 10) for s in seeds], axis=0)
    over_users = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    assert high - low > 1.5 * (over_users.high - over_users.low)
    assert low < values.mean() < high


def test_the_order_of_rows_does_not_matter(runs):
    seeds = rankings(BETTER), rankings(BETTER[::-1])
    shuffled = seeds[0], seeds[1].sample(frac=1, random_state=0)
    expected = interval_over_seeds(runs(*seeds), ["ndcg@10"])
    assert interval_over_seeds(runs(*shuffled), ["ndcg@10"]) == expected


def test_whether_texts_fit_their_user_is_read_where_it_is_stored_and_where_there_are_others(runs):
    fits = np.tile([1.0, 0.5, np.nan], 20)
    answers = pd.DataFrame({"user_id": range(60), "target": range(60), "reference": "a good small red ball"})
    answers = answers.assign(prediction="a good small red ball", fits_user=fits, fits_item=np.nan)
    intervals = interval_over_seeds(runs(answers, answers), ["rouge1", "fits_user", "fits_item"])
    assert intervals.keys() == {"rouge1", "fits_user"}
    scipy = stats.t.interval(0.95, 59, 0.75, 0.25 / np.sqrt(40))
    assert intervals["fits_user"] == pytest.approx(scipy, abs=0.002)


def test_impressions_store_their_metrics_and_a_user_may_have_several(runs):
    auc = np.repeat([0.0, 1.0], 50)
    answers = pd.DataFrame({"impression_id": range(100), "user_id": ["a"] * 50 + ["b"] * 50, "auc": auc})
    found = interval_over_seeds(runs(answers, answers), ["auc"])
    assert found["auc"] == pytest.approx(stats.t.interval(0.95, 1, 0.5, 0.5)), "two users, not a hundred impressions"


@pytest.mark.parametrize(
    "other",
    [None, rankings([1, 2], users=[7, 8]), pd.DataFrame({"user_id": ["u0", "u1"], "target": ["i0", "i1"]})],
)
def test_without_predictions_on_the_same_examples_there_is_no_interval(runs, other):
    assert interval_over_seeds(runs(rankings([1, 2]), other), ["ndcg@10"]) == {}


def test_a_metric_that_predictions_do_not_determine_has_no_interval(runs):
    intervals = interval_over_seeds(runs(rankings(BETTER), rankings(BETTER)), ["ndcg@10", "valid/hr@10"])
    assert intervals.keys() == {"ndcg@10"}
