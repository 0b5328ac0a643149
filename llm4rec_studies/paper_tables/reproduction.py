"""A paper's table next to our runs, and the state of every table in a folder of runs.

`llm4rec reproduce` records what it showed in <outputs>/papers/<paper>/<table>.<size>.json. A table's state counts the
recorded cells whose runs are still in that folder.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from llm4rec_cli.config.compose import option_node
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.data.prepare import files_by_hand
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.files import locked, write_json
from llm4rec_cli.results import papers
from llm4rec_cli.results.describe import SYNTHETIC_NOTE
from llm4rec_cli.results.report import lettered, with_deviation
from llm4rec_cli.results.result import STATUS, Result
from llm4rec_cli.results.results import find_result
from llm4rec_cli.results.tables import Content
from llm4rec_cli.results.variants import Variant
from llm4rec_studies.paper_tables import definitions
from llm4rec_studies.paper_tables.definitions import ALL, REASONS, Cell, Kind, Size, Table, matches

RECORDS = "papers"  # folder of the records, under that of the runs
PLAIN_MARKS = ("synthetic", "inside", "outside")  # written out; other marks are letters, explained below
DIFFERS = "†"
INSIDE = {True: ["inside"], False: ["outside"], None: []}
COUNTS = ("users", "items", "interactions", "impressions", "clicks", "train", "valid", "test")  # whole numbers
FLAT = ("column", "row", "prompt", "metric", "paper", "source", "ours", "sd", "n", "low", "high", "marks", "runs")


class Value(NamedTuple):
    """A number of the paper, in our unit, and where it is printed."""

    number: float
    source: str


@dataclass(frozen=True, kw_only=True)
class RecordedCell:
    """A cell of a paper's table as `reproduce` has made it: the day, the machine, and the runs under the outputs."""

    date: str
    machine: str
    runs: Sequence[str]
    n: int = 0
    whole: bool = False  # with all of the table's seeds and searches, and no other settings


@dataclass(frozen=True)
class Line:
    """One metric of one cell."""

    cell: Cell
    metric: str  # the paper's name; empty for a cell that is not in the paper's table, whose one mark says why
    value: Value | None  # the paper's number; None if it is not known
    ours: Sequence[float] = ()  # one number for each seed
    interval: tuple[float, float] | None = None  # at 95 %; None without
    marks: Sequence[str] = ()  # labels of the runs, differences from the paper, and why there is no number of ours
    runs: Sequence[Path] = ()  # the folders of the runs
    dataset: str = ""  # the name of the dataset that they were run on; empty without runs

    def flat(self) -> list[Any]:
        """Return the values of the columns FLAT."""
        value, n = self.value or Value(float("nan"), ""), len(self.ours)
        return [
            *(self.cell.column.label, self.cell.row.label, self.cell.prompt.label if self.cell.prompt else ""),
            *(self.metric, None if self.value is None else value.number, value.source),
            *(statistics.fmean(self.ours) if n else None, statistics.stdev(self.ours) if n > 1 else None, n),
            *(self.interval or (None, None)),
            *("; ".join(self.marks), " ".join(map(str, self.runs))),
        ]


# --- the paper's numbers


def printed(table: Table, cell: Cell, metric: str) -> list[papers.Printed]:
    """Return the printed numbers that a cell selects: one, unless the table or the CSV is wrong; none if unsourced."""
    return [] if cell.unsourced else papers.select(metric, table.values_of(cell))


def value_of(table: Table, cell: Cell, metric: str, statistics_of_dataset: Any = None) -> Value | None:
    """Return the paper's number; None if it is not known.

    Args:
        statistics_of_dataset: of a table of datasets: the node `dataset.paper` of its config.
    """
    rows = printed(table, cell, metric)
    if len(rows) == 1:
        return Value(rows[0].value, rows[0].source)
    if table.kind is Kind.data and statistics_of_dataset and (number := statistics_of_dataset.get(metric)) is not None:
        return Value(float(number), statistics_of_dataset["source"])
    return None


# --- our numbers


def lines(
    table: Table,
    cell: Cell,
    size: Size,
    runs: Sequence[Result],
    failure: str | None,
    statistics_of_dataset: Any = None,
) -> Iterator[Line]:
    """Yield a line for each metric of a cell. One for what is not in the paper's table.

    Args:
        runs: of the cell, one for each seed; empty if it was not run.
        failure: why a run is missing.
    """
    variant = Variant(sorted(runs, key=lambda run: run.seed)) if runs else None
    reason = table.not_made(cell, size)
    if reason and reason[0] == "absent":
        yield Line(cell, "", None, marks=[reason[1]])
        return
    why = [f"{REASONS[reason[0]]}: {reason[1]}"] if reason else [failure] if failure else []
    for metric, own in table.metrics_of(cell).items():
        value = value_of(table, cell, metric, statistics_of_dataset) if size is not Size.small else None
        unsourced = [cell.unsourced] if cell.unsourced and value is None and size is not Size.small else []
        if metric in table.unmade:
            yield Line(cell, metric, value, marks=[f"not computed: {table.unmade[metric]}"])
        elif variant is None:
            yield Line(cell, metric, value, marks=[*why, *unsourced])
        else:
            yield _measured(table, cell, metric, own, value, variant, [*why, *unsourced])


def _measured(
    table: Table, cell: Cell, metric: str, own: str | None, value: Value | None, variant: Variant, marks: list[str]
) -> Line:
    rows = printed(table, cell, metric) if table.kind is Kind.runs else []
    name = own or (rows[0].metric if rows else metric)
    ours = [number for run in variant.runs if (number := _number(run, name)) is not None]
    if len(ours) < len(variant.runs):
        marks = [f"our runs have no metric '{name}'", *marks]
    if name.startswith("said") and (unread := _unread(variant, name.partition("/")[0])):
        marks = [unread, *marks]
    own_metric = _metric(variant.first_run, name)
    interval = variant.intervals.get(own_metric) if own_metric else None
    compared = [c for c in papers.comparisons(variant) if c.printed in rows] if rows and value else []
    differences = [difference for comparison in compared for difference in comparison.differences]
    if value and rows and ours and own_metric and not compared:
        reasons = papers.excluded(variant) or papers.not_compared(rows[0], variant)
        differences = [f"not compared: {'; '.join(reasons)}"]
    inside = INSIDE[compared[0].inside] if compared else []
    marks = [*inside, *variant.labels, *differences, *marks]
    marks = [*(mark for mark in PLAIN_MARKS if mark in marks), *(mark for mark in marks if mark not in PLAIN_MARKS)]
    folders = [run.folder for run in variant.runs]
    return Line(cell, metric, value, ours, interval, marks, folders, variant.first_run.dataset)


def _unread(variant: Variant, said: str) -> str | None:
    """Return the share of answers without a rating, which the errors `said` or `said_paper` leave out; None if all
    are."""
    share = 1 - min(run.metrics.get(f"{said}/coverage", 1.0) for run in variant.runs)
    what = "dropped, as by the published code" if said == "said_paper" else "no ratings, and left out"
    return f"{100 * share:.1f} % of the answers are {what}" if share else None


def _metric(run: Result, name: str) -> str | None:
    """Return a metric's name in a run; None if the run does not report it, such as a time or a group's metric."""
    names = (name, name.replace("hr@", "recall@"), name.replace("recall@", "hr@"))
    return next((own for own in names if own in run.metrics), None)


def _number(run: Result, name: str) -> float | None:
    """Return a metric by name; `BREAKDOWN/GROUP/METRIC` is one of a group, `milliseconds` is the time of an example."""
    if own := _metric(run, name):
        return float(run.metrics[own])
    if name == "milliseconds":
        return 1000 * run.seconds["evaluate"] / run.n_examples
    breakdown, _, rest = name.partition("/")
    group, _, metric = rest.partition("/")
    number = run.breakdown.get(breakdown, {}).get(group, {}).get(metric)
    return None if number is None else float(number)


# --- the table


def contents(table: Table, size: Size, all_lines: Sequence[Line]) -> list[Content]:
    """Return one table for each metric, in the paper's shape: methods down, its columns across, the paper's number
    beside ours. DIFFERS marks numbers that something restricts, and letters say why there is none.

    At the size `small` the numbers of the paper are left out: generated data cannot be compared with them.
    """
    with_metric = [line for line in all_lines if line.metric]
    letters = lettered(mark for line in with_metric if not line.ours for mark in line.marks)
    tables = []
    for metric in dict.fromkeys(line.metric for line in with_metric):
        of_metric = [line for line in with_metric if line.metric == metric]
        by_row: dict[tuple[str, str], dict[str, Line]] = {}
        for line in of_metric:
            prompt = line.cell.prompt.label if line.cell.prompt else ""
            by_row.setdefault((line.cell.row.label, prompt), {})[line.cell.column.label] = line
        labels = [*dict.fromkeys(line.cell.column.label for line in of_metric)]
        prompts = ["prompt"] if any(prompt for _, prompt in by_row) else []
        paper = ["paper"] if size is not Size.small and any(line.value for line in of_metric) else []
        rows = [
            [name, *([prompt] if prompts else []), *_pairs([row.get(label) for label in labels], letters, bool(paper))]
            for (name, prompt), row in by_row.items()
        ]
        tables.append(Content(metric, ["method", *prompts, *(h for label in labels for h in (label, *paper))], rows))
    run_on = dict.fromkeys(line.dataset for line in with_metric if line.dataset)
    notes = [f"run on {', '.join(run_on)}"] if run_on else []
    notes += [SYNTHETIC_NOTE] if any("synthetic" in line.marks for line in with_metric) else []
    if any(_differs(line) for line in with_metric):
        notes.append(f"{DIFFERS} labels of the runs, or something differs from the paper: --long says what")
    return _with_notes(tables, table, all_lines, letters, notes)


def _pairs(lines: Sequence[Line | None], letters: Mapping[str, str], has_paper: bool) -> Iterator[str]:
    """Yield our mean, or letters for why there is none, and the paper's number, of one line after the other."""
    for line in lines:
        if line is None:
            yield ""
        elif line.ours:
            yield _shown(line.metric, [statistics.fmean(line.ours)]) + f" {DIFFERS}" * _differs(line)
        else:
            yield " ".join(letters[mark] for mark in line.marks)
        if has_paper:
            yield _shown(line.metric, [line.value.number]) if line and line.value else ""


def _differs(line: Line) -> bool:
    return bool(line.ours) and not {*line.marks} <= {*PLAIN_MARKS}


def long_contents(table: Table, size: Size, all_lines: Sequence[Line]) -> list[Content]:
    """Return one table for each column of the paper's, a row each metric of a cell, with sd, intervals and marks."""
    with_metric = [line for line in all_lines if line.metric]
    letters = lettered(mark for line in with_metric for mark in line.marks if mark not in PLAIN_MARKS)
    tables = []
    for label in dict.fromkeys(line.cell.column.label for line in with_metric):
        of_column = [line for line in with_metric if line.cell.column.label == label]
        columns = {
            "method": [line.cell.row.label for line in of_column],
            "prompt": [line.cell.prompt.label if line.cell.prompt else "" for line in of_column],
            "metric": [line.metric for line in of_column],
            "paper": [
                "" if size is Size.small else _shown(line.metric, line.value and [line.value.number])
                for line in of_column
            ],
            "ours": [_shown(line.metric, line.ours) for line in of_column],
            "n": [str(len(line.ours) or "") for line in of_column],
            "95 %": [
                "" if line.interval is None else "–".join(f"{end:.4f}" for end in line.interval) for line in of_column
            ],
            "marks": [" ".join(letters.get(mark, mark) for mark in line.marks) for line in of_column],
        }
        columns = {name: cells for name, cells in columns.items() if any(cells) or name == "ours"}
        datasets = ", ".join(dict.fromkeys(line.dataset for line in of_column if line.dataset))
        title = f"{label} · run on {datasets}" if datasets else label
        tables.append(Content.of_columns(title, columns))
    return _with_notes(tables, table, all_lines, letters, [])


def _with_notes(
    tables: Sequence[Content],
    table: Table,
    all_lines: Sequence[Line],
    letters: Mapping[str, str],
    first: Sequence[str],
) -> list[Content]:
    """Return the tables with notes below the last one, which begin with `first`."""
    with_metric = [line for line in all_lines if line.metric]
    own_names = {line.metric: table.metrics_of(line.cell).get(line.metric) or line.metric for line in with_metric}
    reversed_names = [metric for metric, own in own_names.items() if direction(own) < 0]
    notes = [*first, *([f"lower is better: {', '.join(reversed_names)}"] if reversed_names else [])]
    notes += [f"{letter}: {mark}" for mark, letter in letters.items()]
    absent: dict[str, dict[str, None]] = {}
    for line in all_lines:
        if not line.metric:
            absent.setdefault(line.marks[0], {})[f"{line.cell.row.label} on {line.cell.column.label}"] = None
    notes += [f"{REASONS['absent']}: {', '.join(cells)}. {reason}" for reason, cells in absent.items()]
    *others, last = tables or [Content("no cell of the paper's table", [], [])]
    return [*others, replace(last, notes=[*notes, *table.notes])]


def _shown(metric: str, numbers: Sequence[float] | None) -> str:
    if not numbers:
        return ""
    if metric in COUNTS:
        return f"{statistics.fmean(numbers):,.0f}"
    return with_deviation(numbers, is_seeded=False)


def heading(table: Table, size: Size) -> str:
    """Return `UniSRec · Ranking … (arXiv …, Table 2) · at the size small`."""
    owner = papers.NAMES.get(table.name.partition("/")[0], table.name)
    at = {Size.paper: "", Size.cpu: " · at the size of a CPU", Size.small: " · small: stand-ins, not the paper's data"}
    return f"{owner} · {table.title} ({table.source}){at[size]}"


# --- records and states


def record_file(outputs: Path, name: str, size: Size) -> Path:
    return outputs / RECORDS / f"{name}.{size.value}.json"


def record(
    outputs: Path, table: Table, size: Size, all_lines: Sequence[Line], machine: str, whole: Container[Cell]
) -> Path:
    """Write what was shown, and keep recorded cells that are not shown now.

    Args:
        machine: in a few words.
        whole: the cells that were made as the table says: all of its seeds and searches, and no other settings.
    """
    file = record_file(outputs, table.name, size)
    now = datetime.now().strftime("%Y-%m-%d")
    with locked(file.with_suffix(".lock"), file):  # another job may make other cells of this table
        cells = _recorded_cells(file)
        for line in all_lines:
            if line.runs:
                runs = [folder for folder in line.runs if (folder / STATUS).exists() and outputs in folder.parents]
                folders = [folder.relative_to(outputs).as_posix() for folder in runs]
                is_whole, n = line.cell in whole, len(line.runs)
                previous = cells.get(line.cell.key)
                if is_whole or not (previous and previous.whole and _is_there(previous, outputs)):
                    cells[line.cell.key] = RecordedCell(date=now, machine=machine, runs=folders, n=n, whole=is_whole)
        content = {"schema": 2, "table": table.name, "size": size.value, "cells": msgspec.to_builtins(cells)}
        write_json(file, content)
    return file


def _is_there(recorded: RecordedCell, outputs: Path) -> bool:
    return all(find_result(outputs / folder) is not None for folder in recorded.runs)


def recorded_lines(table: Table, size: Size, outputs: Path) -> list[Line]:
    """Return the lines of the recorded cells whose runs are in the folder of the runs."""
    cells = _recorded_cells(record_file(outputs, table.name, size))
    all_lines: list[Line] = []
    for cell in table.cells():
        folders = [outputs / folder for folder in cells[cell.key].runs] if cell.key in cells else []
        runs = [run for folder in folders if (run := find_result(folder)) is not None]
        if runs:
            all_lines += lines(table, cell, size, runs, None)
    return all_lines


def _recorded_cells(file: Path) -> dict[str, RecordedCell]:
    try:
        return msgspec.convert(json.loads(file.read_text(encoding="utf-8"))["cells"], dict[str, RecordedCell])
    except (OSError, ValueError, KeyError):
        return {}


class State(NamedTuple):
    """What a folder of runs holds of a table, in numbers of cells."""

    cells: int
    made: int  # by a command
    by_hand: int  # of these, from raw files that are not downloaded
    quoted: int  # of baselines that the project does not have
    lacking: int  # without data, weights or a method
    words: str  # whether and where it was reproduced


def state(table: Table, outputs: Path) -> State:
    """Return the state of a table, from its records and the runs that they name."""
    kinds = [reason[0] if (reason := table.not_made(cell, Size.paper)) else "made" for cell in table.cells()]
    n_cells, made = len(kinds) - kinds.count("absent"), kinds.count("made")
    by_hand = sum(kind == "made" and _is_by_hand(table, cell) for kind, cell in zip(kinds, table.cells(), strict=True))
    return State(n_cells, made, by_hand, kinds.count("quoted"), kinds.count("lacks"), _words(table, outputs))


def _is_by_hand(table: Table, cell: Cell) -> bool:
    """Return whether the raw files of a cell are not all downloaded."""
    typed = [o for o in table.train_overrides(cell, Size.paper) or () if key_typed(o) == "dataset"]
    return any(map(_needs_files, typed))


@cache
def _needs_files(typed: str) -> bool:
    return bool(files_by_hand(option_node("dataset", typed.partition("=")[2])))


def _words(table: Table, outputs: Path) -> str:
    """Return whether, when and where the cells of a table were made, at the largest size at which some were."""
    for size in (Size.paper, Size.cpu, Size.small):
        done = {
            key: cell
            for key, cell in _recorded_cells(record_file(outputs, table.name, size)).items()
            if _is_there(cell, outputs)
        }
        if done:
            return _done_in_words(size, done, _made(table, size))
    if _made(table, Size.paper):
        return "never run"
    return "lacks data or a method; --small can be run" if _made(table, Size.small) else "lacks data or a method"


def _made(table: Table, size: Size) -> set[str]:
    """Return the keys of the cells that a command makes at this size."""
    return {cell.key for cell in table.cells() if not table.not_made(cell, size)}


def _done_in_words(size: Size, done: Mapping[str, RecordedCell], made: set[str]) -> str:
    latest = max(done.values(), key=lambda cell: cell.date)
    where = f"{latest.date}, {latest.machine}"
    n_cells = "1 cell" if len(done) == 1 else f"{len(done)} cells"
    if size is Size.small:
        return f"small only: {n_cells}, {where}"
    done_so = "reproduced" if size is Size.paper else "run at the size of a CPU"
    whole = {key for key, cell in done.items() if cell.whole}
    if made <= whole:
        return f"{done_so}: {where}"
    partly = f", {len(done.keys() - whole)} of them in part" if done.keys() - whole else ""
    return f"{len(done)} of {len(made)} cells {done_so}{partly}: {where}"


def states(outputs: Path, only: str = ALL, in_full: bool = False) -> Content:
    """Return every table with its state, of papers or tables that match a pattern.

    Args:
        in_full: with the number of cells of each kind.
    """
    rows = []
    for name in definitions.names():
        if matches(name, only) or matches(name.partition("/")[0], only):
            table = definitions.table(name)
            now = state(table, outputs)
            number = re.search(r"Table \d+", table.source)
            title = f"{table.title} ({number[0]})" if number else table.title
            counts = [str(n) for n in now[:5]] if in_full else [f"{now.made} of {now.cells}"]
            rows.append([name, title, *counts, now.words])
    headings = ["cells", "can run", "by hand", "quoted", "cannot"] if in_full else ["cells that can run"]
    columns = ["table", "title", *headings, "state"]
    kinds = (
        "cells of the paper's table; can run: by llm4rec reproduce TABLE; by hand: of these, from files that you "
        "put in place (--dry-run says which); quoted: baselines that the project does not have; cannot: no data, "
        "weights or method"
    )
    notes = [
        kinds if in_full else "can run: by llm4rec reproduce TABLE; the others: --wide",
        f"states: of the runs under {outputs}",
    ]
    return Content("tables of the papers", columns, rows, notes, whole=["table"])
