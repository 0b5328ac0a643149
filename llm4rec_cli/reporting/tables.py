"""Tables: one content, shown by Rich, Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 160  # characters, in files and pipes
NARROWEST = 10  # characters that a column of words should have
# What means something else to LaTeX; a bracket or a star would belong to the line break before it.
LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[]*"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{"–": r"\textendash{}", "−": "$-$", "±": r"$\pm$", "·": r"$\cdot$", "×": r"$\times$", "…": r"\ldots{}"},
}


@dataclass(frozen=True)
class Content:
    """What a table shows, in whatever form.

    Attributes:
        title: what it is about.
        columns, rows: the cells.
        notes: what stands below, one a line.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], width: int = 0) -> Table:
    """A Rich table; columns of numbers stand at the right.

    Args:
        width: how many characters a line has; where they suffice, no number is parted. 0 = not known.
    """
    shown = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    numeric = numeric_columns(rows, len(columns))
    sizes = _sizes(columns, rows, numeric, width)
    for column, right, size in zip(columns, numeric, sizes, strict=True):
        shown.add_column(column, justify="right" if right else "left", overflow="fold", width=size)
    for row in rows:
        shown.add_row(*row)
    return shown


def _sizes(
    columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool], width: int
) -> list[int | None]:
    """How wide each column of numbers is: its cells, if they fit into lines of that width, else their longest part
    between spaces; None where that does not fit either, and for words, which have what is left."""
    for parting in ("$", " (?!±)"):
        parts = [[part for row in (columns, *rows) for part in re.split(parting, row[i])] for i in range(len(columns))]
        longest = [max(map(len, of)) for of in parts]
        sizes = [size if right else None for right, size in zip(numeric, longest, strict=True)]
        if sum((size or NARROWEST) + 2 for size in sizes) + 2 <= width:
            return sizes
    return [None] * len(columns)


def console() -> Console:
    """Standard output, wide enough for a table where it is no terminal; a bracket in an override is no markup."""
    return Console(width=None if Console().is_terminal else WIDTH, markup=False, emoji=False)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub-flavoured Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def latex(content: Content) -> str:
    """A table environment that stands in a document as it is, where that loads booktabs; notes stand below in small."""
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
    """CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def numeric_columns(rows: Sequence[Sequence[str]], n: int) -> list[bool]:
    """Which of n columns hold nothing but numbers, intervals among them."""
    return [any(row[i] for row in rows) and all(_is_number(row[i]) for row in rows) for i in range(n)]


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[-–+±.,%\d ]*", cell) is not None
