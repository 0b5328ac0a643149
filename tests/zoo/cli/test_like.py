"""The like task on the command line: on generated data, and on files with a split of their own."""

import pandas as pd
import pytest

from tests.data.sources import FIXTURES

SMALL = ("task=like", "dataset=demo", "task.bootstrap=20", "task.max_examples=200")


def test_any_ratings_make_a_like_task(llm4rec):
    answer = llm4rec("train", "model=like_means", *SMALL, "dataset.split=temporal", "task.floors=[liked_share]")
    assert answer.code == 0, answer.err
    assert all(word in answer.out for word in ("liked_share", "like_means", "auc_within_users", "uauc", "log_loss"))
    metrics = answer.metrics
    assert (metrics["task"], metrics["protocol"], metrics["split_rule"]) == ("like", "like", "temporal")
    assert metrics["labels"] == ["synthetic", "subset", "temporal-split"]
    assert metrics["metrics"]["auc"] > 0.55
    rows = pd.read_parquet(answer.folder / "predictions.parquet")
    assert rows["auc_within_users"].mean() == pytest.approx(metrics["metrics"]["auc_within_users"])


def test_a_few_shots_are_drawn_by_the_seed_and_move_the_address(llm4rec):
    runs = [
        llm4rec("train", "model=like_means", *SMALL, "task.floors=[]", f"task.shots={n}", f"seed={seed}").metrics
        for n, seed in ((64, 0), (64, 1), (128, 0))
    ]
    assert len({run["config_hash"] for run in runs}) == len({run["metrics"]["auc"] for run in runs}) == 3
    assert runs[0]["variant"] == runs[1]["variant"] != runs[2]["variant"]


def test_tallrec_s_prompts_show_the_floors_that_need_no_training_rows(llm4rec):
    raw = f"dataset.raw_dir={FIXTURES / 'tallrec'}"
    answer = llm4rec("train", "model=like_text", "dataset=tallrec-movie", raw, "task.bootstrap=20")
    assert answer.code == 0, answer.err
    assert "liked_share" in answer.out
    assert "like_means" not in answer.out
    assert answer.metrics["n_examples"] == 5
    refused = llm4rec("train", "model=like_means", "dataset=tallrec-movie", raw)
    assert "have none" in refused.err
    assert refused.code == 1


def test_a_split_of_ones_own_files_is_used(llm4rec):
    raw = f"dataset.raw_dir={FIXTURES / 'given'}"
    files = [f"dataset.domains.movies.{part}={part}.csv" for part in ("train", "valid", "test")]
    answer = llm4rec("train", "model=like_means", "dataset=collm-ml-1m", raw, *files, "task.floors=[]")
    assert answer.code == 0, answer.err
    assert answer.metrics["n_examples"] == 3
    assert answer.metrics["metrics"]["auc"] == 1  # the liked item is of training, the user of the dislikes too


def test_likes_are_compared_user_by_user(llm4rec):
    a, b = (
        llm4rec("train", f"model={model}", *SMALL, "dataset.split=temporal", "task.floors=[]").folder
        for model in ("liked_share", "like_means")
    )
    answer = llm4rec("compare", str(a), str(b))
    assert answer.code == 0, answer.err
    assert all(word in answer.out for word in ("auc_within_users", "auc", "log_loss"))
