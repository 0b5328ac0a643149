"""Tables as Rich, Markdown, LaTeX and CSV, and strict JSON."""

import csv
import io
import re
from contextlib import redirect_stdout

import numpy as np

from llm4rec_cli.reporting.tables import (
    Content,
    comma_separated,
    console,
    json_text,
    latex,
    markdown,
    numeric_columns,
    table,
)

COLUMNS = ["model", "ndcg@10"]
ROWS = [["sasrec", "0.1000 ± 0.0100"], ['a "b", c', ""]]


def shown(content):
    out = io.StringIO()
    with redirect_stdout(out):
        console().print(content)
    return out.getvalue()


def test_csv_reads_back_as_it_was_written():
    assert list(csv.reader(io.StringIO(comma_separated(COLUMNS, ROWS)))) == [COLUMNS, *ROWS]


def test_markdown_has_a_header_a_rule_and_one_line_per_row():
    lines = markdown(COLUMNS, ROWS).splitlines()
    assert len(lines) == 4
    assert lines[0] == "| model | ndcg@10 |"
    assert lines[2] == "| sasrec | 0.1000 ± 0.0100 |"


def test_markdown_escapes_the_cell_separator():
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


def test_numbers_are_not_wrapped_if_the_line_is_wide_enough():
    rows = [["a model of quite some words " * 5, "0.0750 ± 0.0039", "0.0667–0.0846"]] * 2
    text = io.StringIO()
    with redirect_stdout(text):
        console().print(table("t", ["model", "ndcg@10", "interval"], rows, 160))
    assert text.getvalue().count("0.0667–0.0846") == 2


def test_columns_of_numbers_and_intervals_are_recognised():
    assert numeric_columns([["sasrec", "0.1 ± 0.2", "0.1–0.2", ""], ["p5", "1,234", "5 %", "no"]], 4) == [
        *(False, True, True, False)
    ]
    assert numeric_columns([], 2) == [False, False]


def latex_lines(*cells, notes=()):
    return latex(Content("a · b_c", ["model", "ndcg@10"], [list(cells)], notes)).splitlines()


def test_latex_is_a_complete_table_for_booktabs():
    lines = latex_lines("sasrec", "0.1 ± 0.2", notes=["5 % of them"])
    assert lines == [
        r"\begin{table}",
        r"\centering",
        r"\caption{a $\cdot$ b\_c}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"model & ndcg@10 \\",
        r"\midrule",
        r"sasrec & 0.1 $\pm$ 0.2 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\medskip\raggedright\footnotesize",
        r"5 \% of them\par",
        r"\end{table}",
    ]


def test_latex_escapes_special_characters():
    row = latex_lines(r"a_b & 100% $x$ #1 {y} \z ~ ^ [0] *  <p> | -- `q` \"", "–")[7]
    assert row == (
        r"a\_b \& 100\% \$x\$ \#1 \{y\} \textbackslash{}z \textasciitilde{} \textasciicircum{} {[}0{]} {*}  "
        r"\textless{}p\textgreater{} \textbar{} -{}- \textasciigrave{}q\textasciigrave{} \textbackslash{}"
        r"\textquotedbl{} & \textendash{} \\"
    )


def test_in_latex_no_cell_is_read_as_an_argument_of_the_line_break_before_it():
    rows = [["a", "1"], ["[1ex]", "2"], ["*", "3"]]
    assert not re.search(r"\\\\\s*[\[*]", latex(Content("t", ["[x]", "y"], rows)))


def test_json_has_null_for_numbers_that_json_lacks():
    value = {"a": [float("inf"), (float("nan"), 0.5)], "b": {"é": -float("inf")}, "c": np.float64("nan"), "d": None}
    assert json_text(value) == '{"a": [null, [null, 0.5]], "b": {"é": null}, "c": null, "d": null}'
