"""Tables as Rich, Markdown, LaTeX and CSV, and strict JSON."""

import io
import re
from contextlib import redirect_stdout

import numpy as np
import pytest

from llm4rec_cli.results.tables import (
    WIDE,
    Content,
    json_text,
    latex,
    markdown,
    show,
)

COLUMNS = ["model", "ndcg@10"]
ROWS = [["sasrec", "0.1000 ± 0.0100"], ['a "b", c', ""]]


def lines_of(*contents):
    out = io.StringIO()
    with redirect_stdout(out):
        show(*contents)
    return out.getvalue().splitlines()


def test_markdown_has_a_header_a_rule_and_one_line_per_row_with_separators_escaped():
    lines = markdown(COLUMNS, ROWS).splitlines()
    assert len(lines) == 4
    assert lines[0] == "| model | ndcg@10 |"
    assert lines[2] == "| sasrec | 0.1000 ± 0.0100 |"
    assert "a\\|b" in markdown(["x"], [["a|b"]])


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


def latex_lines(*cells, notes=()):
    return latex(Content("a · b_c", ["model", "ndcg@10"], [list(cells)], notes)).splitlines()


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
