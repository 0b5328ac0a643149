"""The reader of TALLRec's prompts: who is one user, in which order titles were seen, and what is refused."""

import json

import pytest

from llm4rec_cli.config.schema import SplitName, SplitRule
from llm4rec_cli.data.likes import labelled_rows
from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.data.split import TEST, VALID, split_dataset
from llm4rec_zoo.likes import tallrec
from tests.data.sources import FIXTURES, config

MOVIES = {part: FIXTURES / f"tallrec/movie-{part}.json" for part in ("valid", "test")}
BOOKS = {"test": FIXTURES / "tallrec/book-test.json"}


def movies(tmp_path):
    names = {part: path.name for part, path in MOVIES.items()}
    settings = config("movies", "tallrec", "tallrec", names, user_core=0, item_core=0, split=SplitRule.given)
    return prepare(settings, tmp_path)


def test_rows_that_continue_one_another_are_one_user_whose_first_history_has_the_order_in_which_they_drop_it():
    interactions = tallrec.read(MOVIES).interactions
    assert interactions["user_id"].drop_duplicates().tolist() == ["valid-0", "test-0", "test-1"]
    assert interactions["part"].value_counts().to_dict() == {"history": 9, "test": 5, "valid": 1}
    first = interactions.query("user_id == 'test-0'")
    assert first["item_id"].tolist()[:4] == [
        *("Old Mill, The (1951)", "Rain, Then Snow (1988)", "Alpha (1990)", "Beta (1991)"),
    ]
    assert first["rating"].tolist() == [1, 0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(("part", "code"), [("test", TEST), ("valid", VALID)])
def test_each_example_shows_what_its_row_shows(tmp_path, part, code):
    split = split_dataset(movies(tmp_path))
    rows = labelled_rows(split, code, 0.5, 3)
    titles = split.dataset.items["title"].to_numpy()
    flat, offsets = rows.examples.histories()
    liked = rows.examples.liked_in_history()
    prompts = json.loads(MOVIES[part].read_text())
    assert len(prompts) == len(rows) == len(split.examples(SplitName[part]))
    for i, prompt in enumerate(prompts):
        of_row = slice(offsets[i], offsets[i + 1])
        shown = [", ".join(f'"{t}"' for t in titles[flat[of_row][liked[of_row] == is_liked]]) for is_liked in (1, 0)]
        target = titles[rows.examples.target[i]]
        assert prompt["input"] == (
            f"User Preference: {shown[0]}\nUser Unpreference: {shown[1]}\n"
            f'Whether the user will like the target movie "{target}"?'
        )
        assert prompt["output"] == ("Yes." if rows.label[i] else "No.")


def test_an_item_is_its_title_and_a_book_has_an_author():
    raw = tallrec.read(BOOKS)
    assert raw.items.query("brand == 'B. Ode, Jr.'")["title"].tolist() == ["Salt, and Sand"]
    assert raw.items["title"].tolist() == ["A 'Quoted' Life", "Night Bus", "Salt, and Sand", "The Well"]
    assert raw.interactions["user_id"].nunique() == 2
    assert tallrec.read(MOVIES).items.columns.tolist() == ["item_id", "title", "brand"]
