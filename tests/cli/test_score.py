"""`score`: lists from another system through our evaluator, with our floors, at an address of their content."""

import gzip
import json

import pandas as pd
import pytest

from tests.support.driver import python, read

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
    assert said.partition(":")[0] in answer.out
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


def test_floors_stand_beside_and_the_label_says_when_they_win(llm4rec, top_items, tmp_path):
    top_items[top_items.groupby("user").cumcount() == 9].to_csv(tmp_path / "worst.csv", index=False)
    answer = llm4rec("score", "worst.csv", "--name", "mine", "task.max_examples=100", "task.floors=[transition_text]")
    names = [line.split()[0] for line in answer.out.splitlines() if line.strip()]
    assert names.index("transition_text") < names.index("mine")
    assert "floor-not-beaten" in answer.metrics["labels"]


def test_tables_call_a_file_of_any_name_by_the_name_it_is_given(llm4rec, targets, tmp_path):
    awkward = "it's (1), a=b.csv"
    for name in ("gru4rec.seed0.csv", awkward):
        targets.to_csv(tmp_path / name, index=False)
    assert llm4rec("score", "gru4rec.seed0.csv", *QUICK).metrics["shown_as"] == "gru4rec"
    named = llm4rec("score", awkward, "--name", "a (new) model", *QUICK).metrics
    assert (named["shown_as"], named["metrics"]["hr@1"]) == ("a (new) model", 1)
    out = llm4rec("report").out
    assert "gru4rec" in out and "a (new) model" in out
    assert "model.file" not in out


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


def test_seeds_of_one_name_are_averaged(llm4rec, top_items, targets):
    runs = [llm4rec("score", f"{f}.csv", "--name", "m", f"seed={s}", *QUICK) for s, f in enumerate(("best", "tops"))]
    assert runs[0].metrics["variant"] == runs[1].metrics["variant"]
    *_, row = [line for line in llm4rec("report", "model=external").out.splitlines() if line.startswith("m ")]
    assert "±" in row


def test_many_missing_users_are_refused_unless_asked(llm4rec, targets, tmp_path):
    targets.iloc[50:].to_csv(tmp_path / "many.csv", index=False)
    refused = llm4rec("score", "many.csv", *QUICK)
    assert refused.code == 1
    assert "50 of the 100 users" in refused.err
    assert "model.max_missing=1" in refused.err
    result = llm4rec("score", "many.csv", *QUICK, "model.max_missing=1").metrics
    assert result["metrics"]["hr@1"] == pytest.approx(0.5, abs=0.005)


def test_hydras_flags_work(llm4rec, targets, tmp_path):
    assert "alias: best" in llm4rec("score", "best.csv", "--cfg", "job").out
    swept = llm4rec("score", "best.csv", "-m", "task=sequential,direct", *QUICK)
    assert swept.code == 0, swept.err
    assert len(list((tmp_path / "outputs/external/demo").glob("*/*/metrics.json"))) == 2


def test_a_wrong_file_is_refused_before_torch_is_imported(tmp_path, cache):
    (tmp_path / "unknown.csv.gz").write_bytes(gzip.compress(b"user,item\nnobody,nothing\n"))
    done = python(
        f"import os, sys; os.environ['XDG_CACHE_HOME'] = {str(cache)!r}; from llm4rec_cli.cli import main; "
        "assert main(['score', 'unknown.csv.gz']) == 1; assert 'torch' not in sys.modules",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "no user 'nobody'" in done.stderr


def test_the_split_of_another_system_is_compared_and_stands_on_the_card(llm4rec, targets, top_items, tmp_path):
    targets.head(2).to_csv(tmp_path / "train.csv", index=False)
    answer = llm4rec(
        *("score", "tops.csv", "--targets", "best.csv", "--training", "train.csv", "--card", "card.html"),
        *("--stated", "tuning=16 trials <on test>", "--stated", "system=a library 1.0"),
        *("task.max_examples=100", "task.floors=[popularity,transition_text]"),
    )
    assert answer.code == 0, answer.err
    out, page = " ".join(answer.out.split()), (tmp_path / "card.html").read_text()
    assert "the targets of all 100 users are ours" in out
    assert "2 of 100 test targets are among the 2 rows" in out
    assert "is refused: 2 of 100 test targets" in out
    assert "16 trials &lt;on test&gt;" in page
    assert "<dt>seeds</dt>\n<dd>not stated</dd>" in page
    assert "<dt>their split</dt>\n<dd>best.csv: the targets of all 100 users are ours</dd>" in page
    assert str(tmp_path) not in page
    assert "transition_text" in page


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


def test_semantic_ids_are_judged_with_their_collisions(llm4rec, targets, tmp_path):
    items = sorted(set(targets["item"]))
    index = {item: [f"<a_{i // 2}>"] for i, item in enumerate(items)}  # two items share a code
    (tmp_path / "index.json").write_text(json.dumps(index))
    lines = [json.dumps({"user": user, "predict": index[item]}) for user, item in targets.itertuples(index=False)]
    (tmp_path / "beams.jsonl").write_text("\n".join(lines))
    metrics = llm4rec("score", "beams.jsonl", "--codes", "index.json", *QUICK).metrics["metrics"]
    alone = [item for item in items if list(index.values()).count(index[item]) == 1]
    expected = targets["item"].isin(alone).mean() + 0.5 * (~targets["item"].isin(alone)).mean()
    assert metrics["hr@1"] == pytest.approx(expected)
    assert metrics["hr@5"] == 1
