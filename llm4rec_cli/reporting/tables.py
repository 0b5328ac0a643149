"""Tables in four formats: Rich, Markdown, LaTeX and CSV; and the JSON that `--json` prints."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 160  # characters per line in files and pipes
NARROWEST = 10  # least width of a column of words
# Characters special to LaTeX. A bracket or star after a line break would be read as its argument.
LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[]*"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{"–": r"\textendash{}", "−": "$-$", "±": r"$\pm$", "·": r"$\cdot$", "×": r"$\times$", "…": r"\ldots{}"},
}


@dataclass(frozen=True)
class Content:
    """The content of a table, independent of the format.

    Attributes:
        title: caption.
        columns, rows: headings and cells.
        notes: lines below the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], width: int = 0) -> Table:
    """Return a Rich table, with columns of numbers right-aligned.

    Args:
        width: characters per line; numbers are not wrapped if they fit. 0 = not known.
    """
    result = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    numeric = numeric_columns(rows, len(columns))
    sizes = _sizes(columns, rows, numeric, width)
    for column, right, size in zip(columns, numeric, sizes, strict=True):
        result.add_column(column, justify="right" if right else "left", overflow="fold", width=size)
    for row in rows:
        result.add_row(*row)
    return result


def _sizes(
    columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool], width: int
) -> list[int | None]:
    """Return the width of each column of numbers: its longest cell if all fit, else the longest part between spaces.

    None if that does not fit either, and for columns of words, which share the remaining width.
    """
    for separator in ("$", " (?!±)"):
        parts = [[p for row in (columns, *rows) for p in re.split(separator, row[i])] for i in range(len(columns))]
        longest = [max(map(len, column_parts)) for column_parts in parts]
        sizes = [size if right else None for right, size in zip(numeric, longest, strict=True)]
        if sum((size or NARROWEST) + 2 for size in sizes) + 2 <= width:
            return sizes
    return [None] * len(columns)


def console() -> Console:
    """Return a console on standard output, 160 characters wide unless a terminal; brackets are not read as markup."""
    return Console(width=None if Console().is_terminal else WIDTH, markup=False, emoji=False)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a GitHub-flavoured Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def latex(content: Content) -> str:
    """Return a LaTeX table environment, with notes below in footnote size; the document must load booktabs."""
    numeric = numeric_columns(content.rows, len(content.columns))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(content.title)}}}",
        rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in numeric)}}}",
        r"\toprule",
        _latex_row(content.columns),
        r"\midrule",
        *map(_latex_row, content.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *([r"\par\medskip\raggedright\footnotesize"] if content.notes else []),
        *(rf"{_escaped(note)}\par" for note in content.notes),
        r"\end{table}",
    ]
    return "\n".join(lines)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text).replace("--", "-{}-")


def comma_separated(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def json_text(value: Any, indent: int | None = None) -> str:
    """Return strict JSON: null for NaN and infinities, which JSON has no numbers for."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def numeric_columns(rows: Sequence[Sequence[str]], n: int) -> list[bool]:
    """Return which of n columns hold only numbers, including intervals."""
    return [any(row[i] for row in rows) and all(_is_number(row[i]) for row in rows) for i in range(n)]


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[-–+±.,%\d ]*", cell) is not None
