"""The like task: its examples, its training rows, its metrics and predictions."""

from dataclasses import replace

import numpy as np
import pytest

from llm4rec_cli.capabilities import Likes
from llm4rec_cli.config.schema import Config, DatasetConfig, SplitName, TaskConfig, TrainerConfig
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import split_dataset
from llm4rec_cli.errors import DataError, RunError
from llm4rec_cli.evaluation.metrics import headline_metrics
from llm4rec_cli.tasks import base
from llm4rec_zoo.likes import task as like

# Two users; the test period begins at time 4, the validation period at time 3.
SEQUENCES = [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1]]
TIMES = [0.0, 1, 3, 4, 5, 6, 0, 3, 4, 5, 6]
RATINGS = [5.0, 1, 4, 2, 5, 4, 3, 5, 1, 4, 2]
MANIFEST = {"name": "tiny", "fingerprint": "tiny", "split": {"rule": "temporal", "seed": 0, "cuts": [0.3, 0.5]}}
SPLIT = split_dataset(
    replace(
        tiny_dataset(SEQUENCES, ["a b", "b", "c", "d", "e", "f"], rating=RATINGS, timestamp=TIMES), manifest=MANIFEST
    )
)


class TableLiker:
    """Scores from a (user, item) table; probabilities if they are asked for."""

    def __init__(self, table, has_probabilities=False):
        self.table, self.has_probabilities = np.asarray(table, dtype=float), has_probabilities

    def like(self, examples):
        score = self.table[examples.user, examples.target]
        return Likes(score, 1 / (1 + np.exp(-score)) if self.has_probabilities else None)


PERFECT = TableLiker([[0, 0, 1, 0, 1, 1], [0, 0, 1, 0, 1, 0]], has_probabilities=True)


def config(batch_size=2, seed=0, liked_above=3.0, **task):
    settings = {"selection": "auc", "bootstrap": 50} | task
    return Config(
        dataset=DatasetConfig(name="tiny", liked_above=liked_above),
        task=TaskConfig("like", "like", **settings),
        trainer=TrainerConfig(eval_batch_size=batch_size),
        seed=seed,
    )


def load(split_name=SplitName.test, split=SPLIT, **settings):
    return like.examples(split, split_name, config(**settings), None)


def test_every_interaction_of_the_period_is_asked_about():
    assert load().target.tolist() == [3, 4, 5, 3, 2, 1]
    assert load().history_length.tolist() == [3, 4, 5, 2, 3, 4]
    assert load(history=2).history_length.tolist() == [2] * 6


def test_max_examples_limits_the_examples():
    assert len(load(max_examples=5)) == 5


def test_examples_of_one_class_are_refused():
    with pytest.raises(DataError, match="tiny has 2 likes among 2 valid examples"):
        load(SplitName.valid)
    with pytest.raises(DataError, match="tiny has 0 likes among 6 test examples"):
        load(liked_above=5)


def test_a_model_learns_from_all_training_rows_or_a_few():
    rows = like.training_rows(SPLIT, config())
    assert rows.examples.target.tolist() == [0, 1, 5]
    assert rows.label.tolist() == [True, False, False]
    assert len(like.training_rows(SPLIT, config(shots=2))) == 2


def test_metrics_by_hand():
    result = like.evaluate(TableLiker([[0, 0, 0, 2, 3, 1], [0, 0, 0, 5, 4, 9]]), SPLIT, load(), config())
    # Scores of likes 3, 1 and 0, of dislikes 2 (the same user), 5 and 0.
    assert result.metrics["auc"] == pytest.approx((2 + 1 + 0.5) / 9)
    assert result.metrics["auc_within_users"] == pytest.approx((1 + 0 + 0 + 0.5) / 4)
    assert result.metrics["uauc"] == pytest.approx((1 / 2 + 0.5 / 2) / 2)
    assert result.metrics["users_with_both"] == 2
    assert "log_loss" not in result.metrics


def test_a_perfect_model():
    result = like.evaluate(PERFECT, SPLIT, load(), config())
    assert [result.metrics[name] for name in ("auc", "auc_within_users", "uauc")] == [1, 1, 1]
    assert result.intervals["auc"] == (1, 1)
    assert result.metrics["log_loss"] == pytest.approx((3 * np.log(2) + 3 * np.log1p(np.exp(-1))) / 6)
    assert like.validation_score(PERFECT, SPLIT, load(), config()) == 1
    assert result.warnings == ["2 of 2 users have both a like and a dislike: auc_within_users and uauc are about these"]


def test_predictions_hold_labels_scores_and_values_per_example():
    rows = like.evaluate(PERFECT, SPLIT, load(), config()).predictions
    assert rows["liked"].tolist() == [False, True, True, False, True, False]
    assert rows["history_length"].tolist() == [3, 4, 5, 2, 3, 4]
    assert rows["probability"].notna().all()
    for name in ("auc", "auc_within_users", "uauc", "log_loss"):
        assert rows[name].mean() == pytest.approx(like.evaluate(PERFECT, SPLIT, load(), config()).metrics[name])
    assert like.per_example(PERFECT, SPLIT, load(), config()).keys() == {"auc", "auc_within_users", "uauc", "log_loss"}


def test_the_breakdown_tells_groups_apart():
    breakdown = like.evaluate(PERFECT, SPLIT, load(), config()).breakdown
    assert breakdown["history"]["some"]["n"] == 6
    assert sum(group["n"] for group in breakdown["target_train_count"].values()) == 6


def test_a_score_that_is_not_a_number_is_refused():
    with pytest.raises(RunError, match="scores are not numbers"):
        like.evaluate(TableLiker(np.full((2, 6), np.nan)), SPLIT, load(), config())


def test_ratings_are_needed():
    assert base.metric_names(config().task) == {"auc"}
    assert headline_metrics("like") == ["auc_within_users", "auc"]
    problems = base.problems_with_dataset(config().task, tiny_dataset(SEQUENCES))
    assert "needs interactions with 'rating'" in next(problems).problem


def test_a_few_validation_examples_may_all_have_one_label():
    with pytest.raises(DataError, match="the 2 validation examples have one label"):
        like.validation_score(PERFECT, SPLIT, load()[1:3], config())
