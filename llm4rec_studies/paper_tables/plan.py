"""What `llm4rec reproduce` makes of a table: the steps behind each cell, and their results."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from llm4rec_cli.config.registry import config_class
from llm4rec_cli.data.prepare import files_by_hand, missing_files
from llm4rec_cli.errors import Llm4RecError, UsageError
from llm4rec_cli.paths import cache_folder
from llm4rec_cli.results.report import ranges
from llm4rec_cli.results.result import Result
from llm4rec_cli.run.job import Job
from llm4rec_studies.human.export import KEY_FILE, export
from llm4rec_studies.human.score import judged
from llm4rec_studies.human.sheets import read_key
from llm4rec_studies.paper_tables import reproduction
from llm4rec_studies.paper_tables.definitions import REASONS, REFERENCE, Cell, Kind, Size, Table
from llm4rec_studies.paper_tables.reproduction import Line
from llm4rec_studies.paper_tables.steps import Runner, Step, cell_step, composed, in_order

log = logging.getLogger(__name__)

Results = tuple[Sequence[Result], str | None]  # runs of a cell, and why one is missing


@dataclass(frozen=True)
class Plan:
    """The steps behind each cell of a table that is to be made."""

    table: Table
    size: Size
    cells: Mapping[Cell, Sequence[Step]]  # of each cell one step for each seed
    runner: Runner
    is_whole: bool  # whether the steps are as the table says, with its searches and no other settings

    @cached_property
    def steps(self) -> list[Step]:
        return in_order([step for of_cell in self.cells.values() for step in of_cell])

    @cached_property
    def numbers(self) -> dict[Step, int]:
        return {step: number for number, step in enumerate(self.steps, start=1)}

    @cached_property
    def states(self) -> dict[Step, str]:
        """Of each step `done`, `to run`, or why that is not known."""
        return {step: self.runner.located(step) for step in self.steps}

    @property
    def trainings(self) -> int:
        """How many trainings of weights are not known to be done."""
        steps = [step for step, state in self.states.items() if step.command == "train" and state != "done"]
        models = [composed(self.runner.overrides(step)).config.model.name for step in steps]
        return sum(config_class(name).traits.trainable for name in models)

    def commands(self) -> Iterator[str]:
        """Yield each step as it is typed, with its number, its state, and the seconds of a finished run."""
        for step, number in self.numbers.items():
            state = self.states[step] if self.states[step] in ("done", "to run") else "unknown"
            if state == "done":
                state = f"done, {sum(self.runner.result(step).seconds.values()):,.0f} s"
            yield f"{number:4}  {state:14}{self.runner.command(step, self.numbers)}"

    def unknown(self) -> Iterator[str]:
        """Yield why the state of some steps is not known."""
        for state in dict.fromkeys(self.states.values()):
            if state not in ("done", "to run"):
                which = ranges([number for step, number in self.numbers.items() if self.states[step] == state])
                yield f"unknown, {which}: {state}"

    def missing_data(self) -> Iterator[str]:
        """Yield what is missing of each dataset, with its size, licence and source."""
        overrides = [self.runner.overrides(step) for step in self.steps if step.command != "ensemble"]
        configs = [composed(typed) for typed in overrides]
        datasets = {(each.config.dataset.name, each.config.dataset.raw_dir): each for each in configs}
        for dataset in datasets.values():
            config = Job.unchecked(dataset, "prepare").config.dataset
            missing = missing_files(config, cache_folder(self.runner.paths.cache))
            if not missing:
                continue
            counts = {what: getattr(config.paper, what, None) for what in ("users", "interactions", "impressions")}
            sizes = ", ".join(f"{n:,} {what}" for what, n in counts.items() if n)
            by_hand = set(missing) & set(files_by_hand(config))
            most = decimal(sum(entry.max_bytes for entry in config.download))
            how = f"downloaded when it is first used, at most {most}"
            how = f"{config.get} Then --raw {config.name}=PATH" if by_hand else how
            yield (
                f"missing: {config.name}{f' ({sizes})' if sizes else ''}: {', '.join(missing)}; "
                f"licence: {config.licence}; {how}"
            )

    def not_made(self) -> Iterator[str]:
        """Yield the cells that no step makes, by the kind of reason."""
        for kind, words in REASONS.items():
            cells = [cell for cell in self.cells if (why := self.table.not_made(cell, self.size)) and why[0] == kind]
            if cells:
                names = dict.fromkeys(f"{cell.row.label} on {cell.column.label}" for cell in cells)
                yield f"{words}: {', '.join(names)}"


def plan_of(
    table: Table,
    cells: Sequence[Cell],
    size: Size,
    seeds: Sequence[int],
    runner: Runner,
    untuned: bool,
    start_run: Path | None,
) -> Plan:
    """Return the steps of these cells.

    Args:
        seeds: empty = those of the table.
        untuned: whether rows that the table tunes are not searched.
        start_run: the run whose weights a row starts from that the table starts from another training's.
    """
    steps = {}
    for cell in cells:
        of_seeds = _seeds_of(table, cell, size, seeds or _seeds(table, size))
        made = (cell_step(table, cell, size, s, not untuned and size is Size.paper, start_run) for s in of_seeds)
        steps[cell] = [step for step in made if step is not None]
    is_tuned = not (untuned and table.tuning and size is Size.paper)
    is_whole = is_tuned and not runner.changes_runs and start_run is None
    return Plan(table, size, _without_repeated_columns(steps) if size is Size.small else steps, runner, is_whole)


def _seeds(table: Table, size: Size) -> Sequence[int]:
    return table.seeds[:1] if size is Size.small else table.seeds


def _seeds_of(table: Table, cell: Cell, size: Size, seeds: Sequence[int]) -> Sequence[int]:
    """Return the seeds that a cell is run with: only the first if its numbers do not depend on the seed."""
    models = [o.removeprefix("model=") for o in table.train_overrides(cell, size) or () if o.startswith("model=")]
    seeded = table.kind is not Kind.data and all(config_class(name).traits.seeded for name in models)
    return seeds if seeded and cell.row.seeded else seeds[:1]


def _without_repeated_columns(steps: Mapping[Cell, list[Step]]) -> dict[Cell, list[Step]]:
    """Return the steps with columns of equal steps as one: the stand-in of several datasets is shown once."""
    by_column: dict[str, list[Any]] = {}
    for cell, of_cell in steps.items():
        by_column.setdefault(cell.column.label, []).append((cell.row.label, cell.prompt, of_cell))
    first: dict[str, str] = {}
    for label, of_column in by_column.items():
        first[label] = next(other for other in by_column if by_column[other] == of_column)
    shown: dict[Cell, list[Step]] = {}
    for cell, of_cell in steps.items():
        label = cell.column.label
        if first[label] == label:
            in_place_of = ", ".join(other for other in by_column if first[other] == label)
            shown[replace(cell, column=replace(cell.column, label=in_place_of))] = of_cell
    return shown


# --- running


def make(plan: Plan) -> tuple[list[Line], Path]:
    """Run the steps of a plan and record its cells; return a line for each metric of a cell, and the record."""
    table, size, runner = plan.table, plan.size, plan.runner
    for step, number in plan.numbers.items():
        log.info("run %d of %d: %s", number, len(plan.steps), runner.command(step, plan.numbers))
        with contextlib.suppress(Llm4RecError):  # logged, and shown with its cells
            runner.result(step)
    results = {cell: _results(of_cell, runner) for cell, of_cell in plan.cells.items()}
    if table.kind is Kind.human:
        sheets = reproduction.record_file(runner.outputs, table.name, size).with_suffix(".sheets")
        results = _judged(results, sheets, runner)
    lines: list[Line] = []
    for cell, (runs, failure) in results.items():
        printed = None
        if table.kind is Kind.data and (overrides := table.train_overrides(cell, Size.paper)):
            printed = composed(overrides).config.dataset.paper
        lines += reproduction.lines(table, cell, size, runs, failure, printed)
    whole = [cell for cell, (runs, _) in results.items() if plan.is_whole and _has_all_seeds(plan, cell, runs)]
    return lines, reproduction.record(runner.outputs, table, size, lines, _machine(), whole)


def _has_all_seeds(plan: Plan, cell: Cell, runs: Sequence[Result]) -> bool:
    seeds = _seeds(plan.table, plan.size)
    needed, made = _seeds_of(plan.table, cell, plan.size, seeds), {run.seed for run in runs}
    return set(needed) <= made or (len(needed) < len(seeds) and bool(made))  # of a rule any seed will do


def _results(steps: Sequence[Step], runner: Runner) -> Results:
    """Return the runs of a cell, and why one is missing."""
    runs, failure = [], None
    for step in steps:
        try:
            runs.append(runner.result(step))
        except Llm4RecError as error:
            failure = f"failed: {error.problem}"
    return runs, failure


def _judged(results: Mapping[Cell, Results], sheets: Path, runner: Runner) -> dict[Cell, Results]:
    """Return the results with people's mean scores in place of the runs' metrics; export a sheet where there is none.

    Args:
        sheets: the folder of the sheet and its key.
    """
    written = {cell: runs[0] for cell, (runs, _) in results.items() if runs}
    if not written:
        return dict(results)
    folders = [str(run.folder) for run in written.values()]
    if not (sheets / KEY_FILE).exists():
        with contextlib.redirect_stdout(sys.stderr):
            export(
                folders, sheets, n_examples=50, seed=0, criteria=["clarity", "reasonableness"],
                with_reference=True, outputs=runner.outputs, cache=runner.paths.cache,
            )  # fmt: skip
    key = read_key(sheets)
    if [Path(folder).name for folder in key.runs.values()] != [run.folder.name for run in written.values()]:
        raise UsageError(f"{sheets} holds a sheet of other runs", "move that folder away, or choose the same --rows")
    means = judged(sheets)
    missing = f"not judged yet: llm4rec human score {sheets} SHEET.csv …"
    by_cell: dict[Cell, Results] = {}
    for cell, (runs, failure) in results.items():
        system = list(key.runs)[list(written).index(cell)] if cell in written else REFERENCE
        if not runs and cell.row.label != REFERENCE:
            by_cell[cell] = runs, failure
        elif system not in means:
            by_cell[cell] = [], missing
        else:
            run = runs[0] if runs else Result.of_numbers(sheets, "", {})
            by_cell[cell] = [replace(run, metrics=means[system], intervals={})], failure
    return by_cell


def _machine() -> str:
    """Return `Linux x86_64, 2 CPUs`, with the name of its accelerator."""
    import torch

    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs{device}"
