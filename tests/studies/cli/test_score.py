"""`score`: lists from another system through our evaluator, with our floors, at an address of their content."""

import pandas as pd
import pytest

from tests.support.driver import read

QUICK = ("task.max_examples=100", "task.floors=[]")


@pytest.fixture
def answers(trained):
    """predictions.parquet of a run of SASRec of ours, about 100 users."""
    return pd.read_parquet(trained / "predictions.parquet")


@pytest.fixture
def top_items(answers, tmp_path):
    """Its ten best items a user, as one row each: user, item, in order; also in tops.csv."""
    lists = answers[["user_id", "top_items"]].explode("top_items")
    lists = lists.set_axis(["user", "item"], axis=1).reset_index(drop=True)
    lists.to_csv(tmp_path / "tops.csv", index=False)
    return lists


@pytest.fixture
def targets(answers, tmp_path):
    """What a model would list that knew the answers; also in best.csv."""
    lists = answers[["user_id", "target"]].set_axis(["user", "item"], axis=1)
    lists.to_csv(tmp_path / "best.csv", index=False)
    return lists


def test_our_own_top_items_score_as_the_run_they_come_from_in_every_form_of_the_file(
    llm4rec, trained, top_items, tmp_path
):
    ours, answer = read(trained / "metrics.json"), llm4rec("score", "tops.csv", *QUICK)
    theirs = answer.metrics
    for name in ("hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10", "coverage@10"):
        assert theirs["metrics"][name] == pytest.approx(ours["metrics"][name])
    assert theirs["n_examples"] == 100
    assert "truncated-lists" in theirs["labels"] and "truncated-lists" in answer.out
    (said,) = theirs["warnings"]
    assert "of hr@20" in said and "of hr@50" in said and "hr@10" not in said
    rank = top_items.groupby("user").cumcount() + 1
    top_items.assign(rank=rank).sample(frac=1, random_state=0).to_csv(tmp_path / "b.tsv", sep="\t", index=False)
    top_items.assign(score=1 / rank).sample(frac=1, random_state=0).to_csv(tmp_path / "c.csv.gz", index=False)
    top_items.assign(score=-rank).to_parquet(tmp_path / "d.parquet")
    for name in ("b.tsv", "c.csv.gz", "d.parquet"):
        assert llm4rec("score", name, *QUICK).metrics["metrics"] == theirs["metrics"], name


@pytest.mark.parametrize("task", ["sequential", "direct"])
def test_who_lists_the_targets_scores_one(llm4rec, targets, task):
    metrics = llm4rec("score", "best.csv", *QUICK, f"task={task}").metrics
    assert {name for name in metrics["intervals"] if metrics["metrics"][name] != 1} == set()
    assert set(metrics["labels"]) == {"external", "synthetic", "subset"}


def test_tables_call_a_file_of_any_name_by_the_name_it_is_given(llm4rec, targets, tmp_path):
    awkward = "it's (1), a=b.csv"
    for name in ("gru4rec.seed0.csv", awkward):
        targets.to_csv(tmp_path / name, index=False)
    assert llm4rec("score", "gru4rec.seed0.csv", *QUICK).metrics["shown_as"] == "gru4rec"
    named = llm4rec("score", awkward, "--name", "a (new) model", *QUICK).metrics
    assert (named["shown_as"], named["metrics"]["hr@1"]) == ("a (new) model", 1)


def test_the_address_holds_the_content_and_not_the_path_or_the_command(llm4rec, targets, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    targets.to_csv(tmp_path / "elsewhere/best.csv", index=False)
    first, again = llm4rec("score", "best.csv", *QUICK), llm4rec("score", "elsewhere/best.csv", *QUICK)
    assert first.folder == again.folder
    assert "external: finished run found" in again.err
    by_train = llm4rec("train", "model=external", "model.file=best.csv", "model.alias=best", *QUICK)
    assert by_train.folder == first.folder
    targets.iloc[1:].to_csv(tmp_path / "best.csv", index=False)
    other = llm4rec("score", "best.csv", *QUICK)
    assert other.folder != first.folder
    assert other.metrics["metrics"]["hr@1"] == pytest.approx(0.99, abs=0.001)
    assert "missing-users" in other.metrics["labels"]


def test_many_missing_users_are_refused_unless_asked(llm4rec, targets, tmp_path):
    targets.iloc[50:].to_csv(tmp_path / "many.csv", index=False)
    refused = llm4rec("score", "many.csv", *QUICK)
    assert refused.code == 1
    assert "50 of the 100 users" in refused.err
    assert "model.max_missing=1" in refused.err
    result = llm4rec("score", "many.csv", *QUICK, "model.max_missing=1").metrics
    assert result["metrics"]["hr@1"] == pytest.approx(0.5, abs=0.005)


def test_the_split_of_another_system_is_compared(llm4rec, targets, top_items, tmp_path):
    targets.head(2).to_csv(tmp_path / "train.csv", index=False)
    answer = llm4rec(
        *("score", "tops.csv", "--targets", "best.csv", "--training", "train.csv"),
        *("task.max_examples=100", "task.floors=[popularity,transition_text]"),
    )
    assert answer.code == 0, answer.err
    out = " ".join(answer.out.split())
    assert "the targets of all 100 users are ours" in out
    assert "2 of 100 test targets are among the 2 rows" in out
    assert "is refused: 2 of 100 test targets" in out


def test_a_list_on_another_split_is_refused_before_anything_is_computed(llm4rec, targets, top_items, tmp_path):
    targets.assign(item=targets["item"].to_numpy()[::-1]).to_csv(tmp_path / "test.csv", index=False)
    refused = llm4rec("score", "tops.csv", "--targets", "test.csv", *QUICK)
    assert refused.code == 1
    assert "test.csv: another split" in refused.err
    assert not list(tmp_path.glob("outputs/external/*/*/*"))


def test_a_folder_is_judged_in_one_table_whatever_one_of_its_files_is(llm4rec, top_items, targets, tmp_path):
    (tmp_path / "lists").mkdir()
    targets.to_csv(tmp_path / "lists/best.csv", index=False)
    top_items.to_parquet(tmp_path / "lists/tops.parquet")
    (tmp_path / "lists/bad.csv").write_text("user,item\nnobody,x\n")
    answer = llm4rec("score", "lists", *QUICK)
    assert answer.code == 1
    names = [line.split()[0] for line in answer.out.splitlines() if line.startswith(("best", "tops", "bad"))]
    assert names == ["best", "tops"]
    assert "1 of 3 files were not judged: bad: bad.csv:2: no user 'nobody'" in answer.err
    assert llm4rec("score", "lists", "--name", "x", *QUICK).code == 2
