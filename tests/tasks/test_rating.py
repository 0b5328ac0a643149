"""The rating task: its examples, metrics and predictions."""

import numpy as np
import pytest

from llm4rec_cli.capabilities import Ratings
from llm4rec_cli.config.schema import Config, DatasetConfig, Question, SplitName, TaskConfig, TrainerConfig
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import hold_out, leave_one_out
from llm4rec_cli.errors import DataError, RunError
from llm4rec_cli.tasks import rating

SEQUENCES = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 2], [2, 0, 1]]
RATINGS = [5, 4, 3, 5, 5, 2, 1, 4, 5, 1, np.nan, 3, 2, 1]  # test: 5, 4, none, 1; validation: 3, 1, 1, 2
SPLIT = leave_one_out(tiny_dataset(SEQUENCES, rating=RATINGS))


class TableRater:
    """Ratings from a (user, item) table; those above `readable` cannot be parsed."""

    def __init__(self, table, readable=None):
        self.table, self.readable = np.asarray(table, dtype=float), readable

    def rate(self, examples):
        value = self.table[examples.user, examples.target]
        return Ratings(value, None if self.readable is None else np.where(value > self.readable, np.nan, value))


FOUR = TableRater(np.full((4, 4), 4.0))


def config(batch_size=2, **task):
    settings = {"selection": "rmse", "bootstrap": 50} | task
    return Config(
        dataset=DatasetConfig(name="tiny"),
        task=TaskConfig("rating", Question.rate, **settings),
        trainer=TrainerConfig(eval_batch_size=batch_size),
    )


def load(split_name=SplitName.test, split=SPLIT, **task):
    return rating.examples(split, split_name, config(**task), None)


def test_an_interaction_without_a_rating_is_not_an_example():
    assert load().user.tolist() == [0, 1, 3]
    assert len(load(SplitName.valid)) == 4


def test_a_part_without_ratings_is_refused():
    with pytest.raises(DataError, match="no test examples with 'rating'"):
        load(split=leave_one_out(tiny_dataset([[0, 1, 2]], rating=[5, 4, np.nan])))


def test_max_examples_limits_the_examples():
    assert len(load(max_examples=2)) == 2


def test_errors_by_hand():
    result = rating.evaluate(FOUR, SPLIT, load(), config())  # predicted 4; true 5, 4, 1
    assert result.metrics["rmse"] == pytest.approx(np.sqrt((1 + 0 + 9) / 3))
    assert result.metrics["mae"] == pytest.approx(4 / 3)
    assert result.metrics["like_accuracy"] == pytest.approx(2 / 3)
    assert set(result.intervals) == set(result.metrics)
    for name, (low, high) in result.intervals.items():
        assert low <= result.metrics[name] <= high


def test_the_breakdown_is_by_true_rating():
    result = rating.evaluate(FOUR, SPLIT, load(), config()).breakdown["rating"]
    assert {star: (metrics["n"], metrics["rmse"]) for star, metrics in result.items()} == {
        "1": (1, 3),
        "4": (1, 0),
        "5": (1, 1),
    }


def test_the_majority_answer_is_that_of_the_training_part():
    # Training ratings 5 4, 5 2, 5, 3: the most frequent is 5; the test ratings are 5, 4, 1.
    result = rating.evaluate(FOUR, SPLIT, load(), config()).breakdown["majority"]["all"]
    assert result == {
        "n": 3,
        "rmse": pytest.approx(np.sqrt((0 + 1 + 16) / 3)),
        "mae": pytest.approx(5 / 3),
        "like_accuracy": pytest.approx(2 / 3),
    }


def test_predictions_hold_one_row_an_example_with_raw_ids():
    rows = rating.evaluate(FOUR, SPLIT, load(), config()).predictions
    assert rows["user_id"].tolist() == ["u0", "u1", "u3"]
    assert rows["target"].tolist() == ["i3", "i0", "i1"]
    assert rows["rating"].tolist() == [5, 4, 1]
    assert rows["prediction"].tolist() == [4, 4, 4]
    assert "said" not in rows


def test_ratings_parsed_from_text_have_metrics_of_their_own():
    table = np.zeros((4, 4))
    table[[0, 1, 3], [3, 0, 1]] = [4.5, 4, 2]  # the first cannot be parsed
    result = rating.evaluate(TableRater(table, readable=4.2), SPLIT, load(), config())
    assert result.metrics["said/coverage"] == pytest.approx(2 / 3)
    assert result.metrics["said/mae"] == pytest.approx(1 / 2)
    assert result.metrics["mae"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert result.predictions["said"].isna().tolist() == [True, False, False]


@pytest.mark.parametrize(("selection", "score"), [("rmse", -np.sqrt(9 / 4)), ("mae", -5 / 4), ("like_accuracy", 1)])
def test_the_validation_score_is_better_when_higher(selection, score):
    three = TableRater(np.full((4, 4), 3.0))  # true 3, 1, 1, 2
    result = rating.validation_score(three, SPLIT, load(SplitName.valid), config(selection=selection))
    assert result == pytest.approx(score)


def test_numbers_do_not_depend_on_the_batch_size_or_the_order_of_examples():
    rater = TableRater(np.random.default_rng(0).uniform(1, 5, (4, 4)))
    metrics = rating.evaluate(rater, SPLIT, load(), config()).metrics
    assert rating.evaluate(rater, SPLIT, load(), config(batch_size=1)).metrics == pytest.approx(metrics, abs=1e-12)
    order = np.array([2, 0, 1])
    assert rating.evaluate(rater, SPLIT, load()[order], config()).metrics == pytest.approx(metrics, abs=1e-12)


def test_ratings_that_are_not_numbers_end_the_run():
    with pytest.raises(RunError, match="not numbers"):
        rating.rate(TableRater(np.full((4, 4), np.nan)), load(), 2)


def test_predictions_show_which_targets_were_held_out():
    sequences = [np.random.default_rng(user).permutation(6).tolist() for user in range(20)]
    split = hold_out(leave_one_out(tiny_dataset(sequences, rating=[4] * 120)), 0.3, 1.0, seed=0)
    examples = load(split=split)
    rows = rating.evaluate(TableRater(np.full((20, 6), 4.0)), split, examples, config()).predictions
    assert rows["target_is_cold"].tolist() == split.cold[examples.target].tolist()
