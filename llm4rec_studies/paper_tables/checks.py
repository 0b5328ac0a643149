"""Checks of tables of papers: their form, the overrides of their cells, and their printed numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm4rec_cli.config.folders import options
from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.errors import Llm4RecError, UsageError, did_you_mean
from llm4rec_cli.run.config_check import composed_node, problems_of_overrides
from llm4rec_studies.paper_tables import definitions, reproduction
from llm4rec_studies.paper_tables.definitions import Kind, Size, Table, merged


def problems_of_table(file: Path, name: str) -> list[Llm4RecError]:
    """Return the problems of a paper's table: of its form, its overrides, and its printed numbers."""
    if wrong := definitions.problems(file):
        return list(wrong)
    table = definitions.read(file, name)
    entries = [entry for row in (table.common, *table.rows, *table.columns) for entry in row.train.values() if entry]
    datasets = [o.partition("=")[2] for overrides in entries for o in overrides if o.startswith("dataset=")]
    if unknown := [name for name in datasets if name not in options("dataset")]:
        return [UsageError(f"unknown dataset '{name}'", did_you_mean(name, options("dataset"))) for name in unknown]
    problems = [error for overrides in _overrides_of_table(table) for error in problems_of_overrides(overrides)]
    return [*problems, *_problems_of_values(table)]


def _overrides_of_table(table: Table) -> Iterator[tuple[str, ...]]:
    """Yield the overrides of the first cell with each row, column, size of either, and evaluation."""
    first: set[tuple[Any, ...]] = set()
    for size in Size:
        for cell in table.cells():
            if table.not_made(cell, size) or cell.row.ensemble:
                continue
            own = size is Size.paper or size in cell.row.train
            uses: set[tuple[Any, ...]] = {
                ("row", cell.row.label, size) if own else ("size", size),
                ("column", cell.column.label, size),
                ("eval", table.eval_overrides(cell)),
            }
            if uses <= first:
                continue
            first |= uses
            train = table.train_overrides(cell, size) or ()
            if table.kind is Kind.data:
                train = (*train, "model=random")  # which any dataset has a task for
            if table.tuning and cell.row.tuned and size is Size.paper:
                train = merged([train, [f"{key}={values[-1]}" for key, values in table.tuning.grid.items()]])
            start = table.start_overrides(cell, size)
            yield from filter(None, (start, merged([train, table.eval_overrides(cell)])))


def _problems_of_values(table: Table) -> Iterator[UsageError]:
    """Yield the cells whose printed number does not exist, or that select several."""
    for cell in table.cells():
        if cell.reason and cell.reason[0] == "absent":
            continue
        statistics: Any = None
        if table.kind is Kind.data and (typed := table.train_overrides(cell, Size.paper)):
            statistics = composed_node([hydra_override(override) for override in typed]).dataset.paper
        for metric in table.metrics_of(cell):
            selected = reproduction.printed(table, cell, metric)
            if len(selected) > 1:
                owners = "; ".join(row.owner for row in selected)
                yield UsageError(f"'{cell.row.label}' selects several numbers of {metric}: {owners}", "add values:")
            elif (
                not selected
                and cell.unsourced is None
                and reproduction.value_of(table, cell, metric, statistics) is None
            ):
                yield UsageError(
                    f"'{cell.row.label}' has no printed {metric} on '{cell.column.label}'",
                    "correct its values:, or say why with unsourced:",
                )
