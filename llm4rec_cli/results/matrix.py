"""The overview that a report opens with: methods × tasks, one matrix per dataset.

A column is a group of the report (a task under one protocol), a row a method. A cell holds one variant of the method.
Variants are chosen by how they were run and by validation, never by their results: chosen under the mask of the column;
of those the one with the best score on validation, then with the most seeds and the fewest overrides. Controls are not
shown, as they are not meant to be good. A method that is another one with something added is above that one with the
same settings, which may not be the other's chosen variant.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.schema import ModelKind
from llm4rec_cli.config.walk import settings_with
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.results.report import interval
from llm4rec_cli.results.tables import Content, is_wide
from llm4rec_cli.results.variants import Group, Variant

NOT_RUN = "·"
BEST, FLOOR = "*", "f"
MATCHED = "{}, as in {}"  # the name of a matched control's row
LINES = 100  # of two screens, which the matrices of a report share
AROUND = 12  # lines of a matrix besides its rows: title, headings, notes
MOST_COLUMNS = 5  # of a matrix on a terminal
MOST_WITH_INTERVALS = 2  # columns of a matrix that shows intervals and numbers of seeds, too


@dataclass(frozen=True)
class Cell:
    """A method under one task and protocol."""

    variant: Variant
    row: int  # its row in the table of its group, from 1
    value: float  # the column's metric, averaged over seeds
    best: bool = False  # whether no method of the column is better
    floor: bool = False  # whether it is the strongest floor of the column


@dataclass(frozen=True)
class Column:
    """A task under one protocol."""

    group: Group  # the report's group
    metric: str  # the group's headline metric
    heading: str  # the task, with a number if several columns have this task
    cells: Mapping[str, Cell]  # method -> cell, of the methods that were run

    @property
    def protocol(self) -> str:
        return " · ".join([self.group.members[0].heading[2], *filter(None, [self.group.size])])


@dataclass(frozen=True)
class Matrix:
    """Results on one dataset. It may be a part of `n_methods` and `n_columns`."""

    dataset: str
    methods: Sequence[str]  # the rows: methods of papers, our own, baselines, floors
    columns: Sequence[Column]  # one per task and protocol
    n_methods: int
    n_columns: int

    @property
    def title(self) -> str:
        return f"{self.dataset}: methods × tasks"

    def protocols(self) -> list[str]:
        """Return one line per protocol, with the columns that use it."""
        headings: dict[str, list[str]] = {}
        for column in self.columns:
            headings.setdefault(column.protocol, []).append(column.heading)
        return [f"{', '.join(columns)}: {protocol}" for protocol, columns in headings.items()]

    def shortened(self, rows: int) -> Matrix:
        """Return the columns with the most methods, and of these methods at most so many: those with the best or the
        strongest floor of a column, then of each model the one in the most columns, then the second of each, ..."""
        largest = sorted(self.columns, key=_column_size)[:MOST_COLUMNS]
        columns = [column for column in self.columns if column in largest]
        cells = {
            method: [column.cells[method] for column in columns if method in column.cells] for method in self.methods
        }
        by_size = sorted(filter(cells.get, self.methods), key=lambda method: -len(cells[method]))
        models = [cells[method][0].variant.first_run.model for method in by_size]
        turns = {method: models[:i].count(models[i]) for i, method in enumerate(by_size)}
        is_marked = {method: any(cell.best or cell.floor for cell in own) for method, own in cells.items()}
        selected = sorted(turns, key=lambda m: (not is_marked[m], turns[m], self.methods.index(m)))[:rows]
        return replace(self, methods=[method for method in self.methods if method in selected], columns=columns)


def _column_size(column: Column) -> tuple[bool, bool, int]:
    """Return the key by which columns are kept: those with the most methods, further draws and validation last."""
    run = column.group.members[0].first_run
    return "-draw" in run.protocol, run.split != "test", -len(column.cells)


def matrices(groups: Iterable[Group]) -> list[Matrix]:
    """Return one matrix per dataset, in the order of the groups, which must be sorted by dataset."""
    result = []
    for dataset, in_dataset in itertools.groupby(groups, key=lambda group: group.members[0].heading[0]):
        columns = _columns([group for group in in_dataset if group.headline_metric is not None])
        if columns:
            cells = {name: cell for column in columns for name, cell in column.cells.items()}
            methods = sorted(cells, key=lambda name: _place(name, cells[name]))
            result.append(Matrix(dataset, methods, columns, len(methods), len(columns)))
    return result


def _place(name: str, cell: Cell) -> tuple[int, str, str]:
    """Return the sort key of a row: the kind of its model. A matched control follows its method."""
    _, matched, method = name.partition(MATCHED.format("", ""))
    kind = config_class(cell.variant.first_run.model).traits.kind
    return [*ModelKind].index(kind), method or name, name if matched else ""


def _columns(groups: Sequence[Group]) -> list[Column]:
    tasks = [group.members[0].heading[1] for group in groups]
    columns = []
    for i, (group, task) in enumerate(zip(groups, tasks, strict=True)):
        number = f" {tasks[:i].count(task) + 1}" if tasks.count(task) > 1 else ""
        metric = str(group.headline_metric)
        cells = _cells(group, metric)
        if cells:
            columns.append(Column(group, metric, f"{task}{number}", cells))
    return columns


def _cells(group: Group, metric: str) -> dict[str, Cell]:
    """Return one cell per method or matched control. No cell is marked if the rows of the group use
    different data."""
    candidates: dict[str, list[Cell]] = {}
    for row, variant in enumerate(group.members, start=1):
        if variant.values(metric) and not variant.is_control:
            cell = Cell(variant, row, variant.mean(metric))
            candidates.setdefault(variant.name[0], []).append(cell)
    chosen = {name: min(cells, key=_preference(metric)) for name, cells in candidates.items()}
    for name, cell in list(chosen.items()):
        for other, cells in candidates.items():
            matched = [own for own in cells if other != name and _adds_to(cell.variant, own.variant)]
            if matched and chosen[other] not in matched:
                chosen[MATCHED.format(other, name)] = min(matched, key=_preference(metric))
    if group.has_mixed_data:
        return chosen
    sign = direction(metric)
    best = max((sign * cell.value for cell in chosen.values()), default=None)
    best_floor = max((sign * cell.value for cell in chosen.values() if cell.variant.is_floor), default=None)
    return {
        name: replace(
            cell,
            best=sign * cell.value == best,
            floor=cell.variant.is_floor and sign * cell.value == best_floor,
        )
        for name, cell in chosen.items()
    }


def _preference(metric: str) -> Callable[[Cell], tuple[float, ...]]:
    """Return the key by which the variant of a method is chosen, lowest first."""
    sign = direction(metric)

    def key(cell: Cell) -> tuple[float, ...]:
        variant = cell.variant
        validation, mask = variant.validation, bool(variant.first_run.mask_history)
        other_mask = (variant.first_run.selected_masked or {}).get("epoch", mask) != mask
        score = math.inf if validation is None else -sign * validation
        n_typed = len(variant.parts) - len(variant.distinction)
        return variant.is_mismatched, other_mask, score, -len(variant.runs), n_typed

    return key


def _adds_to(variant: Variant, other: Variant) -> bool:
    """Return whether a variant is another one, of the same model, with something that its name says added."""
    run, plain = variant.first_run, other.first_run
    if run.model != plain.model or not variant.name[0].startswith(other.name[0]):
        return False
    named = {f"model.{setting}" for setting in settings_with(config_class(run.model), "named")}
    ours, theirs = (one.settings.with_effect(free=frozenset({"seed", "dataset.text", *named})) for one in (run, plain))
    return all(ours[key] == theirs[key] for key in ours.keys() & theirs.keys())


def content(matrix: Matrix) -> Content:
    """Return the matrix as a table of text: the best of a column marked by `*`, its strongest floor by `f`."""
    headings, columns = ["method"], [[*matrix.methods]]
    for column in matrix.columns:
        cells = [column.cells.get(method) for method in matrix.methods]
        headings.append(f"{column.heading} {column.metric}")
        columns.append([*map(_text, cells)])
        if is_wide() or len(matrix.columns) <= MOST_WITH_INTERVALS:
            headings += ["95 %", "n"]
            columns.append([interval(cell.variant, column.metric) if cell else "" for cell in cells])
            columns.append([str(len(cell.variant.runs)) if cell else "" for cell in cells])
    left_out = [
        f"{n - len(part)} of {n} {what}"
        for part, n, what in (
            (matrix.methods, matrix.n_methods, "methods"),
            (matrix.columns, matrix.n_columns, "protocols"),
        )
        if len(part) < n
    ]
    notes = [
        *matrix.protocols(),
        *([f"left out: {', '.join(left_out)}: llm4rec report dataset={matrix.dataset} --all"] if left_out else []),
    ]
    return Content(matrix.title, headings, [[*row] for row in zip(*columns, strict=True)], notes)


LEGEND = (
    f"{BEST} best of the column, {FLOOR} its strongest floor, {NOT_RUN} not run",
    "one variant per method, by validation: chosen under the mask of its column, with the best score",
)


def overview(groups: Iterable[Group], everything: bool = False) -> list[Content]:
    """Return the matrices as tables, which together take about two screens unless `everything` is wanted."""
    whole = matrices(groups)
    rows = max(3, LINES // max(1, len(whole)) - AROUND)
    selected = whole if everything else [matrix.shortened(rows) for matrix in whole]
    tables = list(map(content, selected))
    return [*tables[:-1], replace(tables[-1], notes=[*tables[-1].notes, *LEGEND])] if tables else []


def _text(cell: Cell | None) -> str:
    """Format a cell as `0.1198 *f`, padded so that numbers align with any marks."""
    if cell is None:
        return f"{NOT_RUN:>6}"
    marks = BEST * cell.best + FLOOR * cell.floor
    return f"{cell.value:.4f} {marks}".rstrip()
