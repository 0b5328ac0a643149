from typing import Any

import numpy as np
import pytest
import torch

from llm4rec_cli import processes
from llm4rec_cli.config.schema import (
    Candidates,
    Config,
    Control,
    DatasetConfig,
    EmptyHistory,
    Question,
    SplitName,
    SplitRule,
    TaskConfig,
    TrainerConfig,
)
from llm4rec_cli.data.split import split_dataset
from llm4rec_cli.errors import DataError, RunError
from llm4rec_cli.tasks import impressions
from tests.support.builders import tiny_log

# Training meets items 0 to 4 (4 in a history alone), whichever of its impressions validation takes.
TRAIN = [("train", user, 10.0 + user, [0, 1, 4], "0-1 1-0 2-0 3-0") for user in range(20)]
DEV = [
    ("dev", 0, 100.0, [0, 1], "1-0 0-1 5-0 6-0"),  # its click is met in training
    ("dev", 1, 101.0, [2], "5-1 0-1"),  # nothing but clicks
    ("dev", 2, 102.0, [], "6-1 2-1 7-0"),  # no history; one click of two is met
    ("dev", 0, 103.0, [0, 1], "7-1 3-0"),  # its click is not
    ("dev", 3, 104.0, [3], "1-0 2-0 3-0"),  # no click
]
SPLIT = split_dataset(tiny_log([*TRAIN, *DEV], [f"item {i}" for i in range(8)]))


class Scorer:
    """Scores of (user, item), whoever asks; it keeps what it was asked."""

    def __init__(self, table=None):
        self.table = torch.as_tensor(np.random.default_rng(0).normal(size=(20, 8)) if table is None else table)
        self.asked: list[Any] = []

    def score_shown(self, asked):
        self.asked.append(asked)
        items, offsets = asked.shown()
        user = np.repeat(asked.user, np.diff(offsets))
        return self.table.float()[torch.from_numpy(user).long(), torch.from_numpy(items).long()]


def config(empty_history=EmptyHistory.keep, control=Control.none, split=SplitName.test, batch_size=4, **task):
    settings: dict[str, Any] = {"cutoffs": [1, 5], "selection": "auc", "bootstrap": 50}
    return Config(
        dataset=DatasetConfig(name="tiny", split=SplitRule.mind, control=control, empty_history=empty_history),
        task=TaskConfig("direct", Question.rank, Candidates.impression, **settings | task),
        trainer=TrainerConfig(eval_batch_size=batch_size),
        split=split,
    )


def asked_of(tmp_path, settings, part=SplitName.test):
    return impressions.examples(SPLIT, part, settings, tmp_path)


def test_impressions_that_cannot_be_ranked_are_left_out_and_told(tmp_path):
    asked = asked_of(tmp_path, config())
    assert asked.id.tolist() == ["20", "22", "23"]
    (told,) = impressions.evaluate(Scorer(), SPLIT, asked, config()).warnings
    assert told == "2 of 5 test impressions cannot be ranked, with no click or with nothing but clicks"


def test_impressions_without_a_history_are_skipped_if_asked_to_and_told(tmp_path):
    settings = config(EmptyHistory.skip)
    asked = asked_of(tmp_path, settings)
    assert asked.id.tolist() == ["20", "23"]
    told = impressions.evaluate(Scorer(), SPLIT, asked, settings).warnings
    assert told[1] == "1 of 5 test impressions are skipped, with an empty history"


def test_where_all_are_told_of_nothing_is_warned(tmp_path):
    settings = config(split=SplitName.valid)
    asked = asked_of(tmp_path, settings, SplitName.valid)
    assert len(asked) == 1  # 5 % of 20
    assert impressions.evaluate(Scorer(), SPLIT, asked, settings).warnings == []


def test_a_part_with_nothing_to_rank_is_refused(tmp_path):
    split = split_dataset(tiny_log([*TRAIN, DEV[1], DEV[4]], ["item"] * 8))
    with pytest.raises(DataError, match="no test impression to rank"):
        impressions.examples(split, SplitName.test, config(), tmp_path)


def test_a_subset_is_of_impressions(tmp_path):
    some = asked_of(tmp_path, config(max_examples=2))
    assert len(some) == 2
    assert set(some.id) <= {"20", "22", "23"}


def test_metrics_by_hand(tmp_path):
    scores = np.tile([8.0, 7, 6, 5, 4, 3, 2, 1], (20, 1))  # item 0 best
    found = impressions.evaluate(Scorer(scores), SPLIT, asked_of(tmp_path, config()), config())
    # Clicks at rank 1 of 4; at ranks 1 and 2 of 3; at rank 2 of 2.
    assert found.metrics["auc"] == pytest.approx((1 + 1 + 0) / 3)
    assert found.metrics["mrr"] == pytest.approx((1 + 3 / 4 + 1 / 2) / 3)
    assert found.metrics["ndcg@1"] == pytest.approx((1 + 1 + 0) / 3)
    assert found.metrics["ndcg@5"] == pytest.approx((1 + 1 + 1 / np.log2(3)) / 3)
    assert found.metrics["unseen_candidates"] == pytest.approx((2 + 2 + 1) / (4 + 3 + 2))
    assert found.intervals.keys() == {"auc", "mrr", "ndcg@1", "ndcg@5"}
    assert all(low <= found.metrics[name] <= high for name, (low, high) in found.intervals.items())


def test_impressions_stand_apart_by_what_training_met_and_by_history(tmp_path):
    scores = np.tile([8.0, 7, 6, 5, 4, 3, 2, 1], (20, 1))
    breakdown = impressions.evaluate(Scorer(scores), SPLIT, asked_of(tmp_path, config()), config()).breakdown
    seen = {group: (of["n"], of["auc"]) for group, of in breakdown["clicks_seen"].items()}
    assert seen == {"all": (1, 1), "some": (1, 1), "none": (1, 0)}
    assert {group: of["n"] for group, of in breakdown["history"].items()} == {"some": 2, "none": 1}


def test_predictions_say_of_each_impression_what_was_shown_clicked_and_scored(tmp_path):
    model, asked = Scorer(), asked_of(tmp_path, config())
    rows = impressions.evaluate(model, SPLIT, asked, config()).predictions
    assert rows["impression_id"].tolist() == ["20", "22", "23"]
    assert rows["user_id"].tolist() == ["u0", "u2", "u0"]
    assert rows[["history_length", "n_shown", "n_clicks"]].to_numpy().tolist() == [[2, 4, 1], [0, 3, 2], [2, 2, 1]]
    assert [list(items) for items in rows["items"]] == [["i1", "i0", "i5", "i6"], ["i6", "i2", "i7"], ["i7", "i3"]]
    assert [list(clicked) for clicked in rows["clicked"]] == [[0, 1, 0, 0], [1, 1, 0], [1, 0]]
    assert rows["scores"][2].tolist() == model.table[0, [7, 3]].float().tolist()
    assert rows["scores"][2].dtype == np.float32
    assert rows["unseen_candidates"].tolist() == pytest.approx([1 / 2, 2 / 3, 1 / 2])
    rows.to_parquet(tmp_path / "predictions.parquet")


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7, 100])
def test_metrics_do_not_depend_on_the_batch_size(tmp_path, batch_size):
    asked = asked_of(tmp_path, config())
    expected = impressions.evaluate(Scorer(), SPLIT, asked, config(batch_size=1000))
    found = impressions.evaluate(Scorer(), SPLIT, asked, config(batch_size=batch_size))
    assert found.metrics == pytest.approx(expected.metrics, abs=1e-9)
    assert found.predictions.equals(expected.predictions)


def test_batches_are_whole_impressions_of_about_as_many_items():
    asked, model = SPLIT.impressions(0), Scorer()  # four items each
    impressions.score(model, asked, 8)
    assert [len(batch) for batch in model.asked] == [2] * 9 + [1]


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_processes_score_a_share_each_and_know_all(tmp_path, monkeypatch, n):
    asked, shares = asked_of(tmp_path, config()), []
    monkeypatch.setattr(processes, "gathered", lambda given: shares.append(given) or [np.zeros((1, 0), np.float32)])
    for rank in range(n):
        monkeypatch.setenv("WORLD_SIZE", str(n))
        monkeypatch.setenv("RANK", str(rank))
        impressions.score(Scorer(), asked, 4)
    together = np.concatenate([batch for given in shares for batch in given])
    monkeypatch.undo()
    assert together.tolist() == impressions.score(Scorer(), asked, 4).tolist()


def test_scores_that_are_not_numbers_end_the_run(tmp_path):
    table = np.zeros((20, 8))
    table[2, 7] = np.nan
    with pytest.raises(RunError, match="not numbers"):
        impressions.evaluate(Scorer(table), SPLIT, asked_of(tmp_path, config()), config())


def test_validation_scores_the_selection_metric(tmp_path):
    asked, model = asked_of(tmp_path, config()), Scorer()
    whole = impressions.evaluate(model, SPLIT, asked, config()).metrics
    for metric in ("auc", "mrr", "ndcg@5"):
        settings = config(selection=metric)
        assert impressions.validation_score(model, SPLIT, asked, settings) == pytest.approx(whole[metric])


def test_users_are_swapped_with_one_anothers_histories_and_nothing_else(tmp_path):
    plain, swapped = (asked_of(tmp_path, config(control=c)) for c in (Control.none, Control.swap_users))
    assert swapped.histories()[0].tolist() != plain.histories()[0].tolist()
    assert swapped.shown()[0].tolist() == plain.shown()[0].tolist()
    assert swapped.clicked().tolist() == plain.clicked().tolist()


def test_the_protocol_is_the_impression():
    assert impressions.protocol(config().task) == "impression"
