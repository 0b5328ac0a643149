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
from llm4rec_cli.conformance.builders import tiny_log
from llm4rec_cli.data.split import split_dataset
from llm4rec_cli.errors import DataError, RunError
from llm4rec_cli.tasks import impressions

# Items 0 to 4 occur in training (4 only in a history), whichever impression becomes validation.
TRAIN = [("train", user, 10.0 + user, [0, 1, 4], "0-1 1-0 2-0 3-0") for user in range(20)]
DEV = [
    ("dev", 0, 100.0, [0, 1], "1-0 0-1 5-0 6-0"),  # its clicked item occurs in training
    ("dev", 1, 101.0, [2], "5-1 0-1"),  # nothing but clicks
    ("dev", 2, 102.0, [], "6-1 2-1 7-0"),  # no history; one of two clicked items does
    ("dev", 0, 103.0, [0, 1], "7-1 3-0"),  # its clicked item does not
    ("dev", 3, 104.0, [3], "1-0 2-0 3-0"),  # no click
]
SPLIT = split_dataset(tiny_log([*TRAIN, *DEV], [f"item {i}" for i in range(8)]))


class Scorer:
    """Scores from a (user, item) table; records the batches."""

    def __init__(self, table=None):
        self.table = torch.as_tensor(np.random.default_rng(0).normal(size=(20, 8)) if table is None else table)
        self.batches: list[Any] = []

    def score_shown(self, impressions):
        self.batches.append(impressions)
        items, offsets = impressions.shown()
        user = np.repeat(impressions.user, np.diff(offsets))
        return self.table.float()[torch.from_numpy(user).long(), torch.from_numpy(items).long()]


def config(empty_history=EmptyHistory.keep, control=Control.none, split=SplitName.test, batch_size=4, **task):
    settings: dict[str, Any] = {"cutoffs": [1, 5], "selection": "auc", "bootstrap": 50}
    return Config(
        dataset=DatasetConfig(name="tiny", split=SplitRule.mind, control=control, empty_history=empty_history),
        task=TaskConfig("direct", Question.rank, Candidates.impression, **settings | task),
        trainer=TrainerConfig(eval_batch_size=batch_size),
        split=split,
    )


def load(tmp_path, settings, split_name=SplitName.test):
    return impressions.examples(SPLIT, split_name, settings, tmp_path)


def test_impressions_that_cannot_be_ranked_are_excluded_with_a_warning(tmp_path):
    examples = load(tmp_path, config())
    assert examples.id.tolist() == ["20", "22", "23"]
    (warning,) = impressions.evaluate(Scorer(), SPLIT, examples, config()).warnings
    assert warning == "2 of 5 test impressions cannot be ranked, with no click or with nothing but clicks"


def test_impressions_without_a_history_are_skipped_with_a_warning_if_configured(tmp_path):
    settings = config(EmptyHistory.skip)
    examples = load(tmp_path, settings)
    assert examples.id.tolist() == ["20", "23"]
    warnings = impressions.evaluate(Scorer(), SPLIT, examples, settings).warnings
    assert warnings[1] == "1 of 5 test impressions are skipped, with an empty history"


def test_without_excluded_impressions_there_is_no_warning(tmp_path):
    settings = config(split=SplitName.valid)
    examples = load(tmp_path, settings, SplitName.valid)
    assert len(examples) == 1  # 5 % of 20
    assert impressions.evaluate(Scorer(), SPLIT, examples, settings).warnings == []


def test_a_part_with_nothing_to_rank_is_refused(tmp_path):
    split = split_dataset(tiny_log([*TRAIN, DEV[1], DEV[4]], ["item"] * 8))
    with pytest.raises(DataError, match="no test impression to rank"):
        impressions.examples(split, SplitName.test, config(), tmp_path)


def test_a_subset_is_of_impressions(tmp_path):
    some = load(tmp_path, config(max_examples=2))
    assert len(some) == 2
    assert set(some.id) <= {"20", "22", "23"}


def test_metrics_by_hand(tmp_path):
    scores = np.tile([8.0, 7, 6, 5, 4, 3, 2, 1], (20, 1))  # item 0 best
    result = impressions.evaluate(Scorer(scores), SPLIT, load(tmp_path, config()), config())
    # Clicks at rank 1 of 4; at ranks 1 and 2 of 3; at rank 2 of 2.
    assert result.metrics["auc"] == pytest.approx((1 + 1 + 0) / 3)
    assert result.metrics["mrr"] == pytest.approx((1 + 3 / 4 + 1 / 2) / 3)
    assert result.metrics["ndcg@1"] == pytest.approx((1 + 1 + 0) / 3)
    assert result.metrics["ndcg@5"] == pytest.approx((1 + 1 + 1 / np.log2(3)) / 3)
    assert result.metrics["unseen_candidates"] == pytest.approx((2 + 2 + 1) / (4 + 3 + 2))
    assert result.intervals.keys() == {"auc", "mrr", "ndcg@1", "ndcg@5"}
    assert all(low <= result.metrics[name] <= high for name, (low, high) in result.intervals.items())


def test_the_breakdown_is_by_clicks_seen_in_training_and_by_history(tmp_path):
    scores = np.tile([8.0, 7, 6, 5, 4, 3, 2, 1], (20, 1))
    breakdown = impressions.evaluate(Scorer(scores), SPLIT, load(tmp_path, config()), config()).breakdown
    seen = {group: (metrics["n"], metrics["auc"]) for group, metrics in breakdown["clicks_seen"].items()}
    assert seen == {"all": (1, 1), "some": (1, 1), "none": (1, 0)}
    assert {group: metrics["n"] for group, metrics in breakdown["history"].items()} == {"some": 2, "none": 1}


def test_predictions_hold_what_was_shown_clicked_and_scored(tmp_path):
    model, examples = Scorer(), load(tmp_path, config())
    rows = impressions.evaluate(model, SPLIT, examples, config()).predictions
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
    examples = load(tmp_path, config())
    expected = impressions.evaluate(Scorer(), SPLIT, examples, config(batch_size=1000))
    result = impressions.evaluate(Scorer(), SPLIT, examples, config(batch_size=batch_size))
    assert result.metrics == pytest.approx(expected.metrics, abs=1e-9)
    assert result.predictions.equals(expected.predictions)


def test_batches_are_whole_impressions_of_about_as_many_items():
    examples, model = SPLIT.impressions(0), Scorer()  # four items each
    impressions.score(model, examples, 8)
    assert [len(batch) for batch in model.batches] == [2] * 9 + [1]


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_processes_score_a_share_each_and_return_all(tmp_path, monkeypatch, n):
    examples, shares = load(tmp_path, config()), []
    monkeypatch.setattr(processes, "gathered", lambda scored: shares.append(scored) or [np.zeros((1, 0), np.float32)])
    for rank in range(n):
        monkeypatch.setenv("WORLD_SIZE", str(n))
        monkeypatch.setenv("RANK", str(rank))
        impressions.score(Scorer(), examples, 4)
    together = np.concatenate([batch for scored in shares for batch in scored])
    monkeypatch.undo()
    assert together.tolist() == impressions.score(Scorer(), examples, 4).tolist()


def test_scores_that_are_not_numbers_end_the_run(tmp_path):
    table = np.zeros((20, 8))
    table[2, 7] = np.nan
    with pytest.raises(RunError, match="not numbers"):
        impressions.evaluate(Scorer(table), SPLIT, load(tmp_path, config()), config())


def test_validation_scores_the_selection_metric(tmp_path):
    examples, model = load(tmp_path, config()), Scorer()
    metrics = impressions.evaluate(model, SPLIT, examples, config()).metrics
    for metric in ("auc", "mrr", "ndcg@5"):
        settings = config(selection=metric)
        assert impressions.validation_score(model, SPLIT, examples, settings) == pytest.approx(metrics[metric])


def test_users_are_swapped_with_one_anothers_histories_and_nothing_else(tmp_path):
    plain, swapped = (load(tmp_path, config(control=c)) for c in (Control.none, Control.swap_users))
    assert swapped.histories()[0].tolist() != plain.histories()[0].tolist()
    assert swapped.shown()[0].tolist() == plain.shown()[0].tolist()
    assert swapped.clicked().tolist() == plain.clicked().tolist()


def test_the_protocol_is_the_impression():
    assert impressions.protocol(config().task) == "impression"
