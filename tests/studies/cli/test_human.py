"""`human`: export of blind sheets, scoring of filled ones, chat models as raters, and what raters see."""

import csv
import json
import re

import pandas as pd
import pytest

from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.llm import completions
from tests.cli import states
from tests.llm.fake_backend import FakeBackend
from tests.support.driver import job_of, read


@pytest.fixture
def runs(tmp_path, request):
    """runs(task): the run folders of that task under tmp_path/outputs; copies that a test may change."""
    states.texts(tmp_path, None, request.getfixturevalue)
    return lambda task: sorted((tmp_path / "outputs/retrieval/demo" / task).iterdir())


@pytest.fixture
def other(runs, tmp_path):
    """other(texts): a copy of the run of explanations, by a model `other` that wrote these texts."""
    return lambda texts, name="seed0-other": states.other_texts(tmp_path, {}, texts=texts, name=name)


@pytest.fixture
def exported(llm4rec, tmp_path):
    """exported(*arguments): the folder of an export."""

    def export(*arguments, out="judged"):
        answer = llm4rec("human", "export", *map(str, arguments), "--out", out)
        assert answer.code == 0, answer.err
        return tmp_path / out

    return export


@pytest.fixture
def scored(llm4rec):
    """scored(*sheets, form): the output of `score` on the folder `judged`."""

    def score(*sheets, form=()):
        answer = llm4rec("human", "score", "judged", *map(str, sheets), *form)
        assert answer.code == 0, answer.err
        return answer.out

    return score


def rows_of(folder):
    """The rows of a sheet, each with its system."""
    codes = read(folder / "key.json")["codes"]
    with (folder / "sheet.csv").open(encoding="utf-8-sig", newline="") as file:
        return [row | {"system": codes[row["code"]]} for row in csv.DictReader(file)]


def fill(folder, rater, judge, delimiter=","):
    """Fill a sheet; judge(system) returns criterion -> score."""
    rows = [row | judge(row.pop("system")) for row in rows_of(folder)]
    path = folder.parent / f"{rater}.csv"
    pd.DataFrame(rows).to_csv(path, index=False, sep=delimiter)
    return path


def test_scores_become_means_and_agreement(other, runs, exported, scored, llm4rec):
    other(["one"])
    folder = exported(*runs("explanation"), "other/demo/explanation/seed0", "--examples", "4")
    by_rater = {"ann": {"reference": 5, "retrieval": 3, "other": 1}, "ben": {"reference": 4, "retrieval": 3}}
    sheets = [fill(folder, rater, lambda system, s=s: {"clarity": s.get(system, "")}) for rater, s in by_rater.items()]
    assert re.search(r"clarity +reference +4.50 +8 +2 +0\.\d\d\n", scored(*sheets))
    lines = json.loads(scored(*sheets, form=["--json"]))["systems"]
    assert lines == read(folder / "human.json")["systems"] and all(0 < line["alpha"] < 1 for line in lines)
    means = {line["system"]: (line["mean_score"], line["scores"], line["raters"]) for line in lines}
    assert means == {"reference": (4.5, 8, 2), "retrieval": (3, 8, 2), "other": (1, 4, 2)}
    header, *rows = scored(sheets[0], form=["--csv"]).splitlines()
    assert header == "criterion,system,mean score,scores,raters,alpha"
    assert "clarity,other,1.00,4,1,-" in rows, "alpha is undefined with one rater"


def test_runs_of_one_name_are_named_by_their_folders(other, exported):
    folders = [other([name], name) for name in ("seed0-one", "seed0-two")]
    names = list(read(exported(*folders) / "key.json")["runs"])
    assert names == ["other/demo/explanation/seed0-one", "other/demo/explanation/seed0-two"]


def test_a_sheet_does_not_reveal_the_system_of_a_text(other, runs, exported):
    other(["a text"])
    folder = exported(*runs("explanation"), "other/demo/explanation/seed0")
    assert not re.search("retrieval|reference|seed0|outputs", (folder / "sheet.csv").read_text())
    assert len({(row["code"][-1], row["system"]) for row in rows_of(folder)}) == 9, "each is under each letter"


def test_order_and_sample_are_a_function_of_the_seed(runs, exported):
    folders = [exported(*runs("explanation"), "--seed", seed, out=f"{seed} {i}") for i, seed in enumerate((0, 0, 1))]
    first, again, another = (read(folder / "key.json")["codes"] for folder in folders)
    assert first == again and not first.keys() & another.keys()


def test_an_explanation_shows_item_and_stars_and_a_heading_the_review_that_it_heads(runs, exported, cache):
    demo = prepare(job_of("dataset=demo").config.dataset, cache / "llm4rec")
    folder = exported(*runs("explanation"))
    shown = {name: {row[name] for row in rows_of(folder)} for name in ("item", "stars", "review")}
    assert shown["item"] <= {*demo.items["title"]} and shown["stars"] <= {*"12345"} and shown["review"] == {""}
    folder = exported(*runs("review_summary"), out="headings")
    reviews = demo.interactions.groupby("review_text")["review_title"].agg(set)
    own = [row for row in rows_of(folder) if row["system"] == "reference"]
    assert len(own) == 50 and all(row["text"] in reviews[row["review"]] for row in own)


def test_texts_are_normalised_and_no_cell_is_a_formula(other, exported):
    folder = exported(other(["=HYPERLINK(1)", " a\n&quot;b&quot;\t", ""]), "--examples", "60")
    rows = rows_of(folder)
    assert {"'=HYPERLINK(1)", 'a "b"', "(no text)"} <= {row["text"] for row in rows}
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())


def test_only_examples_that_all_runs_share_are_sampled_and_the_reference_may_be_left_out(other, runs, exported):
    folder = other(["a text"])
    file = folder / "predictions.parquet"
    pd.read_parquet(file)[:7].to_parquet(file, index=False)
    systems = [row["system"] for row in rows_of(exported(*runs("explanation"), folder, "--no-reference"))]
    assert sorted(systems) == ["other"] * 7 + ["retrieval"] * 7


def test_a_sheet_may_come_back_as_spreadsheets_write_it_and_in_another_encoding(runs, exported, scored):
    folder = exported(*runs("explanation"), "--examples", "5")
    for delimiter in (";", "\t"):
        path = fill(folder, "ann", lambda system: {"clarity": "4.0"}, delimiter)
        path.write_text("\ufeff" + path.read_text().replace("\n", "\r\n") + delimiter * 7 + "\r\n", newline="")
        assert "clarity,retrieval,4.00,5,1,-" in scored(path, form=["--csv"])
    path = fill(folder, "ann", lambda system: {"text": "déjà vu", "clarity": 4})
    path.write_bytes(path.read_text().encode("cp1252"))
    assert "clarity,retrieval,4.00,5,1,-" in scored(path, form=["--csv"])


def scores_the_longest_highest(request):
    """The answer of a judge that prefers long texts, on both criteria."""
    (listed,) = re.findall(r"^The texts: (.*)$", request.messages[-1]["content"], re.M)
    texts = json.loads(listed)
    scores = {label: 5 if text == max(texts.values(), key=len) else 2 for label, text in texts.items()}
    return f"Here you are: {json.dumps({'clarity': scores, 'reasonableness': scores})}"


def test_a_chat_model_fills_a_sheet_that_is_scored_separately(runs, exported, llm4rec, scored, monkeypatch, tmp_path):
    chat = FakeBackend(scores_the_longest_highest)
    monkeypatch.setattr(completions, "build_backend", lambda *_: chat)
    folder = exported(*runs("review_summary"), "--examples", 5)
    typed = (
        "human",
        "judge",
        str(folder),
        "llm=openai",
        "llm.model=a/judge",
        f"llm.store={tmp_path / 'answers.sqlite'}",
    )
    assert "5 requests" in llm4rec(*typed, "llm.dry_run=true").out and not chat.requests
    first = llm4rec(*typed)
    assert first.code == 0, first.err
    assert "clarity: 15 of 15 texts scored" in first.out
    assert llm4rec(*typed).out == first.out and len(chat.requests) == 5, "answers are stored"
    assert not re.search("retrieval|reference|seed0", str(chat.requests))
    (filled,) = folder.glob("judge-judge-*.csv")
    assert "judged by a/judge (llm-judge), not by people" in scored(filled)
    assert read(folder / "judge.json")["labels"] == ["llm-judge"] and not (folder / "human.json").exists()
    mixed = llm4rec("human", "score", "judged", str(fill(folder, "ann", lambda system: {"clarity": 3})), str(filled))
    assert (mixed.code, f"chat models filled {filled.stem}, people the others" in mixed.err) == (2, True)
    chat.name = "another"
    assert llm4rec(*typed).code == 0
    assert len([*folder.glob("judge-judge-*.csv")]) == 2, "the first file is kept"
