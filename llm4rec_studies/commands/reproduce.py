"""`llm4rec reproduce PAPER/TABLE`: a table or figure of a paper, from one command.

llm4rec list papers                                                        every table, with its state
llm4rec reproduce unisrec/main --dry-run                                   missing data, commands, which are done
llm4rec reproduce unisrec/main --small                                     on generated data, within minutes
llm4rec reproduce unisrec/main --columns Scientific --raw amazon2018-scientific=PATH
llm4rec reproduce p5/sequential --rows "P5-S*,SASRec" --seeds 0 --raw FOLDER
llm4rec reproduce chatgptrec/rating --cpu --raw ml-100k=PATH               real data, packaged weights, short trainings

Every cell is made by ordinary `train` and `eval` commands: a training is run once, however many cells evaluate it, and
what is finished is skipped, also if it was typed by hand. After a kill the same command goes on. Rows that the paper
tunes are searched on validation first. A cell that fails does not stop the others. At the end a table in the paper's
shape has its numbers beside ours, and says why a cell is not run; --long adds sd, seeds, 95 % intervals, labels of the
runs and what differs from the paper. Tables are data: conf/paper/<paper>/<table>.yaml, yours in ./conf/paper.

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
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.commands import command_parser
from llm4rec_cli.config.overrides import PAPER_TABLES, setting_of
from llm4rec_cli.errors import Llm4RecError, RunError, UsageError, did_you_mean, raise_first
from llm4rec_cli.results.result import read_result
from llm4rec_studies.paper_tables import definitions
from llm4rec_studies.paper_tables.definitions import ALL, Size

if TYPE_CHECKING:
    from llm4rec_cli.run.config_check import Folder
    from llm4rec_studies.paper_tables.plan import Plan

log = logging.getLogger(__name__)

MOST_LINES = 3  # of a list in a dry run, which should fit a screen
SET_BY_REPRODUCE = ("seed", "split", "model", "dataset", "run")


def config_folders() -> dict[str, Folder]:
    """Return what `validate` checks for this command."""
    from llm4rec_cli.run.config_check import Folder
    from llm4rec_studies.paper_tables.checks import problems_of_table

    return {PAPER_TABLES: Folder("paper table", problems_of_table)}


def main(argv: list[str]) -> int:
    options, overrides = _parser().parse_known_args(argv)
    if flags := [argument for argument in overrides if argument.startswith("-")]:
        flag = flags[0].partition("=")[0]
        setting = setting_of(flag.lstrip("-"))
        remedy = f"settings are written without dashes: {setting}=…" if setting else "llm4rec reproduce --help"
        raise UsageError(f"unknown option '{flags[0]}'", remedy)
    if options.dry_run and options.csv:
        raise UsageError("--dry-run prints commands, and --csv prints results", "leave one of them out")
    table, size = definitions.table(options.table), Size[options.size]
    raise_first(_problems_of_overrides(overrides))
    cells = table.cells(options.rows, options.columns)
    if not cells:
        labels = [entry.label for entry in (*table.rows, *table.columns)]
        raise UsageError(f"no cell of {table.name} matches these labels", did_you_mean(options.rows.strip(ALL), labels))
    start_run = options.start and options.start.expanduser().resolve()
    if start_run and not (start_run.is_dir() and read_result(start_run)):
        raise UsageError(f"--start {start_run} is not a finished run", "llm4rec import-weights METHOD FILE makes one")
    seeds = _seeds(options.seeds)
    if options.dry_run:
        os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: a dry run downloads nothing

    from llm4rec_cli.progress import log_to_stderr
    from llm4rec_studies.paper_tables.plan import plan_of
    from llm4rec_studies.paper_tables.steps import Runner

    log_to_stderr()
    runner = Runner(_raw_folders(options.raw), overrides)
    plan = plan_of(table, cells, size, seeds, runner, options.untuned, start_run)
    if options.dry_run:
        _show_plan(plan, options.all)
        return 0
    if options.launcher:
        _launch(plan, options.launcher)
    return _reproduce(plan, options)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("reproduce", __doc__, "llm4rec reproduce PAPER/TABLE [overrides] [options]")
    add = parser.add_argument
    add("table", metavar="PAPER/TABLE", help="one of llm4rec list papers")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--small", dest="size", action="store_const", const="small", default="paper", help="generated data"
    )
    size.add_argument("--cpu", dest="size", action="store_const", const="cpu", help="real data and packaged weights")
    add(
        "--rows",
        metavar="PATTERN",
        default=ALL,
        help="only these methods: names with *, commas between several",
    )
    add("--columns", metavar="PATTERN", default=ALL, help="only these columns, in the same way")
    add("--seeds", metavar="LIST", help="comma-separated (default: those of the table; with --small its first)")
    add("--raw", metavar="[DATASET=]PATH", action="append", default=[], help="where raw files are")
    add(
        "--start", metavar="RUN", type=Path, help="start from this run's weights where a row starts from a pre-training"
    )
    add("--untuned", action="store_true", help="without the search on validation: the settings as shipped")
    add("--dry-run", action="store_true", help="run nothing: print what is missing, the commands and their states")
    add("--all", action="store_true", help="with --dry-run: every command, missing file and cell")
    add(
        "--launcher",
        metavar="NAME",
        help="run the seeds of a row, and its search, by this Hydra launcher: joblib, submitit_local",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--long", action="store_true", help="a row each metric of a cell, with sd, n and interval")
    output.add_argument("--csv", action="store_true", help="one row a cell and metric")
    return parser


def _problems_of_overrides(overrides: Sequence[str]) -> Iterator[UsageError]:
    from llm4rec_cli.config.overrides import key_typed

    for key in map(key_typed, overrides):
        if key in SET_BY_REPRODUCE or key.startswith("dataset.raw_dir"):
            yield UsageError(f"{key} is set by the table", "--seeds 0,1,2, --rows, --columns, --raw DATASET=PATH")
        if key == "llm.dry_run":
            yield UsageError("llm.dry_run shows the requests of one run", "llm4rec train … llm.dry_run=true")


def _seeds(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    if not all(word.isdecimal() for word in text.split(",")):
        raise UsageError(f"--seeds {text}: expected whole numbers", "--seeds 0,1,2")
    return tuple(map(int, text.split(",")))


def _raw_folders(typed: Sequence[str]) -> dict[str, Path]:
    """Return the raw folder of each dataset; `*` is a folder with one folder per dataset."""
    from llm4rec_cli.config.folders import options

    folders = {}
    for argument in typed:
        dataset, equals, path = argument.partition("=")
        name, folder = (dataset, path) if equals else ("*", argument)
        if equals and dataset not in options("dataset"):
            raise UsageError(f"--raw {argument}: unknown dataset", did_you_mean(dataset, options("dataset")))
        folders[name] = Path(folder).expanduser().resolve()
        if not folders[name].is_dir():
            raise UsageError(f"--raw {argument}: the folder does not exist", "--raw DATASET=PATH or --raw FOLDER")
    return folders


def _show_plan(plan: Plan, everything: bool) -> None:
    """Print what is missing, and the commands with their states; long lists in full if `everything` is wanted."""
    from llm4rec_cli.results.tables import say
    from llm4rec_studies.paper_tables.reproduction import heading

    done = sum(state == "done" for state in plan.states.values())
    say(heading(plan.table, plan.size), "")
    say(f"{len(plan.steps)} commands: {done} done, {len(plan.steps) - done} to run, with {plan.trainings} trainings")
    say(*_first([*plan.missing_data()], everything), *plan.unknown())
    print()
    print(*_first([*plan.commands()], everything), sep="\n", end="\n\n")  # each on one line, to be copied
    say(*_first([*plan.not_made()], everything))


def _first(lines: Sequence[str], everything: bool) -> Sequence[str]:
    """Return the first lines, with the number of the others; all if everything is wanted."""
    n = len(lines) - MOST_LINES
    return lines if everything or n <= 1 else [*lines[:MOST_LINES], f"… {n:,} more: --all"]


def _launch(plan: Plan, launcher: str) -> None:
    """Make by a Hydra launcher what can be made at the same time: the seeds of a row, and the runs of a search."""
    from llm4rec_cli import launch
    from llm4rec_cli.config.commands import commands
    from llm4rec_studies.paper_tables.steps import composed, trainings

    composed([f"hydra/launcher={launcher}"])  # an unknown one is refused
    for group in trainings(plan.steps):
        try:
            for swept in plan.runner.sweeps(group):
                with _stdout_to_stderr():
                    launch.run(commands()["train"], ["-m", f"hydra/launcher={launcher}", *swept])
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


def _reproduce(plan: Plan, options: argparse.Namespace) -> int:
    """Make the cells and print them; return 1 if some could not be made."""
    from llm4rec_cli.results.tables import comma_separated, say, show
    from llm4rec_studies.paper_tables.plan import make
    from llm4rec_studies.paper_tables.reproduction import FLAT, contents, heading, long_contents

    lines, file = make(plan)
    table = plan.table
    if options.csv:
        sys.stdout.write(comma_separated(FLAT, [line.flat() for line in lines]))
    else:
        say(heading(table, plan.size), "")
        show(*(long_contents if options.long else contents)(table, plan.size, lines))
        print(f"record: {file}")
    failed = {mark for line in lines for mark in line.marks if mark.startswith("failed: ")}
    if failed and not any(line.ours for line in lines):
        raise RunError(
            "no cell could be made: " + sorted(failed)[0].removeprefix("failed: "),
            "--dry-run says what is missing; --small needs no data",
        )
    return int(bool(failed))
