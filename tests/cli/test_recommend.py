"""`recommend`: the top items for a user or for titles, as evaluation ranks them; ambiguous titles are logged."""

import io
import json
import sys

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from llm4rec_cli.data.prepare import prepare
from tests.data.sources import real
from tests.support.driver import TINY, compose, python

AWKWARD = """It's "A" {test}, [x]=1, $HOME & more!"""
TITLES = ["Matrix, The (1999)", "Sabrina (1954)", "Sabrina (1995)", "Heat (1995)", AWKWARD, "Star Wars (1977)"]
# Users' items, oldest first. In training, all but the last two, item 0 occurs 4 times, 2 three times, 1 twice, 3 once.
SEQUENCES = {"ann": [0, 2, 1, 3], "bob": [0, 2, 4, 5], "cat": [0, 2, 3, 4], "dan": [0, 1, 1, 2, 5], "eve": [3, 4, 5]}
POPULARITY = ("recommend", "model=popularity", "dataset=mine")


@pytest.fixture
def movies(tmp_path):
    """`dataset=mine`: a few films in RecBole's files, two of one title."""
    rows = [f"{user}\ti{item}\t{time}" for user, items in SEQUENCES.items() for time, item in enumerate(items)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/mine.inter").write_text("\n".join([header, *rows, ""]))
    named = [f"i{i}\t{title}" for i, title in enumerate(TITLES)]
    (tmp_path / "raw/mine.item").write_text("\n".join(["item_id:token\tmovie_title:token_seq", *named, ""]))
    own = tmp_path / "conf/dataset/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(
        "defaults: [_dataset, _self_]\nname: mine\nreader: recbole\nraw_dir: raw\nuser_core: 1\nitem_core: 1\n"
        "domains:\n  films: {interactions: mine.inter, items: mine.item}\n"
    )
    return own


@pytest.fixture(scope="session")
def demo(cache):
    """The prepared demo data."""
    return prepare(OmegaConf.to_object(compose().dataset), cache / "llm4rec")


def items(answer):
    """The item ids of a JSON answer, best first."""
    assert answer.code == 0, answer.err
    return [json.loads(line)["item_id"] for line in answer.out.splitlines()]


def history(dataset, user):
    return dataset.sequence[dataset.offsets[user] : dataset.offsets[user + 1]]


def titled(dataset, numbers):
    """The options that name these items."""
    return [part for title in dataset.items["title"].iloc[numbers] for part in ("--title", title)]


# ---- the same numbers as evaluation


@pytest.mark.parametrize("row", [0, 41, 99])
def test_for_the_history_of_an_example_the_items_are_those_that_evaluation_ranked_first(llm4rec, trained, demo, row):
    example = pd.read_parquet(trained / "predictions.parquet").iloc[row]
    known = history(demo, list(demo.user_ids).index(example["user_id"]))[:-1]  # the last one is the target
    assert len(known) == example["history_length"]
    answer = llm4rec("recommend", "--again", "--json", *titled(demo, known))
    assert items(answer) == list(example["top_items"])


def test_a_users_history_is_all_that_the_data_knows(llm4rec, trained, demo):
    by_id = llm4rec("recommend", "--user", demo.user_ids[7], "--json")
    by_titles = llm4rec("recommend", "--json", *titled(demo, history(demo, 7)))
    assert items(by_id) == items(by_titles)


def test_the_order_of_titles_is_the_order_of_the_history(llm4rec, trained, demo):
    forth = llm4rec("recommend", "--json", "--again", *titled(demo, [3, 50]))
    back = llm4rec("recommend", "--json", "--again", *titled(demo, [50, 3]))
    assert forth.out != back.out


# ---- what is shown


def test_items_of_the_history_are_left_out(llm4rec, movies):
    assert items(llm4rec(*POPULARITY, "--user", "bob", "--json")) == ["i1", "i3"]


def test_with_again_they_are_recommended_and_marked(llm4rec, movies):
    answer = llm4rec(*POPULARITY, "--user", "bob", "--json", "--again")
    rows = [json.loads(line) for line in answer.out.splitlines()]
    assert [row["item_id"] for row in rows] == ["i0", "i2", "i1", "i3", "i4", "i5"]  # of equals the lower number first
    assert [row["in_history"] for row in rows] == [True, True, False, False, True, True]


def test_json_is_one_object_an_item(llm4rec, movies):
    (line,) = llm4rec(*POPULARITY, "--user", "bob", "--json", "--k", "1").out.splitlines()
    assert json.loads(line) == {
        "rank": 1,
        "item_id": "i1",
        "title": "Sabrina (1954)",
        "score": 2,
        "in_history": False,
        "is_new": False,
        "titles_as_text": [],
    }


def test_the_table_says_for_whom_and_from_what(llm4rec, movies):
    answer = llm4rec(*POPULARITY, "--user", "bob", "--k", "1")
    first, *_, last = [line for line in answer.out.splitlines() if line.strip()]
    assert first.startswith("popularity on mine for user bob, 4 items, the latest 'Sabrina (1995)'")
    assert last.split() == ["1", "i1", "Sabrina", "(1954)", "2.0000"]


def test_k_is_how_many(llm4rec, movies):
    assert items(llm4rec(*POPULARITY, "--title", "Heat", "--json", "--k", "2")) == ["i0", "i2"]


def test_nothing_is_written(llm4rec, trained, demo, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert llm4rec("recommend", "--user", demo.user_ids[0]).code == 0
    assert llm4rec("recommend", "model=popularity", "--user", demo.user_ids[0]).code == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# ---- which model


def test_the_trained_run_is_chosen_as_by_eval(llm4rec, trained, demo, tmp_path):
    other = llm4rec("train", *TINY, "seed=1").folder
    command = ("recommend", "--user", demo.user_ids[0], "--json")
    newest, named = llm4rec(*command), llm4rec(*command, f"run={trained.relative_to(tmp_path)}")
    assert other.name in newest.err
    assert trained.name in named.err
    assert newest.out == llm4rec(*command, "seed=1").out != named.out == llm4rec(*command, "seed=0").out


def test_a_model_that_knows_users_by_number_serves_users(llm4rec, movies):
    first, other = (
        llm4rec("recommend", "model=random", "dataset=mine", "--json", "--again", "--user", user).out
        for user in ("ann", "bob")
    )
    assert first != other


# ---- users


# ---- titles


@pytest.mark.parametrize("typed", ["Matrix, The (1999)", "the matrix", "MATRIX"])
def test_a_title_in_another_form_matches_silently(llm4rec, movies, typed):
    answer = llm4rec(*POPULARITY, "--title", typed)
    assert "1 item: 'Matrix, The (1999)'" in answer.out
    assert answer.err == ""


def test_quotes_commas_brackets_and_equals_signs_are_free_text(llm4rec, movies):
    answer = llm4rec(*POPULARITY, "--title", AWKWARD, f"--title={AWKWARD}")
    assert f"2 items: '{AWKWARD}', '{AWKWARD}'" in answer.out
    assert answer.err == ""


def test_a_misspelt_title_is_matched_and_logged_without_a_terminal(llm4rec, movies):
    answer = llm4rec(*POPULARITY, "--title", "star warz", "--json")
    assert "using 'Star Wars (1977)' for 'star warz'" in answer.err
    assert "i5" not in items(answer)


def test_of_two_items_with_one_title_the_choice_is_logged(llm4rec, movies):
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


@pytest.mark.parametrize(("typed", "title"), [("2\n", "Sabrina (1954)"), ("\n", "Sabrina (1995)")])
def test_on_a_terminal_the_user_chooses_among_similar_titles(llm4rec, movies, typing, typed, title):
    typing(typed)
    answer = llm4rec(*POPULARITY, "--title", "sabrinna")
    assert "1  Sabrina (1995)" in answer.err
    assert "2  Sabrina (1954)" in answer.err
    assert f"1 item: '{title}'" in answer.out


@pytest.mark.parametrize("typed", ["0\n", ""])
def test_on_a_terminal_the_user_may_choose_none(llm4rec, movies, typing, typed):
    typing(typed)
    answer = llm4rec(*POPULARITY, "--title", "sabrinna")
    assert answer.code == 2
    assert "no title in dataset mine is 'sabrinna'" in answer.err


def test_without_titles_users_are_served_by_item_ids_and_titles_refused(llm4rec, movies):
    movies.write_text(movies.read_text().replace(", items: mine.item", ""))
    answer = llm4rec(*POPULARITY, "--user", "bob")
    assert answer.code == 0, answer.err
    assert "the latest 'i2', 'i4', 'i5'" in answer.out
    assert "title" not in answer.out
    refused = llm4rec(*POPULARITY, "--title", "Heat")
    assert refused.code == 2
    assert "dataset mine has no titles, only item ids such as 'i0', 'i1', 'i2'" in refused.err


@pytest.mark.real_data
def test_titles_of_movielens_match(llm4rec):
    typed = (
        "the godfather",
        "sabrina",
        "star warz",
        "dr strangelove or how i learned to stop worying and love the bomb",
    )
    answer = llm4rec(
        "recommend",
        "model=popularity",
        "dataset=ml-100k",
        f"dataset.raw_dir={real('ml-100k')}",
        *(part for title in typed for part in ("--title", title)),
    )
    assert answer.code == 0, answer.err
    assert "'Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb'" in answer.out
    log_lines = [line.split(" ", 1)[1] for line in answer.err.splitlines() if "columns not used" not in line]
    assert log_lines[0].startswith("2 items are titled 'sabrina': using the most frequent")
    assert log_lines[1] == "using 'Star Wars' for 'star warz'"
    assert len(log_lines) == 3
    ranked = [line.split() for line in answer.out.splitlines() if line[:5].strip().isdigit()]
    assert [words[1] for words in ranked[:2]] == ["100", "181"]  # less Star Wars itself


# ---- any text as a title, and new items


READS_TEXT = ("recommend", "model=transition_text", "model.text_weights=[4]", "dataset=mine")


@pytest.fixture
def new_items(tmp_path):
    """A file of two new films."""
    (tmp_path / "new.csv").write_text("item_id,title\nn0,Star Wars Return\nn1,Sabrina Heat\n")
    return "new.csv"


def rows_of(answer):
    assert answer.code == 0, answer.err
    return [json.loads(line) for line in answer.out.splitlines()]


def test_a_title_that_no_item_has_is_used_as_text_if_the_model_reads_text(llm4rec, movies):
    answer = llm4rec(*READS_TEXT, "--title", "heat wars", "--title", "Matrix", "--k", "6", "--again")
    heading, note, *table = answer.out.splitlines()
    assert "2 items: 'heat wars', 'Matrix, The (1999)'" in heading
    assert note == "'heat wars' is not in the catalogue: its text is used"
    assert not any("heat wars" in line for line in table), "what was typed is no item"
    rows = rows_of(llm4rec(*READS_TEXT, "--title", "heat wars", "--k", "2", "--json"))
    assert {row["item_id"] for row in rows} == {"i3", "i5"}  # Heat and Star Wars
    assert all(row["titles_as_text"] == ["heat wars"] for row in rows)


def test_a_text_is_the_same_wherever_and_however_often_it_is_typed(llm4rec, movies):
    twice = rows_of(llm4rec(*READS_TEXT, "--title", "heat wars", "--title", "heat wars", "--json"))
    assert twice[0]["titles_as_text"] == ["heat wars"]
    assert twice[0]["score"] == pytest.approx(
        1.5 * rows_of(llm4rec(*READS_TEXT, "--title", "heat wars", "--json"))[0]["score"]
    )


def test_new_items_are_ranked_with_the_catalogue_and_marked(llm4rec, movies, new_items):
    command = (*READS_TEXT, "--title", "Star Wars", "--new-items", new_items, "--k", "9")
    rows = rows_of(llm4rec(*command, "--json"))
    assert [row["item_id"] for row in rows if row["is_new"]] == ["n0", "n1"]
    assert len(rows) == 7  # all but Star Wars
    assert rows[0]["item_id"] == "n0"
    alone = rows_of(llm4rec(*command, "--only-new", "--json"))
    assert alone == [{**row, "rank": rank} for rank, row in enumerate((r for r in rows if r["is_new"]), start=1)]
    catalogue = rows_of(llm4rec(*READS_TEXT, "--title", "Star Wars", "--k", "9", "--json"))
    assert [row["score"] for row in catalogue] == [row["score"] for row in rows if not row["is_new"]]
    shown = llm4rec(*command)
    assert "2 new items are ranked with the 6 of the catalogue" in shown.out
    assert [line.split()[-1] for line in shown.out.splitlines() if " n0 " in line or " n1 " in line] == ["yes", "yes"]


def test_a_title_of_a_new_item_is_that_item(llm4rec, movies, new_items):
    rows = rows_of(llm4rec(*READS_TEXT, "--title", "sabrina heat", "--new-items", new_items, "--json", "--again"))
    assert [row["item_id"] for row in rows if row["in_history"]] == ["n1"]
    assert rows[0]["titles_as_text"] == []


def test_users_are_recommended_new_items_too(llm4rec, movies, new_items):
    (first, _) = rows_of(llm4rec(*READS_TEXT, "--user", "bob", "--new-items", new_items, "--only-new", "--json"))
    assert first["item_id"] == "n0"  # of bob's items Star Wars is the last


def test_if_nothing_can_be_recommended_it_is_said(llm4rec, movies, new_items):
    command = (*READS_TEXT, "--title", "sabrina heat", "--title", "star wars return", "--new-items", new_items)
    answer = llm4rec(*command, "--only-new", "--explain")
    assert answer.out.splitlines()[1:] == ["only the 2 new items are ranked", "the model ranks none of these items"]


@pytest.mark.parametrize(("typed", "as_text"), [("0\n", True), ("1\n", False)])
def test_on_a_terminal_a_text_may_be_taken_in_place_of_a_similar_title(llm4rec, movies, typing, typed, as_text):
    typing(typed)
    answer = llm4rec(*READS_TEXT, "--title", "sabrinna")
    assert "0  none of these: use the text itself" in answer.err
    assert ("'sabrinna' is not in the catalogue: its text is used" in answer.out) == as_text


# ---- explanations


def test_an_explanation_names_the_items_of_the_history_by_their_effect(llm4rec, movies):
    rows = rows_of(llm4rec(*READS_TEXT, "--title", "Star Wars", "--title", "heat it", "--explain", "--json"))
    for row in rows:
        effects = [reason["effect"] for reason in row["because"]]
        assert {reason["title"] for reason in row["because"]} == {"Star Wars (1977)", "heat it"}
        assert effects == sorted(effects, reverse=True)
    heat = next(row for row in rows if row["item_id"] == "i3")
    assert [(reason["item_id"], reason["title"]) for reason in heat["because"]] == [
        (None, "heat it"),
        ("i5", "Star Wars (1977)"),
    ]
    assert heat["because"][0]["effect"] == pytest.approx(heat["score"])
    shown = llm4rec(*READS_TEXT, "--title", "Star Wars", "--title", "heat it", "--explain").out
    assert f"   1  Heat (1995)\n        {heat['score']:+.4f}  heat it\n" in shown


def test_a_model_that_does_not_read_histories_says_so(llm4rec, movies):
    answer = llm4rec(*POPULARITY, "--user", "bob", "--explain")
    assert answer.out.splitlines()[-1] == "the history has no effect on these scores"


# ---- the command line


def test_help_shows_options_examples_and_config_groups(llm4rec):
    out = llm4rec("recommend", "--help").out
    assert all(option in out for option in ("--user ID", "--title TEXT", "--k N", "--again", "--json"))
    assert "llm4rec recommend model=" in out
    assert "\nmodel: " in out


def test_cfg_needs_neither_user_nor_title(llm4rec):
    assert "name: sasrec" in llm4rec("recommend", "model=sasrec", "--cfg", "job").out


def test_a_refusal_never_imports_torch(movies, tmp_path):
    done = python(
        "import sys; from llm4rec_cli.cli import main; "
        "assert main(['recommend', 'model=random', '--title', 'x']) == 2; "
        "command = ['recommend', 'model=popularity', 'dataset=mine', 'paths.cache=cache']; "
        "assert main([*command, '--user', 'nobody']) == 2; "
        "assert main([*command, '--title', 'xqzzy']) == 2; "
        "assert main([*command, '--user', 'bob', '--new-items', 'x.csv']) == 2; "
        "command[1:2] = ['model=transition_text']; "
        "assert main([*command, '--user', 'bob', '--new-items', 'x.csv']) == 2; "
        "assert not {'torch', 'transformers'} & set(sys.modules)",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "no title in dataset mine is 'xqzzy'" in done.stderr


def test_scores_that_are_not_numbers_are_an_error(llm4rec, movies, monkeypatch):
    from llm4rec_cli.models.baselines import popularity as model

    monkeypatch.setattr(model, "build", lambda context: model.Popularity(np.full(context.split.n_items, np.nan)))
    answer = llm4rec(*POPULARITY, "--user", "bob")
    assert answer.code == 1
    assert "not numbers" in answer.err
