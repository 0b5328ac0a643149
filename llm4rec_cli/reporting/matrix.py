"""The overview that a report opens with: methods × tasks, one matrix per dataset.

A column is a group of the report (a task under one protocol), a row a method. A cell holds one variant of the method.
Variants are chosen by how they were run, never by their results: on all examples, with the most seeds, of those the one
with the fewest overrides. Controls are not shown, as they are not meant to be good.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from llm4rec_cli.config.registry import MODEL_KINDS, model_kind
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.reporting.tables import Content
from llm4rec_cli.reporting.variants import Group, Variant

NOT_RUN = "·"
BEST, FLOOR, PARTIAL = "*", "f", "†"


@dataclass(frozen=True)
class Cell:
    """A method under one task and protocol.

    Attributes:
        variant: the variant that is shown.
        row: its row in the table of its group, from 1.
        value: the column's metric, averaged over seeds.
        best: whether no method of the column is better.
        floor: whether it is the strongest floor of the column.
        partial: whether it is evaluated on fewer examples than others; such a cell is neither.
    """

    variant: Variant
    row: int
    value: float
    best: bool = False
    floor: bool = False
    partial: bool = False


@dataclass(frozen=True)
class Column:
    """A task under one protocol.

    Attributes:
        group: the report's group.
        metric: the group's headline metric.
        heading: the task, with a number if several columns have this task.
        cells: method -> cell, of the methods that were run.
    """

    group: Group
    metric: str
    heading: str
    cells: Mapping[str, Cell]

    @property
    def protocol(self) -> str:
        """The protocol in words."""
        return self.group.members[0].heading[2]


@dataclass(frozen=True)
class Matrix:
    """All results on one dataset.

    Attributes:
        dataset: its name.
        methods: the rows: methods of papers, our own, baselines, floors.
        columns: one per task and protocol.
    """

    dataset: str
    methods: Sequence[str]
    columns: Sequence[Column]

    @property
    def title(self) -> str:
        return f"{self.dataset}: methods × tasks"

    def protocols(self) -> list[str]:
        """Return one line per protocol, with the columns that use it."""
        headings: dict[str, list[str]] = {}
        for column in self.columns:
            headings.setdefault(column.protocol, []).append(column.heading)
        return [f"{', '.join(columns)}: {protocol}" for protocol, columns in headings.items()]


def matrices(groups: Iterable[Group]) -> list[Matrix]:
    """Return one matrix per dataset, in the order of the groups, which must be sorted by dataset."""
    result = []
    for dataset, in_dataset in itertools.groupby(groups, key=lambda group: group.members[0].heading[0]):
        columns = _columns([group for group in in_dataset if group.headline_metric is not None])
        if columns:
            shown = {name: cell for column in columns for name, cell in column.cells.items()}
            kinds = {name: model_kind(cell.variant.first_run.model) for name, cell in shown.items()}
            methods = sorted(shown, key=lambda name: (MODEL_KINDS.index(kinds[name]), name))
            result.append(Matrix(dataset, methods, columns))
    return result


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
    """Return one cell per method. No cell is marked if the rows of the group use different data."""
    chosen: dict[str, Cell] = {}
    for row, variant in enumerate(group.members, start=1):
        if not variant.values(metric) or variant.is_control:
            continue
        name, _ = variant.name
        if name not in chosen or _rank(variant, group) < _rank(chosen[name].variant, group):
            chosen[name] = Cell(variant, row, variant.mean(metric), partial=group.is_partial(variant))
    if group.has_mixed_data:
        return chosen
    sign = direction(metric)
    complete = [cell for cell in chosen.values() if not cell.partial]
    best = max((sign * cell.value for cell in complete), default=None)
    best_floor = max((sign * cell.value for cell in complete if cell.variant.is_floor), default=None)
    return {
        name: cell
        if cell.partial
        else replace(
            cell,
            best=sign * cell.value == best,
            floor=cell.variant.is_floor and sign * cell.value == best_floor,
        )
        for name, cell in chosen.items()
    }


def _rank(variant: Variant, group: Group) -> tuple[bool, int, int]:
    """Return the key by which the variant of a method is chosen: all examples, most seeds, fewest overrides."""
    return group.is_partial(variant), -len(variant.runs), len(variant.parts) - len(variant.distinction)


def content(matrix: Matrix) -> Content:
    """Return the matrix as a table of text: the best of a column marked by `*`, its strongest floor by `f`."""
    columns = ["method", *(f"{column.heading} {column.metric}" for column in matrix.columns)]
    rows = [[method, *(_text(column.cells.get(method)) for column in matrix.columns)] for method in matrix.methods]
    notes = [
        f"{BEST} best of the column, {FLOOR} its strongest floor, {PARTIAL} on fewer examples than others, "
        f"{NOT_RUN} not run",
        "one variant per method: on all examples, with the most seeds, of those the one with the fewest overrides",
        *matrix.protocols(),
    ]
    return Content(matrix.title, columns, rows, notes)


def _text(cell: Cell | None) -> str:
    """Return `0.1198 *f`, so that numbers are aligned whatever their marks."""
    if cell is None:
        return f"{NOT_RUN:>6}"
    marks = BEST * cell.best + FLOOR * cell.floor + PARTIAL * cell.partial
    return f"{cell.value:.4f} {marks}".rstrip()
