"""Run a command on the config composed from its overrides: once, or once per job of a sweep."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Iterator

from llm4rec_cli import processes
from llm4rec_cli.config.commands import Command
from llm4rec_cli.config.compose import compose, launch, usage_errors
from llm4rec_cli.config.folders import families
from llm4rec_cli.config.folders import options as options_of
from llm4rec_cli.config.overrides import (
    GROUPS,
    hydra_override,
    split_flags,
    sweep_model_settings,
)
from llm4rec_cli.errors import UsageError, raise_first
from llm4rec_cli.progress import log_to_stderr
from llm4rec_cli.sweep import run_sweep

PARALLEL = {"hydra/launcher=joblib", "hydra/launcher=submitit_local"}

COMMON_OPTIONS = """\
Common options:
  -m, --multirun   run each combination of values that are separated by commas: seed=0,1,2
  --cfg job        print the composed config and exit; --resolve replaces references, --package model shows a part
  --info defaults  print the files that are composed
  -h, --help       show this page
  -v, --verbose    show full tracebacks and more log lines
  --wide           show all columns of tables, on lines of any length"""


def run(command: Command, arguments: list[str], options: Namespace | None = None) -> int:
    """Compose the config and run a command's module once, or once per job of a sweep.

    Args:
        options: of a command that has parsed its own.

    Returns:
        the exit code: 0, or 1 if a job of a sweep failed.

    Raises:
        UsageError: the overrides are wrong.
        Llm4RecError: raised by the command.
    """
    log_to_stderr()
    processes.keep_freed_memory()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints errors itself and exits
    usage = ""
    if command.has_options:
        parser = command.load().parser()
        usage = parser.format_help()
        options, arguments = parser.parse_known_args(arguments)
    flags, overrides = split_flags(arguments, re.findall(r"--[\w-]+", usage))
    if "--help" in flags:
        print(_help(command, usage), end="")
        return 0
    sweep = "--multirun" in flags
    raise_first(_problems_of_flags(command.typed, flags, sweep, runs_once=options is not None))
    if PARALLEL & set(overrides):
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # the jobs share these cores
    raise_first(_problems_of_words(overrides))
    typed = [hydra_override(override) for override in overrides]
    if not flags:
        composed = compose(typed)
        with processes.process_group(composed.config.device):
            outcome = command.load().run(composed, *([options] if options else []))
        if outcome and outcome.next and processes.is_first():
            print(outcome.next)
        return 0
    with usage_errors():
        if sweep:
            return run_sweep(command.name, flags, sweep_model_settings(typed), overrides)
        launch(lambda _: None, command.name, flags, typed)  # Hydra prints what the flags ask for, and runs no job
        return 0


def _problems_of_flags(command: str, flags: list[str], sweep: bool, runs_once: bool) -> Iterator[UsageError]:
    if runs_once and (sweep or processes.world_size() > 1):
        yield UsageError(f"{command} runs once, in one process", "leave out -m and torchrun")
    if sweep and processes.world_size() > 1:
        yield UsageError("a sweep runs each job in one process", "llm4rec train -m …, without torchrun")
    if {"--resolve", "--package"} & set(flags) and "--cfg" not in flags:
        yield UsageError("--resolve and --package belong to --cfg", f"llm4rec {command} --cfg job --resolve")
    if sweep and "--cfg" in flags:
        yield UsageError("-m and --cfg exclude each other", f"llm4rec {command} --cfg job, for one job")


def _problems_of_words(words: list[str]) -> Iterator[UsageError]:
    """Yield an error for the first word that is the name of an option without its group."""
    for word in words:
        groups = [group for group in GROUPS if word in options_of(group)] if "=" not in word else []
        if groups:
            prefix = "+" if groups[0] == "experiment" else ""
            yield UsageError(f"expected KEY=VALUE, got '{word}'", f"{prefix}{groups[0]}={word}")


def _help(command: Command, usage: str) -> str:
    """Return the help page of a command.

    Args:
        usage: usage line of the command's own options; may be empty.
    """
    typed = {"experiment": "+experiment"}
    offered = "\n".join(f"{typed.get(group, group)}: {', '.join(families(options_of(group)))}" for group in GROUPS)
    runs_once = bool(usage)
    common = [line for line in COMMON_OPTIONS.splitlines() if not (runs_once and "--multirun" in line)]
    parts = (
        f"llm4rec {command.typed}: {command.summary}",
        usage.rstrip(),
        f"Groups and what they offer (group=option); llm4rec list GROUPs describes each:\n{offered}",
        "Any value can be set: group.key=value. See all of them, as composed: --cfg job",
        "\n".join(common),
        f"Examples:\n{command.examples}\n" if command.examples else "",
    )
    return "\n\n".join(filter(None, parts))
