"""`recommend`: the top items for a user or for titles, as evaluation ranks them; ambiguous titles are logged."""

import io
import json
import sys

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from llm4rec_cli.data.prepare import prepare
from tests.cli import states
from tests.support.driver import TINY, compose

POPULARITY = ("recommend", "model=popularity", "dataset=mine")
READS_TEXT = ("recommend", "model=transition_text", "model.text_weights=[4]", "dataset=mine")


@pytest.fixture
def movies(tmp_path):
    """`dataset=mine`: a few films, two of one title."""
    states.movies(tmp_path)


@pytest.fixture(scope="session")
def demo(cache):
    """The prepared demo data."""
    return prepare(OmegaConf.to_object(compose().dataset), cache / "llm4rec")


def rows_of(answer):
    """The objects of a JSON answer, best first."""
    assert answer.code == 0, answer.err
    return [json.loads(line) for line in answer.out.splitlines()]


def items(answer):
    return [row["item_id"] for row in rows_of(answer)]


def history(dataset, user):
    return dataset.sequence[dataset.offsets[user] : dataset.offsets[user + 1]]


def titled(*titles):
    """The options that name these items."""
    return [part for title in titles for part in ("--title", title)]


# ---- the same numbers as evaluation


def test_for_the_history_of_an_example_the_items_are_those_that_evaluation_ranked_first(
    llm4rec, trained, demo, tmp_path
):
    def titles(numbers):
        return titled(*demo.items["title"].iloc[numbers])

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != ".lock"}
    for row in (0, 41, 99):
        example = pd.read_parquet(trained / "predictions.parquet").iloc[row]
        known = history(demo, list(demo.user_ids).index(example["user_id"]))[:-1]  # the last one is the target
        assert len(known) == example["history_length"]
        assert items(llm4rec("recommend", "--again", "--json", *titles(known))) == list(example["top_items"])
    by_id = llm4rec("recommend", "--user", demo.user_ids[7], "--json")
    by_titles = llm4rec("recommend", "--json", *titles(history(demo, 7)))
    assert items(by_id) == items(by_titles), "all that the data knows"
    forth, back = (llm4rec("recommend", "--json", "--again", *titles(order)) for order in ([3, 50], [50, 3]))
    assert forth.out != back.out
    assert llm4rec("recommend", "model=popularity", "--user", demo.user_ids[0]).code == 0
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != ".lock"}
    assert after == before, "nothing is written"


# ---- what is shown


def test_items_of_the_history_are_left_out_or_marked(llm4rec, movies):
    bob = (*POPULARITY, "--user", "bob")
    assert items(llm4rec(*bob, "--json")) == ["i1", "i3"]
    rows = rows_of(llm4rec(*bob, "--json", "--again"))
    assert [row["item_id"] for row in rows] == ["i0", "i2", "i1", "i3", "i4", "i5"]  # of equals the lower number first
    assert [row["in_history"] for row in rows] == [True, True, False, False, True, True]
    (first,) = rows_of(llm4rec(*bob, "--json", "--k", "1"))
    shown = {"rank": 1, "item_id": "i1", "title": "Sabrina (1954)", "score": 2}
    assert first == shown | {"in_history": False, "is_new": False, "titles_as_text": []}
    assert llm4rec(*bob, "--k", "1").out.split()[-5:] == ["1", "i1", "Sabrina", "(1954)", "2.0000"]
    assert items(llm4rec(*POPULARITY, "--title", "Heat", "--json", "--k", "2")) == ["i0", "i2"]
    assert llm4rec(*bob, "--explain").out.splitlines()[-1] == "the history has no effect on these scores"


# ---- which model


def test_the_trained_run_is_chosen_as_by_eval(llm4rec, trained, demo, tmp_path):
    other = llm4rec("train", *TINY, "seed=1").folder
    command = ("recommend", "--user", demo.user_ids[0], "--json")
    newest, named = llm4rec(*command), llm4rec(*command, f"run={trained.relative_to(tmp_path)}")
    assert other.name in newest.err
    assert trained.name in named.err
    assert newest.out == llm4rec(*command, "seed=1").out != named.out == llm4rec(*command, "seed=0").out


# ---- titles


def test_a_title_in_another_form_matches_silently(llm4rec, movies):
    for typed in ("Matrix, The (1999)", "the matrix", "MATRIX"):
        answer = llm4rec(*POPULARITY, "--title", typed)
        assert ("1 item: 'Matrix, The (1999)'" in answer.out, answer.err) == (True, "")
    answer = llm4rec(*POPULARITY, f"--title={states.AWKWARD}")
    assert (f"1 item: '{states.AWKWARD}'" in answer.out, answer.err) == (True, "")


def test_a_misspelt_or_ambiguous_title_is_matched_and_logged_without_a_terminal(llm4rec, movies):
    answer = llm4rec(*POPULARITY, "--title", "star warz", "--json")
    assert "using 'Star Wars (1977)' for 'star warz'" in answer.err
    assert "i5" not in items(answer)
    answer = llm4rec(*POPULARITY, "--title", "sabrina")
    assert "2 items are titled 'sabrina'" in answer.err
    assert "i2 'Sabrina (1995)', not i1 'Sabrina (1954)'" in answer.err


@pytest.fixture
def typing(monkeypatch):
    """typing(text): a terminal where the user types this text."""

    class Keyboard(io.StringIO):
        def isatty(self):
            return True

    def type_text(text):
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setattr(sys, "stdin", Keyboard(text))

    return type_text


def test_on_a_terminal_the_user_chooses_among_similar_titles_or_none(llm4rec, movies, typing):
    def answer(command, typed):
        typing(typed)
        return llm4rec(*command, "--title", "sabrinna")

    assert "1 item: 'Sabrina (1954)'" in answer(POPULARITY, "2\n").out
    assert "1 item: 'Sabrina (1995)'" in answer(POPULARITY, "\n").out
    assert [answer(POPULARITY, typed).code for typed in ("0\n", "")] == [2, 2]
    as_text = ["its text is used" in answer(READS_TEXT, typed).out for typed in ("0\n", "1\n")]
    assert as_text == [True, False]


# ---- any text as a title, and new items


@pytest.fixture
def new_items(tmp_path, movies):
    """A file of two new films."""
    (tmp_path / "new.csv").write_text("item_id,title\nn0,Star Wars Return\nn1,Sabrina Heat\n")
    return "new.csv"


def test_a_title_that_no_item_has_is_used_as_text_if_the_model_reads_text(llm4rec, movies):
    rows = rows_of(llm4rec(*READS_TEXT, "--title", "heat wars", "--k", "2", "--json"))
    assert {row["item_id"] for row in rows} == {"i3", "i5"}  # Heat and Star Wars
    assert all(row["titles_as_text"] == ["heat wars"] for row in rows)
    twice = rows_of(llm4rec(*READS_TEXT, *titled("heat wars", "heat wars"), "--json"))
    assert twice[0]["titles_as_text"] == ["heat wars"]
    assert twice[0]["score"] == pytest.approx(1.5 * rows[0]["score"])


def test_new_items_are_ranked_with_the_catalogue_and_marked(llm4rec, new_items):
    command = (*READS_TEXT, "--title", "Star Wars", "--new-items", new_items, "--k", "9")
    rows = rows_of(llm4rec(*command, "--json"))
    assert [row["item_id"] for row in rows if row["is_new"]] == ["n0", "n1"]
    assert len(rows) == 7  # all but Star Wars
    assert rows[0]["item_id"] == "n0"
    alone = rows_of(llm4rec(*command, "--only-new", "--json"))
    assert alone == [{**row, "rank": rank} for rank, row in enumerate((r for r in rows if r["is_new"]), start=1)]
    catalogue = rows_of(llm4rec(*READS_TEXT, "--title", "Star Wars", "--k", "9", "--json"))
    assert [row["score"] for row in catalogue] == [row["score"] for row in rows if not row["is_new"]]
    of_new = rows_of(llm4rec(*READS_TEXT, "--title", "sabrina heat", "--new-items", new_items, "--json", "--again"))
    assert [row["item_id"] for row in of_new if row["in_history"]] == ["n1"]
    assert of_new[0]["titles_as_text"] == []
    (first, _) = rows_of(llm4rec(*READS_TEXT, "--user", "bob", "--new-items", new_items, "--only-new", "--json"))
    assert first["item_id"] == "n0"  # of bob's items Star Wars is the last
    both = (*titled("sabrina heat", "star wars return"), "--new-items", new_items, "--only-new", "--explain")
    assert "the model ranks none of these items" in llm4rec(*READS_TEXT, *both).out


def test_an_explanation_names_the_items_of_the_history_by_their_effect(llm4rec, movies):
    command = (*READS_TEXT, *titled("Star Wars", "heat it"), "--explain")
    rows = rows_of(llm4rec(*command, "--json"))
    for row in rows:
        effects = [reason["effect"] for reason in row["because"]]
        assert {reason["title"] for reason in row["because"]} == {"Star Wars (1977)", "heat it"}
        assert effects == sorted(effects, reverse=True)
    heat = next(row for row in rows if row["item_id"] == "i3")
    named = [(reason["item_id"], reason["title"]) for reason in heat["because"]]
    assert named == [(None, "heat it"), ("i5", "Star Wars (1977)")]
    assert heat["because"][0]["effect"] == pytest.approx(heat["score"])
    assert f"   1  Heat (1995)\n        {heat['score']:+.4f}  heat it\n" in llm4rec(*command).out
    unread = llm4rec(*POPULARITY, "--user", "bob", "--explain").out
    assert unread.splitlines()[-1] == "the history has no effect on these scores"


# ---- the command line


def test_scores_that_are_not_numbers_are_an_error(llm4rec, movies, monkeypatch):
    from llm4rec_cli.models.baselines import popularity as model

    monkeypatch.setattr(model, "build", lambda context: model.Popularity(np.full(context.split.n_items, np.nan)))
    answer = llm4rec(*POPULARITY, "--user", "bob")
    assert answer.code == 1
    assert "not numbers" in answer.err
