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
    assert json.loads(line) == {"rank": 1, "item_id": "i1", "title": "Sabrina (1954)", "score": 2, "in_history": False}


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


def test_without_a_trained_run_the_remedy_is_the_command_that_makes_one(llm4rec):
    answer = llm4rec("recommend", "model=sasrec", "--user", "u")
    assert answer.code == 1
    assert "llm4rec train model=sasrec" in answer.err


@pytest.mark.parametrize("model", ["bpr_mf", "random", "external"])
def test_a_model_that_knows_users_by_number_takes_no_titles(llm4rec, model):
    answer = llm4rec("recommend", f"model={model}", "--title", "x")
    first, second = answer.err.splitlines()
    assert answer.code == 2
    assert f"model '{model}' knows users by id" in first
    assert "popularity, sasrec, transition_text, unisrec" in second


def test_a_model_that_knows_users_by_number_serves_users(llm4rec, movies):
    first, other = (
        llm4rec("recommend", "model=random", "dataset=mine", "--json", "--again", "--user", user).out
        for user in ("ann", "bob")
    )
    assert first != other


@pytest.mark.parametrize(
    ("override", "problem"),
    [("dataset=demo_news", "click log"), ("dataset.control=swap_users", "dataset.control=swap_users")],
)
def test_data_that_cannot_serve_is_refused(llm4rec, override, problem):
    answer = llm4rec("recommend", "model=popularity", override, "--user", "x")
    assert answer.code in (1, 2)
    assert problem in answer.err.splitlines()[0]


# ---- users


def test_an_unknown_user_is_answered_with_the_nearest_and_how_ids_look(llm4rec, movies):
    answer = llm4rec(*POPULARITY, "--user", "bop")
    first, second = answer.err.splitlines()
    assert answer.code == 2
    assert "no user 'bop'" in first
    assert "did you mean 'bob'? Ids look like 'ann', 'bob', 'cat'" in second


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


def test_no_title_near_enough_is_an_error_with_the_nearest_three(llm4rec, movies):
    answer = llm4rec(*POPULARITY, "--title", "Star")
    first, second = answer.err.splitlines()
    assert answer.code == 2
    assert "no title in dataset mine is 'Star'" in first
    assert second.startswith("  try: the nearest are 'Star Wars (1977)', ")
    assert second.count("', '") == 2


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
    log_lines = [line.split(" ", 1)[1] for line in answer.err.splitlines()]
    assert log_lines[0].startswith("2 items are titled 'sabrina': using the most frequent")
    assert log_lines[1] == "using 'Star Wars' for 'star warz'"
    assert len(log_lines) == 3
    assert [line.split()[1] for line in answer.out.splitlines()[4:6]] == ["100", "181"]  # less Star Wars itself


# ---- the command line


@pytest.mark.parametrize(
    ("arguments", "problem", "remedy"),
    [
        ([], "needs either a user or titles", "--user ID, or --title TEXT"),
        (["--user", "u", "--title", "t"], "needs either a user or titles", "--user ID, or --title TEXT"),
        (["-m", "--user", "u"], "recommend runs once, in one process", "leave out -m"),
        (["--tilte", "t"], "unknown option '--tilte'", "did you mean '--title'?"),
        (["model=unisrc", "--user", "u"], "unknown model 'unisrc'", "did you mean 'unisrec'?"),
        (["task=direct", "model=popularity", "device=x", "--user", "u"], "unknown device 'x'", "cpu"),
    ],
)
def test_wrong_input_is_refused_in_two_lines(llm4rec, tmp_path, arguments, problem, remedy):
    answer = llm4rec("recommend", *arguments)
    first, second = answer.err.splitlines()
    assert answer.code == 2
    assert problem in first
    assert remedy in second
    assert answer.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("k", ["0", "-1", "x"])
def test_k_is_a_positive_number(llm4rec, k):
    answer = llm4rec("recommend", "--user", "u", "--k", k)
    assert answer.code == 2
    assert "--k" in answer.err


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
