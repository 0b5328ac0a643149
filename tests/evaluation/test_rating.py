"""Errors of ratings worked out by hand, and metrics of readable answers."""

import numpy as np
import pytest

from llm4rec_cli.evaluation.bootstrap import bootstrap_of_sums
from llm4rec_cli.evaluation.metrics import Kind, direction, selectable
from llm4rec_cli.evaluation.rating import (
    commonest,
    majority_metrics,
    rating_columns,
    rating_metrics,
    rating_values,
)

RATING = np.array([5.0, 4.0, 1.0, 3.0])
PREDICTED = np.array([4.0, 4.0, 3.0, 3.5])


def metrics(rating, predicted, *parsed):
    return rating_metrics({name: column.sum() for name, column in rating_columns(rating, predicted, *parsed).items()})


def test_errors_by_hand():
    values = metrics(RATING, PREDICTED)  # errors -1, 0, 2, 0.5
    assert values["mse"] == pytest.approx((1 + 0 + 4 + 0.25) / 4)
    assert values["rmse"] == pytest.approx(np.sqrt(5.25 / 4))
    assert values["mae"] == pytest.approx(3.5 / 4)


def test_a_prediction_of_three_and_a_half_is_a_like():
    assert rating_values(RATING, PREDICTED)["like_accuracy"].tolist() == [1, 1, 1, 0]
    assert rating_values(RATING, np.full(4, 3.49))["like_accuracy"].tolist() == [0, 0, 1, 1]


def test_each_model_has_the_metrics_that_one_may_select_by():
    assert set(metrics(RATING, PREDICTED)) == selectable(Kind.rating, [])


def test_readable_answers_are_scored():
    values = metrics(RATING, PREDICTED, np.array([5.0, np.nan, 3.0, np.nan]))
    assert values["said/rmse"] == pytest.approx(np.sqrt(4 / 2))
    assert values["said/mae"] == pytest.approx(2 / 2)
    assert values["said/coverage"] == 0.5
    assert values["rmse"] == metrics(RATING, PREDICTED)["rmse"]


def test_an_interval_over_resamples_without_a_readable_answer_is_that_of_the_others():
    parsed = np.array([4.0, np.nan, np.nan, np.nan])
    columns = rating_columns(RATING, PREDICTED, parsed)
    intervals = bootstrap_of_sums(columns, rating_metrics, np.arange(4), np.random.default_rng(0))
    assert intervals["said/mae"] == (1, 1)
    low, high = intervals["said/coverage"]
    assert 0 <= low < 0.25 < high


def test_the_majority_answer_is_trainings_commonest():
    values = majority_metrics(RATING, in_training=np.array([5.0, 5.0, 3.0, 2.0, 1.0]))  # most stars are no like
    assert values == {
        "n": 4,
        "rmse": pytest.approx(np.sqrt((0 + 1 + 16 + 4) / 4)),
        "mae": pytest.approx((0 + 1 + 4 + 2) / 4),
        "like_accuracy": 0.5,
    }


def test_of_equally_common_ratings_the_lowest_is_taken():
    assert commonest(np.array([4.0, 2.0, 4.0, 2.0, 5.0])) == 2


def test_times_its_direction_every_metric_is_better_when_higher():
    assert [direction(name) for name in ("rmse", "mae", "mse", "said/rmse", "said/mae", "loss")] == [-1] * 6
    assert [direction(name) for name in ("ndcg@10", "like_accuracy", "said/coverage", "rouge1")] == [1] * 4


def test_the_papers_errors_are_of_the_answers_that_its_code_keeps():
    """Of 4, 1 and two dropped answers, all to 4 stars: squares 0 and 9."""
    four, published = np.full(4, 4.0), np.array([np.nan, 4.0, 1.0, np.nan])
    values = metrics(four, four, np.array([5.0, 4.0, 1.0, np.nan]), published)
    assert values["said_paper/rmse"] == pytest.approx(np.sqrt(9 / 2))
    assert values["said_paper/mae"] == pytest.approx(3 / 2)
    assert values["said_paper/coverage"] == 0.5
    assert values["said/mae"] == pytest.approx(4 / 3)


def test_without_readable_answers_there_are_no_errors_of_them():
    none = np.full(4, np.nan)
    for prefix, answers in (("said", [none]), ("said_paper", [np.array([5.0, np.nan, 4.0, 1.0]), none])):
        values = metrics(RATING, PREDICTED, *answers)
        assert values[f"{prefix}/coverage"] == 0
        assert not {f"{prefix}/rmse", f"{prefix}/mae"} & set(values)
