"""`llm4rec score FILE`: evaluate scores or ranked lists of another system beside our floors.

llm4rec score gru4rec.csv                                         on the built-in demo, full ranking
llm4rec score gru4rec.csv.gz --name gru4rec dataset=amazon2014-beauty dataset.raw_dir=PATH task.mask_history=true
llm4rec score ranks.parquet --name "my model" task=direct seed=1
llm4rec score lists.run --targets test.csv --training train.csv             of the other system
llm4rec score beams.jsonl --codes index.json                      semantic ids
llm4rec score FOLDER                                              each file in it, in one table

FILE is CSV or TSV with a header, RecBole's .inter, Parquet, a TREC run (.run, .trec) or JSON (.json, .jsonl), with
  user, item, score   higher is better
  user, item, rank    1 is best
  user, item          each user's items best first; in JSON and Parquet also a row per user with a list of items
(user_id and item_id are accepted too.) Ids are those of the raw files; numbers of another system are mapped by
--user-ids and --item-ids. Items missing from a user's list tie below it; if this affects a metric, the run is labelled
`truncated-lists`. For several seeds of one model, score one file each, with the same --name and its seed=.

--targets compares the items that the other system was tested on with ours, and refuses another split: it names the
first user that differs, and which split theirs is, if it is known. --training counts our test targets among its
training rows. The answer is a table with the floors, the paired interval, the gain on each slice, and whether "beats"
is allowed.

This is `llm4rec train model=external model.file=FILE model.alias=NAME …`: every override of `train` works here.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from llm4rec_cli.commands import command_parser
from llm4rec_cli.errors import Llm4RecError, RunError, UsageError

if TYPE_CHECKING:
    from llm4rec_cli.config.compose import Composed
    from llm4rec_cli.run.folder import Outcome
    from llm4rec_cli.run.job import Job
    from llm4rec_studies.inspection.audit import Check
    from llm4rec_studies.models.external.config import ExternalConfig

IDS = ("user_ids", "item_ids", "codes")  # options that are settings of the model


def main(argv: list[str]) -> int:
    parser = command_parser("score", __doc__, "llm4rec score FILE|FOLDER [options] [overrides]")
    parser.add_argument("file", metavar="FILE", type=Path, help="lists, or a folder of files of lists")
    parser.add_argument("--name", help="the model's name in tables (default: the file's name)")
    parser.add_argument("--targets", metavar="FILE", type=Path, help="user and item of each of its test examples")
    parser.add_argument("--training", metavar="FILE", type=Path, help="user and item of each of its training rows")
    parser.add_argument("--user-ids", metavar="FILE", help="lines of a raw id and the id in the lists; or JSON")
    parser.add_argument("--item-ids", metavar="FILE", help="likewise of items")
    parser.add_argument("--codes", metavar="FILE", help="the lists hold semantic ids: JSON, item -> its codes")
    options, overrides = parser.parse_known_args(argv)
    if any(override.partition("=")[0] == "model" for override in overrides):
        raise UsageError(
            "score takes no model=: the file is the model", "leave model= out; llm4rec train evaluates our models"
        )

    from llm4rec_cli.config.overrides import quoted
    from llm4rec_studies.models.external import files

    options.files = _files(options)
    for file in options.files:
        files.check(file)  # fails early, before anything is composed or computed
    settings = [f"model.{key}={quoted(path)}" for key in IDS if (path := getattr(options, key))]

    from llm4rec_cli import launch
    from llm4rec_cli.config.commands import commands

    is_one = len(options.files) == 1
    model = _named(options.files[0], options.name or _stem(options.files[0])) if is_one else ["model=external"]
    typed = [*model, *settings, *overrides]
    if {"-m", "--multirun"} & set(overrides):
        if options.targets or options.training or not is_one:
            raise UsageError("-m judges one file, and takes neither --targets nor --training", "leave out -m")
        return launch.run(commands()["train"], typed)
    return launch.run(commands()["score"], typed, options)


def _files(options: argparse.Namespace) -> list[Path]:
    """Return the files to judge. Raises UsageError if options do not fit several."""
    given = options.file.expanduser()
    if not given.is_dir():
        return [given]
    found = sorted(path for path in given.iterdir() if path.is_file() and not path.name.startswith("."))
    if not found:
        raise UsageError(f"{given} has no files", "llm4rec score FILE")
    if options.name:
        raise UsageError("--name names one file, but this is a folder", f"llm4rec score {found[0]}")
    return found


def run(composed: Composed, options: argparse.Namespace) -> Outcome:
    """Judge one file and print its table, slices and verdict; or several, in one table.

    Raises:
        DataError: the other system's split is another one.
        RunError: some of several files could not be judged.
    """
    from llm4rec_cli.run.execute import run_and_show
    from llm4rec_cli.run.job import Job

    jobs = [Job.resolve(composed, "train")] if len(options.files) == 1 else _jobs(composed, options.files)
    checks = _checks(jobs[0], options)
    if len(jobs) > 1:
        return _several(jobs)
    outcome = run_and_show(jobs[0])
    _judge(outcome, checks)
    return outcome


def _named(file: Path, name: str) -> list[str]:
    """Return the settings of a file's lists, under this name in tables."""
    from llm4rec_cli.config.overrides import quoted

    return ["model=external", f"model.file={quoted(str(file))}", f"model.alias={quoted(name)}"]


def _jobs(composed: Composed, files: list[Path]) -> list[Job]:
    """Return the jobs of several files. Of those with one name but different endings, the ending is part of it."""
    from llm4rec_cli.config.compose import compose
    from llm4rec_cli.run.job import Job

    stems = [_stem(file) for file in files]
    names = [stem if stems.count(stem) == 1 else file.name for stem, file in zip(stems, files, strict=True)]
    typed = [[*_named(file, name), *composed.typed[1:]] for file, name in zip(files, names, strict=True)]
    return [Job.resolve(compose(overrides), "train") for overrides in typed]


def _stem(file: Path) -> str:
    return file.name.partition(".")[0]


def _checks(job: Job, options: argparse.Namespace) -> dict[str, Check]:
    """Return what the files of another system's split say."""
    if not (options.targets or options.training):
        return {}
    from llm4rec_cli.run import stages
    from llm4rec_studies.referee import split as referee

    split, parts = stages.load_examples(job)
    examples = parts[job.config.split.value]
    if split.impression_assignment is not None:
        raise UsageError("--targets and --training are of a ranking, not of a click log", "leave them out")
    kinds = {"targets": referee.check_targets, "training": referee.check_training}
    given = {kind: file.expanduser() for kind in kinds if (file := getattr(options, kind))}
    return {kind: kinds[kind](file, cast("ExternalConfig", job.model), split, examples) for kind, file in given.items()}


def _several(jobs: list[Job]) -> Outcome:
    """Judge several files, and print one table with each floor once."""
    from llm4rec_cli.results import contents
    from llm4rec_cli.results.summary import compare_with_floor
    from llm4rec_cli.results.tables import say, show
    from llm4rec_cli.results.variants import groups, variants
    from llm4rec_cli.run.execute import run_all
    from llm4rec_cli.run.folder import Outcome

    outcomes: list[Outcome] = []
    failed = []
    for job in jobs:
        try:
            outcomes += run_all(job)
        except Llm4RecError as error:
            failed.append(f"{job.model.display_name()}: {error.problem} ({error.remedy})")
    results = {result.folder: result for outcome in outcomes for result in outcome.results}
    for group in groups(variants(results.values())):
        show(contents.results(group, in_short=True))
    for outcome in outcomes:
        *floors, run = outcome.results
        if comparison := compare_with_floor(run, floors):
            say(comparison.in_words())
    if failed:
        raise RunError(f"{len(failed)} of {len(jobs)} files were not judged: {'; '.join(failed)}", "repair them")
    done = any(outcome.status == "done" for outcome in outcomes)
    return Outcome("done" if done else "skipped", outcomes[0].folder, tuple(results.values()))


def _judge(outcome: Outcome, checks: dict[str, Check]) -> None:
    """Print what the gain over the strongest floor consists of, and what the checks found."""
    from llm4rec_cli.results.tables import say, show
    from llm4rec_studies.inspection.audit import audit, tables

    run = outcome.results[-1]
    try:
        judged = audit(str(run.folder), run.outputs)
    except Llm4RecError as error:  # without floors or slices there is nothing to take apart
        say(f"the gain is not taken apart: {error.problem}", *(check.reason for check in checks.values()))
        return
    judged = replace(judged, checks=[*checks.values(), *judged.checks])
    show(*tables(judged))
    say(judged.verdict)
