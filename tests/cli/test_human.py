"""`human`: export of blind sheets, scoring of filled ones, chat models as raters; what raters see, and errors."""

import csv
import json
import re
import shutil

import pandas as pd
import pytest

from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.files import write_json
from llm4rec_cli.llm import completions
from tests.llm.fake_backend import FakeBackend
from tests.support.driver import job_of, python, read

MARKUP = (
    '</script><img src=x onerror="alert(1)">',
    "<!-- <script>alert(1)</script>",
    "{{ 7 * 7 }} ${1 + 1} 'single' \"double\"",
    "=HYPERLINK(1)",
    "",
)


@pytest.fixture
def runs(tmp_path, written):
    """runs(task): the run folders of that task under tmp_path/outputs; copies that a test may change."""
    shutil.copytree(written / "outputs", tmp_path / "outputs", dirs_exist_ok=True)
    return lambda task: sorted((tmp_path / "outputs/retrieval/demo" / task).iterdir())


@pytest.fixture
def other(runs, tmp_path):
    """other(texts, **facts): a copy of the run of explanations, by a model `other` that wrote these texts."""

    def copy(texts, name="seed0-other", **facts):
        (run,) = runs("explanation")
        folder = tmp_path / "outputs/other/demo/explanation" / name
        shutil.copytree(run, folder)
        rows = pd.read_parquet(folder / "predictions.parquet")
        predictions = [texts[i % len(texts)] for i in range(len(rows))]
        rows.assign(prediction=predictions).to_parquet(folder / "predictions.parquet", index=False)
        metrics = read(run / "metrics.json") | {"model": "other", "shown_as": "other"} | facts
        write_json(folder / "metrics.json", metrics)
        return folder

    return copy


@pytest.fixture
def exported(llm4rec, tmp_path):
    """exported(*arguments): the folder of an export."""

    def export(*arguments):
        answer = llm4rec("human", "export", *map(str, arguments), "--out", "judged")
        assert answer.code == 0, answer.err
        return tmp_path / "judged"

    return export


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


@pytest.fixture
def scored(llm4rec):
    """scored(folder, *sheets): the output of `score --json`."""

    def score(folder, *sheets):
        answer = llm4rec("human", "score", str(folder), *map(str, sheets), "--json")
        assert answer.code == 0, answer.err
        return json.loads(answer.out)

    return score


# ---- from two runs to numbers


def test_from_runs_to_numbers(runs, exported, scored):
    folder = exported(*runs("review_summary"), "--examples", "55")
    sheets = [fill(folder, rater, prefers_people) for rater in ("ann", "ben", "cem")]
    result = scored(folder, *sheets)
    assert result == read(folder / "human.json")
    clarity = result["criteria"]["clarity"]
    assert (clarity["raters"], clarity["examples"], clarity["alpha"]) == (3, 55, 1)
    assert clarity["enough"]
    assert result["synthetic"]
    reference, *others = reversed(clarity["systems"].values())
    assert reference["mean_rank"]["mean"] < min(system["mean_rank"]["mean"] for system in others)
    assert sum(system["first"]["mean"] for system in clarity["systems"].values()) == pytest.approx(1)
    assert result["criteria"]["reasonableness"]["systems"]["reference"]["mean_score"] == {"mean": 4, "interval": [4, 4]}


def test_examples_that_fewer_than_three_judged_settle_nothing(runs, exported, scored):
    folder = exported(*runs("review_summary"), "--examples", "55")
    names = list(read(folder / "key.json")["examples"])

    def judge_a_third(part):
        def judge(systems, row):
            return prefers_people(systems, row) if names.index(row["example"]) % 3 == part else {}

        return judge

    clarity = scored(folder, *(fill(folder, f"rater{part}", judge_a_third(part)) for part in range(3)))["criteria"][
        "clarity"
    ]
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

    result = scored(folder, fill(folder, "ann", judge))
    systems = result["criteria"]["clarity"]["systems"]
    assert {name: system["mean_rank"]["mean"] for name, system in systems.items()} == {
        "retrieval": (2.5 + 1) / 2,
        "other": (2.5 + 2) / 2,
        "reference": (1 + 3) / 2,
    }
    assert {name: system["first"]["mean"] for name, system in systems.items()} == {
        "retrieval": 0.5,
        "other": 0,
        "reference": 0.5,
    }
    assert systems["reference"]["mean_score"] == {"mean": 3, "interval": [1, 5]}
    assert result["criteria"]["clarity"]["alpha"] is None
    assert result["criteria"]["reasonableness"] == {
        "raters": 0,
        "examples": 0,
        "enough": False,
        "judgements": 0,
        "alpha": None,
        "systems": {},
    }


def test_a_text_of_two_systems_is_shown_once_and_counts_for_both(other, runs, exported, scored):
    other(["the same"], "seed0-one")
    other(["the same"], "seed0-two")
    folder = exported("seed0-one", "seed0-two", "--examples", "5", "--scale", "rank")
    assert {row["label"] for row in rows_of(folder)} == {"A", "B"}

    def judge(systems, row):
        return dict.fromkeys(("clarity", "reasonableness"), 2 if "reference" in systems else 1)

    systems = scored(folder, fill(folder, "ann", judge))["criteria"]["clarity"]["systems"]
    assert {name: system["mean_rank"]["mean"] for name, system in systems.items()} == {
        "other seed0-one": 1.5,
        "other seed0-two": 1.5,
        "reference": 3,
    }
    assert [system["first"]["mean"] for system in systems.values()] == [0.5, 0.5, 0]
    assert all(system["mean_score"] is None for system in systems.values())


# ---- what raters see


def test_a_sheet_does_not_reveal_the_system_of_a_text(other, runs, exported):
    other(["a text"])
    folder = exported(*runs("explanation"), "other/demo/explanation/seed0")
    page, table = (folder / "sheet.html").read_text(), (folder / "sheet.csv").read_text()
    key = read(folder / "key.json")
    for revealing in ("retrieval", "reference", "seed0", "outputs", key["runs"][0]["config_hash"]):
        assert revealing not in page + table
    labels_of_other = {
        label for labels in key["examples"].values() for label, systems in labels.items() if "other" in systems
    }
    assert labels_of_other == {"A", "B", "C"}


def test_labels_and_sample_are_a_function_of_the_seed(runs, llm4rec, tmp_path):
    run = str(*runs("explanation"))
    keys = []
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert llm4rec("human", "export", run, "--out", out, "--seed", str(seed)).code == 0
        keys.append(read(tmp_path / out / "key.json")["examples"])
    assert keys[0] == keys[1]
    assert keys[0].keys() != keys[2].keys()
    assert (tmp_path / "a/sheet.html").read_text() == (tmp_path / "b/sheet.html").read_text()


def demo(cache):
    """The prepared dataset."""
    return prepare(job_of("dataset=demo").config.dataset, cache / "llm4rec")


def test_an_explanation_shows_item_and_stars_and_no_review(runs, exported, cache):
    folder = exported(*runs("explanation"))
    titles = set(demo(cache).items["title"])
    rows = rows_of(folder)
    assert {row["item"] for row in rows} <= titles
    assert {row["stars"] for row in rows} <= set("12345")
    assert {row["review"] for row in rows} == {""}


def test_a_heading_shows_the_review_that_it_heads(runs, exported, cache):
    folder = exported(*runs("review_summary"))
    reviews = demo(cache).interactions.groupby("review_text")["review_title"].agg(set)
    key = read(folder / "key.json")["examples"]
    own = [row for row in rows_of(folder) if "reference" in key[row["example"]][row["label"]]]
    assert len(own) == 50
    assert all(row["text"] in reviews[row["review"]] for row in own)


def test_page_and_table_hold_the_same(runs, exported):
    folder = exported(*runs("review_summary"))
    shown = shown_in((folder / "sheet.html").read_text())
    rows = [
        (example["name"], example["item"], example["stars"], example["review"], label, text)
        for example in shown["examples"]
        for label, text in example["texts"].items()
    ]
    assert rows == [tuple(row.values())[:6] for row in rows_of(folder)]


def test_markup_in_texts_is_not_interpreted(other, exported):
    folder = exported(other(MARKUP), "--examples", "60")
    page = (folder / "sheet.html").read_text()
    assert page.count("</script>") == page.count("<script") == 2
    assert "<img" not in page
    assert "<!--" not in page
    texts = {text for example in shown_in(page)["examples"] for text in example["texts"].values()}
    assert {*MARKUP[:4], "(no text)"} <= texts


def test_no_cell_is_a_formula(other, exported):
    rows = rows_of(exported(other(MARKUP), "--examples", "60"))
    assert "'=HYPERLINK(1)" in {row["text"] for row in rows}
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())


def test_the_page_loads_nothing(runs, exported):
    page = (exported(*runs("explanation")) / "sheet.html").read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)\s*=\s*["']|https?:|@import|url\(""", page)


def test_texts_that_differ_in_entities_and_spaces_are_identical(other, runs, exported):
    (run,) = runs("explanation")
    people = pd.read_parquet(run / "predictions.parquet")["reference"]
    folder = exported(run, other([text.replace(" ", "&#32; ") for text in people]))
    for labels in read(folder / "key.json")["examples"].values():
        assert any({"other", "reference"} <= set(systems) for systems in labels.values())


# ---- which examples


def test_examples_with_identical_texts_are_excluded_and_counted(other, runs, llm4rec, tmp_path):
    (run,) = runs("explanation")
    people = pd.read_parquet(run / "predictions.parquet")["reference"].tolist()
    folder = other([*people[:50], *["something else"] * 10])
    answer = llm4rec("human", "export", str(folder), "--out", "judged")
    assert "exported 10 of 60 shared examples; excluded because all texts are identical: 50" in answer.out
    assert "the results will not be conclusive" in answer.out
    assert len(read(tmp_path / "judged/key.json")["examples"]) == 10


def test_nothing_to_judge_is_refused(other, runs, llm4rec):
    (run,) = runs("explanation")
    people = pd.read_parquet(run / "predictions.parquet")["reference"].tolist()
    answer = llm4rec("human", "export", str(other(people)), "--out", "judged")
    assert answer.code == 1
    assert "have identical texts" in answer.err


def test_only_examples_that_all_runs_share_are_sampled(other, runs, exported):
    folder = other(["a text"])
    file = folder / "predictions.parquet"
    pd.read_parquet(file)[:7].to_parquet(file, index=False)
    assert len(read(exported(*runs("explanation"), folder) / "key.json")["examples"]) == 7


def test_without_the_reference_only_runs_are_judged(other, runs, exported):
    folder = exported(*runs("explanation"), other(["a text"]), "--no-reference")
    assert read(folder / "key.json")["systems"] == ["retrieval", "other"]


# ---- refusals of export


# ---- filled sheets


@pytest.fixture
def judged(runs, exported):
    """An export of three examples, in ranks."""
    return exported(*runs("explanation"), "--examples", "3", "--scale", "rank", "--criteria", "clarity")


def sheet(folder, *lines, name="ann"):
    """A filled sheet with these lines below the header; `1A` means label A of the first example."""
    names = list(read(folder / "key.json")["examples"])
    text = [re.sub(r"^(\d)([A-Z])", lambda match: f"{names[int(match[1]) - 1]},{match[2]}", line) for line in lines]
    path = folder.parent / f"{name}.csv"
    path.write_text("\n".join(["example,label,clarity", *text]) + "\n")
    return path


def test_rows_left_empty_are_allowed_and_their_examples_counted(judged, scored, llm4rec):
    path = sheet(judged, "1A,1", "1B,2", "2A,1", "2B,")  # the second is half filled, the third is missing
    result = scored(judged, path)
    assert result["raters"] == [{"rater": "ann", "unfilled": {"clarity": 2}}]
    assert result["criteria"]["clarity"]["examples"] == 1
    assert "ann 2 on clarity" in llm4rec("human", "score", "judged", str(path)).out


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_sheet_may_come_back_as_spreadsheets_write_it(runs, exported, scored, delimiter):
    folder = exported(*runs("explanation"), "--examples", "5")
    path = fill(folder, "ann", lambda systems, row: {"clarity": "4.0", "reasonableness": "2"}, delimiter)
    path.write_text("\ufeff" + path.read_text().replace("\n", "\r\n") + delimiter * 8 + "\r\n", newline="")
    assert scored(folder, path)["criteria"]["clarity"]["systems"]["reference"]["mean_score"]["mean"] == 4


def test_a_sheet_may_come_back_in_another_encoding(runs, exported, scored):
    folder = exported(*runs("explanation"), "--examples", "5")
    path = fill(folder, "ann", lambda systems, row: {"text": "déjà vu", "clarity": 4})
    path.write_bytes(path.read_text().encode("cp1252"))
    assert scored(folder, path)["criteria"]["clarity"]["examples"] == 5


# ---- output


def test_the_table_says_whether_it_is_conclusive(judged, llm4rec):
    paths = [sheet(judged, "1A,1", "1B,2", "2A,2", "2B,1", name=name) for name in ("ann", "ben")]
    out = " ".join(llm4rec("human", "score", "judged", *map(str, paths)).out.split())
    assert "clarity · demo · explanation · test" in out
    assert "2 raters and 2 examples; Krippendorff's alpha (ordinal): 1.00" in out
    assert "not conclusive: at least 50 examples with 3 raters each are needed" in out
    assert "synthetic data" in out
    assert "mean score" not in out


def test_csv_has_one_row_per_criterion_and_system(runs, exported, llm4rec):
    folder = exported(*runs("explanation"))
    answer = llm4rec("human", "score", "judged", str(fill(folder, "ann", prefers_people)), "--csv")
    rows = list(csv.DictReader(answer.out.splitlines()))
    assert [(row["criterion"], row["system"]) for row in rows] == [
        (criterion, system) for criterion in ("clarity", "reasonableness") for system in ("retrieval", "reference")
    ]
    assert (rows[1]["mean_score"], rows[1]["first"], rows[1]["n"], rows[1]["alpha"]) == ("5.0", "1.0", "50", "")


def test_the_same_sheets_give_the_same_numbers(runs, exported, scored):
    folder = exported(*runs("review_summary"))
    path = fill(folder, "ann", prefers_people)
    assert scored(folder, path) == scored(folder, path)


def test_torch_is_never_imported(judged, tmp_path, cache):
    path = sheet(judged, "1A,1", "1B,2")
    process = python(
        "import os, sys; from llm4rec_cli.cli import main; "
        f"os.environ['XDG_CACHE_HOME'] = {str(cache)!r}; "
        "assert main(['human', 'export', 'retrieval/demo/explanation/seed0', '--out', 'more']) == 0; "
        f"assert main(['human', 'score', 'judged', {str(path)!r}]) == 0; "
        "assert 'torch' not in sys.modules",
        tmp_path,
    )
    assert process.returncode == 0, process.stderr


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
    store = f"llm.store={tmp_path / 'answers.sqlite'}"
    return lambda folder, *overrides: llm4rec(
        "human", "judge", str(folder), "llm=openai", "llm.model=a/judge", store, *overrides
    )


def test_a_chat_model_fills_a_sheet_that_is_scored_separately(runs, exported, by_model, chat, llm4rec):
    folder = exported(*runs("review_summary"), "--examples", "55")
    answer = by_model(folder)
    assert answer.code == 0, answer.err
    assert "clarity: 55 of 55 examples fully judged" in answer.out
    assert "marked as filled by a chat model" in answer.out
    assert len(chat.requests) == 55
    (filled,) = folder.glob("judge-judge-*.csv")
    score = llm4rec("human", "score", str(folder), str(filled))
    assert score.code == 0, score.err
    shown = " ".join(score.out.split())
    assert "1 chat model and 55 examples" in shown
    assert "not conclusive: judged by a/judge (llm-judge), not by people" in shown
    assert not (folder / "human.json").exists(), "human.json is what claims read"
    result = read(folder / "judge.json")
    assert result["raters"][0]["judge"] == "a/judge"
    assert result["labels"] == ["llm-judge"]
    assert not result["criteria"]["clarity"]["enough"]


def test_a_judge_is_checked_with_damaged_texts(runs, exported, by_model, chat):
    folder = exported(*runs("review_summary"), "--examples", "5")
    answer = by_model(folder, "--check")
    assert answer.code == 0, answer.err
    (filled,) = folder.glob("judge-judge-??????.csv")
    check = read(folder / f"{filled.stem}-check.json")
    assert check["judge"] == "a/judge"
    shuffled = check["criteria"]["clarity"]["its words shuffled"]
    assert shuffled["mean"] <= 0.5 and 0 < shuffled["n"] <= 5, "the judge reads lengths alone"
    assert "check of a/judge as a judge" in answer.out and "> shuffled" in answer.out
    assert len(chat.requests) == 5 + 5
    assert by_model(folder).code == 0
    assert (folder / f"{filled.stem}.csv").read_bytes() == filled.read_bytes()


def test_chat_models_are_never_conclusive(runs, exported, by_model, scored, tmp_path):
    folder = exported(*runs("review_summary"), "--examples", "55")
    assert by_model(folder).code == 0
    (filled,) = folder.glob("judge-judge-*.csv")
    copies = [shutil.copy(filled, tmp_path / f"{name}.csv") for name in "abc"]
    clarity = scored(folder, *copies)["criteria"]["clarity"]
    assert (clarity["raters"], clarity["examples"], clarity["enough"]) == (3, 55, False)


def test_a_prompt_does_not_reveal_the_systems(runs, exported, by_model, chat):
    folder = exported(*runs("review_summary"), "--examples", "5")
    assert by_model(folder).code == 0
    for request in chat.requests:
        assert not any(name in str(request.messages) for name in ("retrieval", "reference", "seed0"))


def test_judging_again_sends_no_requests(runs, exported, by_model, chat):
    folder = exported(*runs("review_summary"), "--examples", "5")
    first = by_model(folder)
    (filled,) = folder.glob("judge-judge-*.csv")
    written = filled.read_bytes()
    assert by_model(folder).out == first.out
    assert len(chat.requests) == 5
    assert filled.read_bytes() == written
    chat.name = "another"
    assert by_model(folder).code == 0
    assert len(chat.requests) == 10
    assert len([*folder.glob("judge-judge-*.csv")]) == 2, "the first file is kept"


def test_people_and_chat_models_are_not_averaged(runs, exported, by_model, llm4rec):
    folder = exported(*runs("review_summary"), "--examples", "5")
    assert by_model(folder).code == 0
    (filled,) = folder.glob("judge-judge-*.csv")
    answer = llm4rec("human", "score", str(folder), str(fill(folder, "ann", prefers_people)), str(filled))
    assert answer.code == 2
    assert f"a chat model filled {filled.stem}, people the others" in answer.err


def test_csv_names_the_judge(runs, exported, by_model, llm4rec):
    folder = exported(*runs("review_summary"), "--examples", "5")
    assert by_model(folder).code == 0
    sheets = {"people": fill(folder, "ann", prefers_people), "a/judge": next(folder.glob("judge-judge-*.csv"))}
    for judge, filled in sheets.items():
        answer = llm4rec("human", "score", str(folder), str(filled), "--csv")
        assert {row["judged_by"] for row in csv.DictReader(answer.out.splitlines())} == {judge}


def test_answers_without_judgements_are_refused_with_the_first_one(runs, exported, by_model, chat):
    folder = exported(*runs("review_summary"), "--examples", "5")
    chat.reply = lambda _: "I like them all."
    answer = by_model(folder)
    assert answer.code == 1
    assert "none of 5 answers judges an example; the first is 'I like them all.'" in answer.err
    assert not list(folder.glob("judge-*"))


def test_a_dry_run_of_a_judge_sends_no_requests(runs, exported, by_model, chat):
    folder = exported(*runs("review_summary"), "--examples", "5")
    answer = by_model(folder, "llm.dry_run=true")
    assert answer.code == 0
    assert "5 requests" in answer.out and "The texts:" in answer.out
    assert chat.requests == []
