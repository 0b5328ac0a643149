"""Tables in four formats: for a terminal, Markdown, LaTeX and CSV; and the JSON that `--json` prints.

On a terminal a table is at most 100 characters wide. Where it does not fit, headings and means with deviations take two
lines; then long texts become numbers, explained below; then columns named as `spare` are left out and listed below.
Other texts wrap, and numbers are never cut. Under `--wide`, tables have all columns, on lines of any length.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from llm4rec_cli.errors import printable

WIDTH = 100  # characters per line, at most
WIDE = "LLM4REC_WIDE"  # environment variable, set by `--wide`: all columns, on lines of any length
UNLIMITED = 100_000
LONG_WORD, SHORT_WORD = 20, 8  # characters of a word that are never broken: if possible, and where width is short
GAP = 2  # characters between two columns
# Where cells may be wrapped: nowhere; headings; headings and numbers, as in "0.1206 ± 0.0010".
HEADING, NUMBER = r"(?<=[ /_])", " (?!±)"
WRAPPED = (("$", "$"), (HEADING, "$"), (HEADING, NUMBER))
NUMERIC = re.compile(r"[-–+±.,%\d ]*")
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
        columns, rows: headings and cells.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()  # lines below the table
    keyed: Sequence[str] = ()  # columns whose texts a terminal may replace by numbers, explained below
    spare: Sequence[str] = ()  # columns that a terminal may leave out, the first one first
    whole: Sequence[str] = ()  # columns of names to copy, such as paths, whose words are never broken

    @classmethod
    def of_columns(cls, title: str, columns: Mapping[str, Sequence[str]], *attributes: Sequence[str]) -> Content:
        """Return a table of heading -> cells; `attributes` are its others, in order."""
        return cls(title, list(columns), list(zip(*columns.values(), strict=True)), *attributes)

    @classmethod
    def of_rows(cls, title: str, rows: Sequence[Mapping[str, str]]) -> Content:
        """Return a table of rows with the same headings; without any row, and so without headings, an empty one."""
        return cls(title, list(rows[0]) if rows else [], [list(row.values()) for row in rows])


class _Layout(NamedTuple):
    """Which columns are shown, as positions, and the width of each."""

    columns: list[int]
    widths: list[int]

    @property
    def width(self) -> int:
        """The characters of a line."""
        return sum(self.widths) + GAP * (len(self.widths) - 1)


def is_wide() -> bool:
    """Return whether `--wide` was typed."""
    return bool(os.environ.get(WIDE))


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the caller end, or go on without a reader; rich would exit with 1."""
        raise BrokenPipeError


def _console(at_least: int = 0) -> Console:
    """Return a console on standard output, as wide as its terminal but at most 100 characters, or `at_least` as wide as
    a table that does not fit; without a limit under `--wide`. Brackets are not read as markup."""
    terminal = Console()
    width = min(WIDTH, terminal.width) if terminal.is_terminal else WIDTH
    width = UNLIMITED if is_wide() else max(width, at_least)
    return _Console(width=width, markup=False, emoji=False, highlight=False)


def show(*tables: Content) -> None:
    """Print tables, each with its title above and its notes below, with an empty line between two."""
    for i, untrusted in enumerate(tables):
        rows = [[*map(printable, row)] for row in untrusted.rows]
        content = replace(untrusted, title=printable(untrusted.title), rows=rows)
        if i > 0:
            print()
        if not content.columns:
            say(*content.notes)
            continue
        form, layout = _fitted(content, _console().width)
        _console(layout.width).print(_table(form, layout))
        left_out = [name for i, name in enumerate(form.columns) if i not in layout.columns]
        more = [f"not shown, for lack of width: {', '.join(left_out)} (--wide)"] if left_out else []
        say(*form.notes, *more)


def say(*lines: str) -> None:
    """Print lines of text, wrapped and indented further where they are too long; words such as paths are never
    broken."""
    width = _console().width
    for line in lines:
        indent = " " * (2 + len(line) - len(line.lstrip()))
        text = printable(line).replace(" %", "\0%")  # together
        text = textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        print(text.replace("\0", " "))


def _table(content: Content, layout: _Layout) -> Group:
    """Return a table for `_console()`, with columns of numbers right-aligned."""
    result = Table(header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    numeric = numeric_columns(content.rows, len(content.columns))
    for i, width in zip(*layout, strict=True):
        heading = content.columns[i]
        if len(heading) > width:
            heading = re.sub(HEADING, "\n", heading)
        result.add_column(heading, justify="right" if numeric[i] else "left", overflow="fold", width=width)
    for row in content.rows:
        result.add_row(*(row[i] for i in layout.columns))
    return Group(*([Text(content.title, style="italic")] if content.title else []), result)


def _fitted(content: Content, width: int) -> tuple[Content, _Layout]:
    """Return the most complete form of a table that fits: texts become numbers, and then columns are left out, only
    where no wrapping helps. If nothing does, words are broken."""
    forms = itertools.accumulate(content.keyed, _with_key, initial=content)
    for form in forms:
        everything = list(range(len(content.columns)))
        if layout := _layout(form, everything, width, LONG_WORD):
            return form, layout
    spare = [content.columns.index(name) for name in content.spare if name in content.columns]
    for n in range(1, len(spare) + 1):
        columns = [i for i in everything if i not in spare[:n]]
        if layout := _layout(form, columns, width, LONG_WORD):
            return form, layout
    columns = [i for i in everything if i not in spare]
    least, _ = _sizes(form, columns, HEADING, NUMBER, LONG_WORD)  # for lines that the terminal has to wrap
    return form, _layout(form, columns, width, SHORT_WORD) or _Layout(columns, least)


def _with_key(content: Content, name: str) -> Content:
    """Return a table with the texts of a column replaced by numbers, which notes explain."""
    if name not in content.columns:
        return content
    i = content.columns.index(name)
    numbers = {text: str(n) for n, text in enumerate(dict.fromkeys(row[i] for row in content.rows if row[i]), start=1)}
    rows = [[*row[:i], numbers.get(row[i], ""), *row[i + 1 :]] for row in content.rows]
    key = [f"{name} {number}: {text}" for text, number in numbers.items()]
    return replace(content, rows=rows, notes=[*content.notes, *key])


def _layout(content: Content, columns: list[int], width: int, unbroken: int) -> _Layout | None:
    """Return the layout of these columns with the fewest wrapped cells, words of `unbroken` characters whole; None if
    none fits."""
    for heading, number in WRAPPED:
        least, natural = _sizes(content, columns, heading, number, unbroken)
        layout = _Layout(columns, least)
        if layout.width <= width:
            return _Layout(columns, _shared(width - layout.width, least, natural))
    return None


def _sizes(
    content: Content, columns: Sequence[int], heading: str, number: str, unbroken: int
) -> tuple[list[int], list[int]]:
    """Return the least and the natural width of each column shown; they differ only for words.

    Args:
        heading, number: patterns at which headings and numbers may be wrapped.
        unbroken: the characters of a word that are never broken.
    """
    numeric = numeric_columns(content.rows, len(content.columns))
    least, natural = [], []
    for i in columns:
        title = _longest(re.split(heading, content.columns[i]))
        cells = [row[i] for row in content.rows]
        lines = _longest([line for cell in cells for line in re.split(number if numeric[i] else "\n", cell)])
        words = _longest([word for cell in cells for word in cell.split()])
        limit = words if content.columns[i] in content.whole else unbroken
        least.append(max(title, lines if numeric[i] else min(words, limit)))
        natural.append(max(title, lines))
    return least, natural


def _longest(texts: Sequence[str]) -> int:
    return max((cell_len(text.rstrip()) for text in texts), default=0)


def _shared(free: int, least: Sequence[int], natural: Sequence[int]) -> list[int]:
    """Return the widths with the free characters shared out evenly, but to no column more than it needs."""
    widths = list(least)
    wanting = [i for i, size in enumerate(natural) if widths[i] < size]
    while free > 0 and wanting:
        for i in wanting[:free]:
            widths[i] += 1
            free -= 1
        wanting = [i for i in wanting if widths[i] < natural[i]]
    return widths


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a GitHub-flavoured Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def latex(content: Content) -> str:
    """Return a LaTeX table environment, with notes below in footnote size. The document must load booktabs."""
    numeric = numeric_columns(content.rows, len(content.columns))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(content.title)}}}",
        rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in numeric)}}}",
        r"\toprule",
        _latex_row(content.columns),
        r"\midrule",
        *map(_latex_row, content.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *([r"\par\medskip\raggedright\footnotesize"] if content.notes else []),
        *(rf"{escaped(note)}\par" for note in content.notes),
        r"\end{table}",
    ]
    return "\n".join(lines)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"


def escaped(text: str) -> str:
    """Return a text in which LaTeX reads each sign as itself."""
    return "".join(LATEX.get(sign, sign) for sign in text).replace("--", "-{}-")


def joined(tables: Sequence[Content]) -> Content:
    """Return several tables as one, with the title of each in column `table` and all their columns."""
    columns = list(dict.fromkeys(column for content in tables for column in content.columns))
    rows = []
    for content in tables:
        for row in content.rows:
            cells = dict(zip(content.columns, row, strict=True))
            rows.append([content.title, *(cells.get(column, "") for column in columns)])
    return Content("", ["table", *columns], rows)


def comma_separated(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def print_tables(tables: Sequence[Content], form: str | None) -> None:
    """Print tables as `csv`, `markdown` or `latex`; None = as `show` does."""
    for content in tables:
        if form == "csv":
            print(comma_separated(content.columns, content.rows), end="")
        elif form == "markdown":
            print(f"### {content.title}\n\n{markdown(content.columns, content.rows)}\n")
            print("".join(f"- {note}\n" for note in content.notes))
        elif form is None:
            show(content)
            print()
    if form == "latex":
        print("% \\usepackage{booktabs}\n\n" + "\n\n".join(map(latex, tables)))


def json_text(value: Any, indent: int | None = None) -> str:
    """Return strict JSON, with null for NaN and infinities, which JSON has no numbers for; fit to print."""
    text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return "".join(c if printable(c) == c else json.dumps(c)[1:-1] for c in text) if printable(text) != text else text


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def numeric_columns(rows: Sequence[Sequence[str]], n: int) -> list[bool]:
    """Return which of n columns contain only numbers or intervals."""
    return [any(row[i] for row in rows) and all(NUMERIC.fullmatch(row[i]) for row in rows) for i in range(n)]
