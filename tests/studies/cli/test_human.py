"""`human`: export of blind sheets, scoring of filled ones, chat models as raters, and what raters see."""

import csv
import json
import re
import shutil

import pandas as pd
import pytest

from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.llm import completions
from tests.cli import states
from tests.llm.fake_backend import FakeBackend
from tests.support.driver import job_of, read

MARKUP = (
    '</script><img src=x onerror="alert(1)">',
    "<!-- <script>alert(1)</script>",
    "{{ 7 * 7 }} ${1 + 1} 'single' \"double\"",
    "=HYPERLINK(1)",
    "",
)


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

    def export(*arguments):
        answer = llm4rec("human", "export", *map(str, arguments), "--out", "judged")
        assert answer.code == 0, answer.err
        return tmp_path / "judged"

    return export


@pytest.fixture
def headings(runs, exported):
    """headings(n): the folder of an export of so many headings in two ways."""
    return lambda n: exported(*runs("review_summary"), "--examples", n)


def rows_of(folder):
    with (folder / "sheet.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def shown_in(page):
    """The data that a page's script reads."""
    (data,) = re.findall(r'<script type="application/json" id="shown">(.*?)</script>', page, re.DOTALL)
    return json.loads(data)


def fill(folder, rater, judge, delimiter=","):
    """Fill a sheet; judge(systems, row) returns criterion -> value."""
    key = read(folder / "key.json")["examples"]
    rows = [row | judge(key[row["example"]][row["label"]], row) for row in rows_of(folder)]
    path = folder.parent / f"{rater}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def prefers_people(systems, row):
    score = 5 if "reference" in systems else 2
    return {"clarity": score, "reasonableness": score - 1}


def estimates(criterion, name):
    return {system: of_system[name]["mean"] for system, of_system in criterion["systems"].items()}


@pytest.fixture
def scored(llm4rec):
    """scored(folder, *sheets): the output of `score --json`."""

    def score(folder, *sheets):
        answer = llm4rec("human", "score", str(folder), *map(str, sheets), "--json")
        assert answer.code == 0, answer.err
        return json.loads(answer.out)

    return score


# ---- from runs to numbers


def test_judgements_become_ranks_scores_and_agreement_which_the_same_sheets_repeat(headings, scored):
    folder = headings(55)
    sheets = [fill(folder, rater, prefers_people) for rater in ("ann", "ben", "cem")]
    result = scored(folder, *sheets)
    assert result == read(folder / "human.json") == scored(folder, *sheets)
    clarity = result["criteria"]["clarity"]
    assert (clarity["raters"], clarity["examples"], clarity["alpha"]) == (3, 55, 1)
    assert clarity["enough"] and result["synthetic"]
    ranks = estimates(clarity, "mean_rank")
    assert ranks.pop("reference") < min(ranks.values())
    assert sum(estimates(clarity, "first").values()) == pytest.approx(1)
    assert result["criteria"]["reasonableness"]["systems"]["reference"]["mean_score"] == {"mean": 4, "interval": [4, 4]}
    names = list(read(folder / "key.json")["examples"])

    def judge_a_third(part):
        return lambda systems, row: prefers_people(systems, row) if names.index(row["example"]) % 3 == part else {}

    clarity = scored(folder, *(fill(folder, f"rater{part}", judge_a_third(part)) for part in range(3)))["criteria"]
    clarity = clarity["clarity"]
    assert (clarity["raters"], clarity["examples"], clarity["alpha"], clarity["enough"]) == (3, 55, None, False)


def test_numbers_by_hand(other, runs, exported, scored):
    other(["one"])
    folder = exported(*runs("explanation"), "other/demo/explanation/seed0", "--examples", "2")
    first, _ = read(folder / "key.json")["examples"]

    def judge(systems, row):
        (system,) = systems
        on_first = {"reference": 5, "retrieval": 3, "other": 3}
        on_second = {"reference": 1, "retrieval": 4, "other": 2}
        return {"clarity": (on_first if row["example"] == first else on_second)[system]}

    criteria = scored(folder, fill(folder, "ann", judge))["criteria"]
    ranks = {"retrieval": (2.5 + 1) / 2, "other": (2.5 + 2) / 2, "reference": (1 + 3) / 2}
    assert estimates(criteria["clarity"], "mean_rank") == ranks
    assert estimates(criteria["clarity"], "first") == {"retrieval": 0.5, "other": 0, "reference": 0.5}
    assert criteria["clarity"]["systems"]["reference"]["mean_score"] == {"mean": 3, "interval": [1, 5]}
    assert criteria["clarity"]["alpha"] is None
    empty = {"raters": 0, "examples": 0, "enough": False, "judgements": 0, "alpha": None, "systems": {}}
    assert criteria["reasonableness"] == empty


def test_a_text_of_two_systems_is_shown_once_and_counts_for_both(other, exported, scored):
    for name in ("seed0-one", "seed0-two"):
        other(["the same"], name)
    folder = exported("seed0-one", "seed0-two", "--examples", "5", "--scale", "rank")
    assert {row["label"] for row in rows_of(folder)} == {"A", "B"}

    def judge(systems, row):
        return dict.fromkeys(("clarity", "reasonableness"), 2 if "reference" in systems else 1)

    clarity = scored(folder, fill(folder, "ann", judge))["criteria"]["clarity"]
    assert estimates(clarity, "mean_rank") == {"other seed0-one": 1.5, "other seed0-two": 1.5, "reference": 3}
    assert [*estimates(clarity, "first").values()] == [0.5, 0.5, 0]
    assert all(system["mean_score"] is None for system in clarity["systems"].values())


# ---- what raters see


def test_a_sheet_does_not_reveal_the_system_of_a_text_and_its_page_loads_nothing(other, runs, exported):
    other(["a text"])
    folder = exported(*runs("explanation"), "other/demo/explanation/seed0")
    page, table = (folder / "sheet.html").read_text(), (folder / "sheet.csv").read_text()
    key = read(folder / "key.json")
    for revealing in ("retrieval", "reference", "seed0", "outputs", key["runs"][0]["config_hash"]):
        assert revealing not in page + table
    labelled = [pair for labels in key["examples"].values() for pair in labels.items()]
    assert {label for label, systems in labelled if "other" in systems} == {"A", "B", "C"}
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)\s*=\s*["']|https?:|@import|url\(""", page)


def test_labels_and_sample_are_a_function_of_the_seed(runs, llm4rec, tmp_path):
    keys = []
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert llm4rec("human", "export", str(*runs("explanation")), "--out", out, "--seed", str(seed)).code == 0
        keys.append(read(tmp_path / out / "key.json")["examples"])
    assert keys[0] == keys[1]
    assert keys[0].keys() != keys[2].keys()


def test_an_explanation_shows_item_and_stars_and_a_heading_the_review_that_it_heads(runs, exported, cache):
    demo = prepare(job_of("dataset=demo").config.dataset, cache / "llm4rec")
    folder = exported(*runs("explanation"))
    shown = {name: {row[name] for row in rows_of(folder)} for name in ("item", "stars", "review")}
    assert shown["item"] <= {*demo.items["title"]} and shown["stars"] <= {*"12345"} and shown["review"] == {""}
    shutil.rmtree(folder)
    folder = exported(*runs("review_summary"))
    reviews = demo.interactions.groupby("review_text")["review_title"].agg(set)
    key = read(folder / "key.json")["examples"]
    own = [row for row in rows_of(folder) if "reference" in key[row["example"]][row["label"]]]
    assert len(own) == 50
    assert all(row["text"] in reviews[row["review"]] for row in own)


def test_markup_in_texts_is_not_interpreted_and_no_cell_is_a_formula(other, exported):
    folder = exported(other(MARKUP), "--examples", "60")
    page = (folder / "sheet.html").read_text()
    assert page.count("</script>") == page.count("<script") == 2
    assert "<img" not in page and "<!--" not in page
    texts = {text for example in shown_in(page)["examples"] for text in example["texts"].values()}
    assert {*MARKUP[:4], "(no text)"} <= texts
    rows = rows_of(folder)
    assert "'=HYPERLINK(1)" in {row["text"] for row in rows}
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())


# ---- which examples


def test_examples_of_identical_texts_are_excluded_and_counted(other, runs, llm4rec, tmp_path):
    (run,) = runs("explanation")
    people = pd.read_parquet(run / "predictions.parquet")["reference"].tolist()
    mostly = other([*people[:50], *["something else"] * 10], "seed0-a")
    answer = llm4rec("human", "export", str(mostly), "--out", "judged")
    assert "exported 10 of 60 shared examples; excluded because all texts are identical: 50" in answer.out
    assert "the results will not be conclusive" in answer.out
    assert len(read(tmp_path / "judged/key.json")["examples"]) == 10
    refused = llm4rec("human", "export", str(other(people, "seed0-b")), "--out", "none")
    assert (refused.code, "have identical texts" in refused.err) == (1, True)


def test_only_examples_that_all_runs_share_are_sampled_and_the_reference_may_be_left_out(other, runs, exported):
    folder = other(["a text"])
    file = folder / "predictions.parquet"
    pd.read_parquet(file)[:7].to_parquet(file, index=False)
    key = read(exported(*runs("explanation"), folder, "--no-reference") / "key.json")
    assert (len(key["examples"]), key["systems"]) == (7, ["retrieval", "other"])


# ---- filled sheets


def test_rows_left_empty_are_allowed_and_their_examples_counted(scored, llm4rec, tmp_path, request):
    states.judged(tmp_path, None, request.getfixturevalue)
    path = states.sheet(tmp_path, ["1A,1", "1B,2", "2A,1", "2B,"])  # the second is half filled, the third is missing
    result = scored("judged", path)
    assert result["raters"] == [{"rater": "ann", "unfilled": {"clarity": 2}}]
    assert result["criteria"]["clarity"]["examples"] == 1
    out = " ".join(llm4rec("human", "score", "judged", str(path)).out.split())
    assert "ann 2 on clarity" in out
    assert "not conclusive: at least 50 examples with 3 raters each are needed" in out


def test_a_sheet_may_come_back_as_spreadsheets_write_it_and_in_another_encoding(runs, exported, scored):
    folder = exported(*runs("explanation"), "--examples", "5")
    for delimiter in (";", "\t"):
        path = fill(folder, "ann", lambda systems, row: {"clarity": "4.0", "reasonableness": "2"}, delimiter)
        path.write_text("\ufeff" + path.read_text().replace("\n", "\r\n") + delimiter * 8 + "\r\n", newline="")
        assert scored(folder, path)["criteria"]["clarity"]["systems"]["reference"]["mean_score"]["mean"] == 4
    path = fill(folder, "ann", lambda systems, row: {"text": "déjà vu", "clarity": 4})
    path.write_bytes(path.read_text().encode("cp1252"))
    assert scored(folder, path)["criteria"]["clarity"]["examples"] == 5


# ---- a chat model as a rater


def scores_the_longest_highest(request):
    """The answer of a judge that prefers long texts, on both criteria."""
    (listed,) = re.findall(r"^The texts: (.*)$", request.messages[-1]["content"], re.M)
    texts = json.loads(listed)
    scores = {label: 5 if text == max(texts.values(), key=len) else 2 for label, text in texts.items()}
    return f"Here you are: {json.dumps({'clarity': scores, 'reasonableness': scores})}"


@pytest.fixture
def chat(monkeypatch):
    """A scripted backend, which records the requests."""
    speaking = FakeBackend(scores_the_longest_highest)
    monkeypatch.setattr(completions, "build_backend", lambda *_: speaking)
    return speaking


@pytest.fixture
def by_model(llm4rec, chat, tmp_path):
    """by_model(folder, *overrides): `human judge` with an endpoint's model, and a store of the test's own."""
    typed = ("llm=openai", "llm.model=a/judge", f"llm.store={tmp_path / 'answers.sqlite'}")
    return lambda folder, *overrides: llm4rec("human", "judge", str(folder), *typed, *overrides)


def test_a_chat_model_fills_a_sheet_that_is_scored_separately_and_never_conclusive(
    headings, by_model, chat, llm4rec, scored, tmp_path
):
    folder = headings(55)
    answer = by_model(folder)
    assert answer.code == 0, answer.err
    assert len(chat.requests) == 55
    (filled,) = folder.glob("judge-judge-*.csv")
    score = llm4rec("human", "score", str(folder), str(filled))
    assert score.code == 0, score.err
    assert "not conclusive: judged by a/judge (llm-judge), not by people" in " ".join(score.out.split())
    assert not (folder / "human.json").exists()
    result = read(folder / "judge.json")
    assert (result["raters"][0]["judge"], result["labels"]) == ("a/judge", ["llm-judge"])
    assert not result["criteria"]["clarity"]["enough"]
    copies = [shutil.copy(filled, tmp_path / f"{name}.csv") for name in "abc"]
    clarity = scored(folder, *copies)["criteria"]["clarity"]
    assert (clarity["raters"], clarity["examples"], clarity["enough"]) == (3, 55, False)


def test_judging_again_sends_no_requests_prompts_reveal_no_system_and_a_check_damages_texts(headings, by_model, chat):
    folder = headings(5)
    dry = by_model(folder, "llm.dry_run=true")
    assert dry.code == 0 and "5 requests" in dry.out
    assert chat.requests == []
    first = by_model(folder)
    (filled,) = folder.glob("judge-judge-*.csv")
    written = filled.read_bytes()
    assert by_model(folder).out == first.out
    assert len(chat.requests) == 5
    for request in chat.requests:
        assert not any(name in str(request.messages) for name in ("retrieval", "reference", "seed0"))
    assert filled.read_bytes() == written
    assert by_model(folder, "--check").code == 0
    assert len(chat.requests) == 5 + 5 and filled.read_bytes() == written
    shuffled = read(folder / f"{filled.stem}-check.json")["criteria"]["clarity"]["its words shuffled"]
    assert shuffled["mean"] <= 0.5 and 0 < shuffled["n"] <= 5, "the judge reads lengths alone"
    chat.name = "another"
    assert by_model(folder).code == 0
    assert len(chat.requests) == 10 + 5
    assert len([*folder.glob("judge-judge-*.csv")]) == 2, "the first file is kept"


def test_people_and_chat_models_are_named_and_not_averaged(headings, by_model, llm4rec):
    folder = headings(5)
    assert by_model(folder).code == 0
    sheets = {"people": fill(folder, "ann", prefers_people), "a/judge": next(folder.glob("judge-judge-*.csv"))}
    answer = llm4rec("human", "score", str(folder), *map(str, sheets.values()))
    assert answer.code == 2
    assert f"a chat model filled {sheets['a/judge'].stem}, people the others" in answer.err
    for judge, filled in sheets.items():
        rows = [*csv.DictReader(llm4rec("human", "score", str(folder), str(filled), "--csv").out.splitlines())]
        assert {row["judged_by"] for row in rows} == {judge}
        means = [float(row["mean_score"]) for row in rows if row["system"] == "reference"]
        assert judge != "people" or means == [5, 4]
