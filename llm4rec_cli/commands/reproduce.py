"""`llm4rec reproduce PAPER/TABLE`: a table or figure of a paper, from one command.

llm4rec list papers                                                        every table, with its state
llm4rec reproduce unisrec/main --dry-run                                   the commands, which are done, what they cost
llm4rec reproduce unisrec/main --small                                     on generated data, within minutes
llm4rec reproduce unisrec/main --columns Scientific --raw amazon2018-scientific=PATH
llm4rec reproduce p5/sequential --rows "P5-S*,SASRec" --seeds 0 --raw FOLDER
llm4rec reproduce chatgptrec/rating --cpu --raw ml-100k=PATH               real data, packaged weights, short trainings

Every cell is made by ordinary `train` and `eval` commands: a training is run once, however many cells evaluate it, and
what is finished is skipped, also if it was typed by hand. After a kill the same command goes on. Rows that the paper
tunes are searched on validation first. A cell that fails does not stop the others. At the end the paper's numbers are
shown next to ours: mean ± sd over n seeds, the 95 % interval, and marks: labels of the runs, what differs from the
paper, and why a cell is not run. Tables are data: conf/paper/<paper>/<table>.yaml, yours in ./conf/paper.

  --raw DATASET=PATH   the folder of a dataset's raw files, as dataset.raw_dir; may be repeated
  --raw FOLDER         a folder that holds one folder for each dataset, with the dataset's name
  --cpu                real data with packaged weights and short trainings, where the table has such a setting
  --small              generated data; nothing is compared with the paper, and every cell is marked as synthetic

  --start RUN          in place of a pre-training: a run that holds its weights, as of llm4rec import-weights

Overrides after the table hold for every command: paths.outputs=PATH device=cpu trainer.epochs=1 task.max_examples=200.
To spread the work, run it in several terminals, each with other --rows or --columns: a run that another process works
on is waited for. --launcher joblib trains the seeds of each row at the same time.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.commands import command_parser
from llm4rec_cli.config import paper
from llm4rec_cli.config.paper import Cell, Kind, Size, Table
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.errors import Llm4RecError, RunError, UsageError, did_you_mean, raise_first
from llm4rec_cli.results.result import Result, read_result

if TYPE_CHECKING:
    from llm4rec_cli.llm.completions import Usage
    from llm4rec_cli.studies.reproduction import Line
    from llm4rec_cli.training.probe import Cost
    from llm4rec_cli.training.table_steps import Runner, Step

log = logging.getLogger(__name__)

Results = tuple[Sequence[Result], str | None]  # runs of a cell, and why one is missing

SET_BY_REPRODUCE = ("seed", "split", "model", "dataset", "run")


def main(argv: list[str]) -> int:
    options, overrides = _parser().parse_known_args(argv)
    if flags := [argument for argument in overrides if argument.startswith("-")]:
        raise UsageError(f"unknown option '{flags[0]}'", "llm4rec reproduce --help")
    if options.dry_run and (options.json or options.csv):
        raise UsageError("--dry-run prints commands, and --json and --csv print results", "leave one of them out")
    table, size_ = paper.table(options.table), Size[options.size]
    raise_first(_problems_of_overrides(overrides))
    cells = table.cells(options.rows, options.columns)
    if not cells:
        labels = [entry.label for entry in (*table.rows, *table.columns)]
        raise UsageError(
            f"no cell of {table.name} has such labels", did_you_mean(options.rows.strip(paper.ALL), labels)
        )
    start_run = options.start and options.start.expanduser().resolve()
    if start_run and not (start_run.is_dir() and read_result(start_run)):
        raise UsageError(f"--start {start_run} is not a finished run", "llm4rec import-weights METHOD FILE makes one")
    seeds = _seeds(options.seeds) or (table.seeds[:1] if size_ is Size.small else table.seeds)

    from llm4rec_cli import launch
    from llm4rec_cli.training.table_steps import Runner, cell_step

    launch.log_to_stderr()
    runner = Runner(_raw_folders(options.raw), overrides)
    tuned = not options.untuned and size_ is Size.paper
    plan = {
        cell: [
            step
            for seed in _seeds_of(table, cell, size_, seeds)
            if (step := cell_step(table, cell, size_, seed, tuned, start_run)) is not None
        ]
        for cell in cells
    }
    if size_ is Size.small:
        plan = _without_repeated_columns(plan)
    if options.dry_run:
        _show_plan(table, size_, plan, runner, probed=not options.unprobed)
        return 0
    if options.launcher:
        _launch(plan, runner, options.launcher)
    return _reproduce(table, size_, plan, runner, options)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("reproduce", __doc__, "llm4rec reproduce PAPER/TABLE [overrides] [options]")
    add = parser.add_argument
    add("table", metavar="PAPER/TABLE", help="one of llm4rec list papers")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--small", dest="size", action="store_const", const="small", default="paper", help="generated data"
    )
    size.add_argument("--cpu", dest="size", action="store_const", const="cpu", help="real data and packaged weights")
    add("--rows", metavar="PATTERN", default=paper.ALL, help="only these methods: names with *, commas between several")
    add("--columns", metavar="PATTERN", default=paper.ALL, help="only these columns, in the same way")
    add("--seeds", metavar="LIST", help="comma-separated (default: those of the table; with --small its first)")
    add("--raw", metavar="[DATASET=]PATH", action="append", default=[], help="where raw files are")
    add(
        "--start", metavar="RUN", type=Path, help="start from this run's weights where a row starts from a pre-training"
    )
    add("--untuned", action="store_true", help="without the search on validation: the settings as shipped")
    add("--dry-run", action="store_true", help="run nothing: print the commands, their states and their cost")
    add("--unprobed", action="store_true", help="with --dry-run: measure no cost")
    add(
        "--launcher",
        metavar="NAME",
        help="run the seeds of a row, and its search, by this Hydra launcher: joblib, submitit_local",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object")
    output.add_argument("--csv", action="store_true", help="one row a cell and metric")
    return parser


def _problems_of_overrides(overrides: Sequence[str]) -> Iterator[UsageError]:
    from llm4rec_cli.config.overrides import key_typed

    for key in map(key_typed, overrides):
        if key in SET_BY_REPRODUCE or key.startswith("dataset.raw_dir"):
            yield UsageError(f"{key} is set by the table", "--seeds 0,1,2, --rows, --columns, --raw DATASET=PATH")
        if key == "llm.dry_run":
            yield UsageError("llm.dry_run shows the requests of one run", "--dry-run counts those of all")


def _seeds(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    if not all(word.isdecimal() for word in text.split(",")):
        raise UsageError(f"--seeds {text} is not a list of whole numbers", "--seeds 0,1,2")
    return tuple(map(int, text.split(",")))


def _seeds_of(table: Table, cell: Cell, size: Size, seeds: Sequence[int]) -> Sequence[int]:
    """Return the seeds that a cell is run with: the first alone if its numbers depend on none."""
    models = [o.removeprefix("model=") for o in table.train_overrides(cell, size) or () if o.startswith("model=")]
    seeded = table.kind is not Kind.data and all(config_class(name).traits.seeded for name in models)
    return seeds if seeded else seeds[:1]


def _raw_folders(typed: Sequence[str]) -> dict[str, Path]:
    """Return dataset -> folder; `*` = the folder that holds one for each dataset."""
    from llm4rec_cli.config.compose import options

    folders = {}
    for argument in typed:
        dataset, equals, path = argument.partition("=")
        name, folder = (dataset, path) if equals else ("*", argument)
        if equals and dataset not in options("dataset"):
            raise UsageError(f"--raw {argument}: unknown dataset", did_you_mean(dataset, options("dataset")))
        folders[name] = Path(folder).expanduser().resolve()
        if not folders[name].is_dir():
            raise UsageError(f"--raw {argument}: there is no such folder", "--raw DATASET=PATH or --raw FOLDER")
    return folders


def _without_repeated_columns(plan: Mapping[Cell, list[Step]]) -> dict[Cell, list[Step]]:
    """Return the plan with columns of equal steps as one: the stand-in of several datasets is shown once."""
    steps: dict[str, list[Any]] = {}
    for cell, of_cell in plan.items():
        steps.setdefault(cell.column.label, []).append((cell.row.label, cell.prompt, of_cell))
    first: dict[str, str] = {}
    for label, of_column in steps.items():
        first[label] = next(other for other in steps if steps[other] == of_column)
    shown: dict[Cell, list[Step]] = {}
    for cell, of_cell in plan.items():
        label = cell.column.label
        if first[label] == label:
            in_place_of = ", ".join(other for other in steps if first[other] == label)
            shown[replace(cell, column=replace(cell.column, label=in_place_of))] = of_cell
    return shown


# --- a dry run


def _show_plan(table: Table, size: Size, plan: Mapping[Cell, list[Step]], runner: Runner, probed: bool) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: a dry run downloads nothing
    from llm4rec_cli.results.contents import ranges
    from llm4rec_cli.results.tables import say
    from llm4rec_cli.studies.reproduction import heading
    from llm4rec_cli.training.table_steps import in_order

    steps = in_order([step for of_cell in plan.values() for step in of_cell])
    numbers = {step: number for number, step in enumerate(steps, start=1)}
    states = {step: runner.located(step) for step in steps}
    say(heading(table, size), "")
    for step in steps:
        short = states[step] if states[step] in ("done", "to run") else "unknown"
        say(f"{numbers[step]:4}  {short:8}{runner.command(step, numbers)}")
    print()
    blocked = {state: [numbers[s] for s in steps if states[s] == state] for state in states.values()}
    for state, which in blocked.items():
        if state not in ("done", "to run"):
            say(f"unknown, {ranges(which)}: {state}")
    _show_cost(steps, states, numbers, runner, probed)
    for kind, words in paper.REASONS.items():
        whose = dict.fromkeys(
            f"{cell.row.label} on {cell.column.label}"
            for cell in plan
            if (reason := table.not_made(cell, size)) and reason[0] == kind
        )
        if whose:
            say(f"{words}: {', '.join(whose)}")


def _show_cost(
    steps: Sequence[Step], states: Mapping[Step, str], numbers: Mapping[Step, int], runner: Runner, probed: bool
) -> None:
    """Print how many runs there are, and what each distinct one costs here."""
    from llm4rec_cli.results.contents import ranges
    from llm4rec_cli.results.tables import Content, say, show
    from llm4rec_cli.training.probe import Cost
    from llm4rec_cli.training.table_steps import composed, distinct

    rows, chats, minutes, memory, trainings, unknown = [], [], 0.0, 0, 0, 0
    for first, group in distinct(steps, ("train", "eval")):
        to_run = [step for step in group if states[step] != "done"]
        model = config_class(composed(runner.overrides(first)).config.model.name)
        if first.command == "train" and model.traits.trainable:
            trainings += len(to_run)
        if not probed or not to_run:
            continue
        which, n_runs = ranges([numbers[step] for step in to_run]), len(to_run)
        cost = _cost(to_run[0], states, runner, model.traits.uses_llm)
        if cost is None:
            unknown += n_runs
        elif isinstance(cost, Cost):
            minutes += (cost.training + cost.evaluation) * n_runs
            memory = max(memory, cost.memory_mb)
            of_each = [f"{part:.1f}" for part in (cost.training, cost.evaluation)]
            rows.append([which, str(n_runs), *of_each, f"{cost.memory_mb:,}"])
        else:
            counts = [f"{count:,}" for count in (cost.requests, cost.prompt_tokens, cost.answer_tokens)]
            chats.append([which, str(n_runs), *counts, f"{cost.cost:.4f}"])
    if rows:
        show(Content("minutes and MiB of a run", ["commands", "runs", "training", "evaluation", "MiB"], rows))
    if chats:
        columns = ["commands", "runs", "requests", "prompt tokens", "answer tokens", "cost"]
        notes = ["high estimates, with controls, at the prices in llm.price_*; what is stored is sent no more"]
        show(Content("what a chat model is sent for a run", columns, chats, notes))
    done = sum(state == "done" for state in states.values())
    about = (
        "less than a minute" if minutes < 1 else f"about {minutes:.0f} minutes" if minutes >= 1.5 else "about a minute"
    )
    cost_in_words = f"; {about} and {memory:,} MiB here" if memory else ""
    unknown_in_words = f"; {unknown} of unknown cost" if unknown else ""
    say(
        f"{len(steps)} commands: {done} done, {len(steps) - done} to run, with {trainings} trainings"
        f"{cost_in_words}{unknown_in_words}"
    )
    if memory:
        say("measured on a few training steps and examples, without floors; training may end earlier, MiB of the host")


def _cost(step: Step, states: Mapping[Step, str], runner: Runner, uses_llm: bool) -> Cost | Usage | None:
    """Return what a run costs, or what a chat model is sent; None if its data or weights are not on this machine."""
    from llm4rec_cli.config.overrides import hydra_override
    from llm4rec_cli.training.probe import chat_usage, probe

    if states[step] != "to run":
        return None
    overrides = [hydra_override(override) for override in runner.overrides(step)]
    try:
        return chat_usage(overrides) if uses_llm else probe(step.command, overrides)
    except Llm4RecError as error:
        log.info("not measured: %s", error.problem)
        return None


# --- running


def _launch(plan: Mapping[Cell, list[Step]], runner: Runner, launcher: str) -> None:
    """Make by a Hydra launcher what can be made at the same time: the seeds of a row, and the runs of a search."""
    from llm4rec_cli import launch
    from llm4rec_cli.commands import HYDRA_COMMANDS
    from llm4rec_cli.training.table_steps import composed, distinct, in_order

    composed([f"hydra/launcher={launcher}"])  # an unknown one is refused
    for _, group in distinct(in_order([step for of_cell in plan.values() for step in of_cell]), ("train",)):
        try:
            for swept in runner.sweeps(group):
                with _stdout_to_stderr():
                    launch.run("train", HYDRA_COMMANDS["train"], ["-m", f"hydra/launcher={launcher}", *swept])
        except Llm4RecError as error:
            log.warning("not launched, tried again without: %s", error.problem)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what this process and those that it starts print to stderr: stdout is for the paper's table."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def _reproduce(
    table: Table, size: Size, plan: Mapping[Cell, list[Step]], runner: Runner, options: argparse.Namespace
) -> int:
    from llm4rec_cli.results.tables import comma_separated, json_text, say, show
    from llm4rec_cli.studies import reproduction
    from llm4rec_cli.training.table_steps import composed, in_order

    steps = in_order([step for of_cell in plan.values() for step in of_cell])
    for number, step in enumerate(steps, start=1):
        log.info("run %d of %d: %s %s", number, len(steps), step.command, " ".join(step.overrides))
        with contextlib.suppress(Llm4RecError):  # logged, and shown with its cells
            runner.result(step)
    outputs = runner.outputs
    results = {cell: _results(of_cell, runner) for cell, of_cell in plan.items()}
    if table.kind is Kind.human:
        results = _judged(results, reproduction.record_file(outputs, table.name, size).with_suffix(".sheets"), runner)
    all_lines: list[Line] = []
    for cell, (runs, failure) in results.items():
        printed = None
        if table.kind is Kind.data and (overrides := table.train_overrides(cell, Size.paper)):
            printed = composed(overrides).config.dataset.paper
        all_lines += reproduction.lines(table, cell, size, runs, failure, printed)
    file = reproduction.record(
        outputs, table, size, all_lines, _machine(), _whole(table, size, results, options, runner)
    )
    if options.json:
        cells = [dict(zip(reproduction.FLAT, line.flat(), strict=True)) for line in all_lines]
        print(
            json_text(
                {"table": table.name, "title": table.title, "source": table.source, "size": size.value, "cells": cells},
                indent=2,
            )
        )
    elif options.csv:
        sys.stdout.write(comma_separated(reproduction.FLAT, [line.flat() for line in all_lines]))
    else:
        say(reproduction.heading(table, size), "")
        show(*reproduction.contents(table, size, all_lines))
        print(f"record: {file}")
    failed = {mark for line in all_lines for mark in line.marks if mark.startswith("failed: ")}
    if failed and not any(line.ours for line in all_lines):
        raise RunError(
            "no cell could be made: " + sorted(failed)[0].removeprefix("failed: "),
            "--dry-run says what is missing; --small needs no data",
        )
    return int(bool(failed))


def _whole(
    table: Table, size: Size, results: Mapping[Cell, Results], options: argparse.Namespace, runner: Runner
) -> list[Cell]:
    """Return the cells that were made as the table says: with all of its seeds and searches, and no other settings."""
    if runner.changes_runs or options.start or (options.untuned and table.tuning and size is Size.paper):
        return []
    seeds = table.seeds[:1] if size is Size.small else table.seeds

    def is_whole(cell: Cell, runs: Sequence[Any]) -> bool:
        needed, made = _seeds_of(table, cell, size, seeds), {run.seed for run in runs}
        return set(needed) <= made or (len(needed) < len(seeds) and bool(made))  # of a rule any seed will do

    return [cell for cell, (runs, _) in results.items() if is_whole(cell, runs)]


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
    """Return the results with people's judgements in place of the runs' metrics; export sheets where there are none.

    Args:
        sheets: the folder of the sheets.
    """
    from llm4rec_cli.studies.human.export import KEY, export
    from llm4rec_cli.studies.human.score import judged
    from llm4rec_cli.studies.human.sheets import read_key

    written = {cell: runs[0] for cell, (runs, _) in results.items() if runs}
    if not written:
        return dict(results)
    folders = [str(run.folder) for run in written.values()]
    if not (sheets / KEY).exists():
        with contextlib.redirect_stdout(sys.stderr):
            export(
                folders, sheets, n_examples=50, seed=0, criteria=["clarity", "reasonableness"], scale="rank",
                with_reference=True, outputs=runner.outputs, cache=runner.paths.cache,
            )  # fmt: skip
    key = read_key(sheets)
    if [run["config_hash"] for run in key["runs"]] != [run.config_hash for run in written.values()]:
        raise UsageError(f"{sheets} holds sheets of other runs", "move that folder away, or choose the same --rows")
    judgements = judged(sheets)
    missing = f"not judged yet: llm4rec human score {sheets} SHEET.csv …"
    by_cell: dict[Cell, Results] = {}
    for cell, (runs, failure) in results.items():
        systems = [run["system"] for run in key["runs"]]
        system = systems[list(written).index(cell)] if cell in written else paper.REFERENCE
        if not runs and cell.row.label != paper.REFERENCE:
            by_cell[cell] = runs, failure
        elif system not in judgements:
            by_cell[cell] = [], missing
        else:
            people = judgements[system]
            run = runs[0] if runs else people
            by_cell[cell] = [replace(run, metrics=people.metrics, intervals=people.intervals)], failure
    return by_cell


def _machine() -> str:
    """Return `Linux x86_64, 2 CPUs`, with the name of its accelerator."""
    import torch

    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs{device}"
