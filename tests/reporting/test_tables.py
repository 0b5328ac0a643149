"""Tables: one content as Rich, Markdown and CSV."""

import csv
import io
from contextlib import redirect_stdout

from llm4rec_cli.reporting.tables import comma_separated, console, markdown, table

COLUMNS = ["model", "ndcg@10"]
ROWS = [["sasrec", "0.1000 ± 0.0100"], ['a "b", c', ""]]


def shown(content):
    out = io.StringIO()
    with redirect_stdout(out):
        console().print(content)
    return out.getvalue()


def test_csv_reads_back_as_it_was_written():
    assert list(csv.reader(io.StringIO(comma_separated(COLUMNS, ROWS)))) == [COLUMNS, *ROWS]


def test_markdown_has_a_head_a_rule_and_a_line_a_row():
    lines = markdown(COLUMNS, ROWS).splitlines()
    assert len(lines) == 4
    assert lines[0] == "| model | ndcg@10 |"
    assert lines[2] == "| sasrec | 0.1000 ± 0.0100 |"


def test_markdown_escapes_what_would_end_a_cell():
    assert "a\\|b" in markdown(["x"], [["a|b"]])


def test_rich_shows_every_cell_and_the_title():
    text = shown(table("runs", COLUMNS, ROWS))
    assert all(cell in text for cell in ["runs", *COLUMNS, "sasrec", "0.1000 ± 0.0100"])


def test_rich_folds_long_cells_rather_than_cutting_them():
    assert "…" not in shown(table("runs", ["run"], [["x" * 400]]))


def test_brackets_and_colons_are_shown_as_typed():
    assert "task.floors=[popularity] :x:" in shown(table("sweep", ["job"], [["task.floors=[popularity] :x:"]]))
    assert "runs under a[b]" in shown(table("runs under a[b]", ["run of a long name"], []))


def test_a_table_without_rows_is_shown():
    assert "runs" in shown(table("runs", COLUMNS, []))
