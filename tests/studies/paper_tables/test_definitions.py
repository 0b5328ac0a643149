"""Tables of papers as data: cells, overrides by size, reasons, and what is wrong with a file."""

import pytest

from llm4rec_cli.files import write_text
from llm4rec_studies.paper_tables import definitions
from llm4rec_studies.paper_tables.definitions import Size

TABLE = """\
title: A table
source: a paper, Table 1
metrics: [hr@10]
train: task=sequential
values: {paper: p5}
prompts:
  - {label: seen, eval: model.ask.rating=1-6, values: {prompt: 1-6}}
  - {label: unseen, eval: model.ask.rating=1-10}
rows:
  - {label: A, train: model=popularity}
  - {label: B, train: model=sasrec task=direct, small: model=random, prompted: true, metrics: {rmse: said/rmse}}
  - {label: C, quoted: Nobody has this baseline.}
columns:
  - {label: X, train: dataset=ml-100k, small: dataset=demo}
  - {label: Y, train: dataset=yelp, lacks: Its files cannot be had.}
except:
  - {row: A, column: Y, absent: The paper leaves this out.}
"""


@pytest.fixture
def read(tmp_path):
    """read(old, new, …): the table with these parts of its text replaced."""

    def read(*replaced):
        text = TABLE
        for old, new in zip(replaced[::2], replaced[1::2], strict=True):
            assert old in text
            text = text.replace(old, new)
        write_text(tmp_path / "mine.yaml", text)
        return definitions.read(tmp_path / "mine.yaml", "mine")

    return read


def test_there_is_a_cell_for_each_row_column_and_prompt(read):
    keys = [cell.key for cell in read().cells()]
    in_x = ["A | X", "B | X | seen", "B | X | unseen", "C | X"]
    assert keys == [*in_x, *(key.replace("X", "Y") for key in in_x)]
    assert [cell.key for cell in read().cells("a,c*", "y")] == ["A | Y", "C | Y"]


def test_of_overrides_with_the_same_key_those_of_the_row_count_and_sizes_fall_back_on_the_papers(read):
    table = read()
    popularity, seen, *_ = table.cells()
    assert table.train_overrides(popularity, Size.paper) == ("task=sequential", "dataset=ml-100k", "model=popularity")
    assert table.train_overrides(popularity, Size.small) == ("task=sequential", "dataset=demo", "model=popularity")
    assert table.train_overrides(seen, Size.paper) == ("task=direct", "dataset=ml-100k", "model=sasrec")
    assert table.train_overrides(seen, Size.small) == ("task=sequential", "dataset=demo", "model=random")
    assert table.eval_overrides(seen) == ("model.ask.rating=1-6",)
    assert table.values_of(seen) == {"paper": "p5", "prompt": "1-6"}
    assert table.metrics_of(seen) == {"rmse": "said/rmse"}


def test_a_cell_that_is_not_run_says_why(read):
    table = read()
    reasons = {cell.key: table.not_made(cell, Size.paper) for cell in table.cells()}
    assert reasons["A | X"] is None
    assert reasons["C | Y"] == ("quoted", "Nobody has this baseline.")
    assert reasons["B | Y | seen"] == ("lacks", "Its files cannot be had.")
    assert reasons["A | Y"] == ("absent", "The paper leaves this out.")
    small = {cell.key: table.not_made(cell, Size.small) for cell in table.cells()}
    assert small["B | Y | seen"] is None, "the row has a stand-in of its own"
    table = read("quoted: Nobody has this baseline.", "lacks: It is not part of this version.")
    assert table.not_made(table.cells("C", "X")[0], Size.small)[0] == "lacks", "no model would be run in its place"
    table = read("small: model=random", "small: null")
    assert table.not_made(table.cells()[1], Size.small)[0] == "skipped"


WRONG = {
    "no title": (("title: A table", "seeds: [0]"), "the table has no 'title'"),
    "an unknown key": (("label: A, train", "label: A, trian"), "'A': unknown key 'trian'"),
    "a key of another type": (("prompted: true", "prompted: 1"), "'B': 'prompted' has type int"),
    "a reason in a word": (("Nobody has this baseline.", "none"), "'C': 'quoted' is not a sentence: 'none'"),
    "an unknown selector": (("values: {paper: p5}", "values: {papers: p5}"), "no column 'papers' of printed numbers"),
    "neither command nor reason": (
        (", quoted: Nobody has this baseline.", "", "train: task=sequential\n", ""),
        "'C' has neither",
    ),
    "two rows of one name": (("label: C", "label: A"), "two rows are called 'A'"),
    "a member of no row": (("label: A,", "label: A, ensemble: [D],"), "'A' combines 'D', which is not a row"),
    "an exception of no row": (
        ("row: A, column: Y", "row: D, column: Y"),
        "an exception names row 'D', which does not exist",
    ),
    "no prompts": (("prompts:\n", "notes:\n"), "'B' is prompted, and column 'X' has no prompts"),
    "a label with a comma": (("label: C,", 'label: "C, D",'), "the label 'C, D' has a comma"),
    "an unknown kind": (("title:", "kind: claims\ntitle:"), "unknown kind 'claims'"),
    "a row without keys": (("{label: C, quoted: Nobody has this baseline.}", "C"), "has type str instead of keys"),
}


@pytest.mark.parametrize(("replaced", "problem"), WRONG.values(), ids=WRONG)
def test_each_mistake_is_reported(read, tmp_path, replaced, problem):
    with pytest.raises(definitions.UsageError):
        read(*replaced)
    assert any(problem in wrong.problem for wrong in definitions.problems(tmp_path / "mine.yaml"))
