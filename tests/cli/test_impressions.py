"""Click logs on the command line: what chooses their task, what runs on them tell, and what does not fit."""

import numpy as np
import pandas as pd
import pytest

LOG = ("dataset=demo_news", "task.floors=[]")


def test_a_click_log_chooses_its_task_and_ends_with_its_table(llm4rec):
    answer = llm4rec("train", "model=popularity", "dataset=demo_news", "task.floors=[random]")
    assert answer.code == 0, answer.err
    assert all(word in answer.out for word in ("random", "popularity", "auc", "mrr", "ndcg@5", "ndcg@10"))
    metrics = answer.metrics
    assert (metrics["task"], metrics["protocol"], metrics["split_rule"]) == ("direct", "impression", "mind")
    assert (metrics["n_examples"], metrics["labels"], metrics["warnings"]) == (86, ["synthetic"], [])
    assert metrics["metrics"].keys() == {"auc", "mrr", "ndcg@5", "ndcg@10", "unseen_candidates"}
    assert metrics["metrics"]["auc"] > 0.52
    assert sum(of["n"] for of in metrics["breakdown"]["clicks_seen"].values()) == 86


def test_predictions_hold_what_the_metrics_are_made_of(llm4rec):
    folder = llm4rec("train", "model=random", *LOG).folder
    rows = pd.read_parquet(folder / "predictions.parquet")
    assert list(rows) == [
        *("impression_id", "user_id", "history_length", "n_shown", "n_clicks", "items", "clicked", "scores"),
        *("auc", "mrr", "ndcg@5", "ndcg@10", "unseen_candidates"),
    ]
    one = rows.iloc[0]
    assert len(one["items"]) == len(one["clicked"]) == len(one["scores"]) == one["n_shown"]
    clicks, others = one["scores"][one["clicked"]], one["scores"][~one["clicked"]]
    assert one["auc"] == pytest.approx(np.mean(clicks[:, None] > others))


def test_empty_histories_may_be_skipped_which_is_marked_and_told(llm4rec):
    kept, skipped = (
        llm4rec("train", "model=popularity", *LOG, f"dataset.empty_history={word}") for word in ("keep", "skip")
    )
    assert kept.metrics["n_examples"] - skipped.metrics["n_examples"] == 4
    assert skipped.metrics["labels"] == ["synthetic", "empty-history-skipped"]
    assert skipped.metrics["warnings"] == ["4 of 86 test impressions are skipped, with an empty history"]
    assert skipped.metrics["config_hash"] != kept.metrics["config_hash"]


@pytest.mark.parametrize("control", ["shuffle_text", "shuffle_history", "swap_users"])
def test_controls_and_parts_of_click_logs_are_marked(llm4rec, control):
    typed = (f"dataset.control={control}", "dataset.part_of=more")
    metrics = llm4rec("train", "model=random", *LOG, *typed, "task.bootstrap=20").metrics
    assert {f"control-{control}", "subset"} <= {*metrics["labels"]}
