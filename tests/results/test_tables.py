"""Tables as Rich, Markdown, LaTeX and CSV, and strict JSON."""

import csv
import io
import re
from contextlib import redirect_stdout

import numpy as np
import pytest

from llm4rec_cli.results.tables import (
    WIDE,
    Content,
    comma_separated,
    json_text,
    latex,
    markdown,
    numeric_columns,
    show,
)

COLUMNS = ["model", "ndcg@10"]
ROWS = [["sasrec", "0.1000 ± 0.0100"], ['a "b", c', ""]]


def lines_of(*contents):
    out = io.StringIO()
    with redirect_stdout(out):
        show(*contents)
    return out.getvalue().splitlines()


def test_csv_reads_back_as_it_was_written():
    assert list(csv.reader(io.StringIO(comma_separated(COLUMNS, ROWS)))) == [COLUMNS, *ROWS]


def test_markdown_has_a_header_a_rule_and_one_line_per_row_with_separators_escaped():
    lines = markdown(COLUMNS, ROWS).splitlines()
    assert len(lines) == 4
    assert lines[0] == "| model | ndcg@10 |"
    assert lines[2] == "| sasrec | 0.1000 ± 0.0100 |"
    assert "a\\|b" in markdown(["x"], [["a|b"]])


@pytest.mark.parametrize(
    ("title", "columns", "rows"),
    [
        ("runs", COLUMNS, [["sasrec", "0.1000 ± 0.0100"]]),
        ("runs", COLUMNS, []),
        ("runs under a[b]", ["job"], [["task.floors=[popularity] :x:"]]),  # brackets and colons as typed
    ],
)
def test_rich_shows_every_cell_and_the_title(title, columns, rows):
    text = "\n".join(lines_of(Content(title, columns, rows)))
    assert all(cell in text for cell in (title, *columns, *(cell for row in rows for cell in row)))


def test_rich_folds_long_cells_rather_than_cutting_them():
    assert "…" not in "\n".join(lines_of(Content("runs", ["run"], [["x" * 400]])))


def test_numbers_are_not_wrapped_if_the_line_is_wide_enough():
    rows = [["a model of quite some words " * 5, "0.0750 ± 0.0039", "0.0667–0.0846"]] * 2
    text = "\n".join(lines_of(Content("t", ["model", "ndcg@10", "interval"], rows)))
    assert text.count("0.0750 ± 0.0039  0.0667–0.0846") == 2


def wide_table(n, **more):
    """A table with n metrics of two seeds each."""
    metrics = [f"hr@{i}" for i in range(n)]
    row = ["a-model-of-some-length", "trainer.epochs=3 and more", *(["0.1234 ± 0.0012"] * n), "a label"]
    return Content("t", ["model", "variant", *metrics, "labels"], [row], **more)


@pytest.mark.parametrize("n", range(1, 12))
def test_tables_fit_100_columns_and_no_number_is_cut(n):
    content = wide_table(n, keyed=["labels"], spare=[f"hr@{i}" for i in range(1, n)][::-1])
    lines = lines_of(content)
    assert max(map(len, lines)) <= 100
    shown = n - sum(line.count("hr@") for line in lines if line.startswith("not shown"))
    assert sum(line.count("0.1234") for line in lines) == sum(line.count("0.0012") for line in lines) == shown >= 1


def test_first_means_and_deviations_take_two_lines_then_texts_become_numbers_then_columns_are_left_out():
    spare = [f"hr@{i}" for i in range(1, 9)][::-1]
    assert any("0.1234 ± 0.0012" in line for line in lines_of(wide_table(2, keyed=["labels"], spare=spare)))
    halved = lines_of(wide_table(4, keyed=["labels"], spare=spare))
    assert any(line.split().count("±") == 4 for line in halved)
    assert not any(line.startswith(("labels 1", "not shown")) for line in halved)
    short = lines_of(wide_table(8, keyed=["labels"], spare=spare))
    assert "labels 1: a label" in short
    assert short[-1] == "not shown, for lack of width: hr@5, hr@6, hr@7 (--wide)"


def test_wide_shows_every_column_on_one_line(monkeypatch):
    monkeypatch.setenv(WIDE, "1")
    _, heading, _, row = lines_of(wide_table(20, spare=["hr@1"], notes=[]))
    assert heading.split() == ["model", "variant", *(f"hr@{i}" for i in range(20)), "labels"]
    assert row.count("0.1234 ± 0.0012") == 20


def test_names_to_copy_are_never_broken():
    path = "unisrec/" + "demo/" * 12 + "seed0-0123456789"
    row = [path, "a result of many words " * 4, "2026-01-01 10:00"]
    content = Content("t", ["run", "result", "time"], [row], spare=["time"], whole=["run"])
    assert any(path in line for line in lines_of(content))


def test_long_notes_are_wrapped_and_indented():
    *_, first, second = lines_of(Content("t", ["n"], [["1"]], notes=["word " * 30 + "95 % sure"]))
    assert len(first) <= 100
    assert second.startswith("  word")


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
