"""Tables: one content, shown by Rich, Markdown or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 160  # characters, in files and pipes


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A Rich table; columns of numbers stand at the right."""
    shown = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[i]) for row in rows)
        shown.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    return shown


def console() -> Console:
    """Standard output, wide enough for a table where it is no terminal; a bracket in an override is no markup."""
    return Console(width=None if Console().is_terminal else WIDTH, markup=False, emoji=False)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub-flavoured Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def comma_separated(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[-–+±.,%\d ]*", cell) is not None
