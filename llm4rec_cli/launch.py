"""Run a command on the config composed from its overrides: once, or once per job of a sweep."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import re
import sys
import tempfile
import traceback
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from llm4rec_cli import processes
from llm4rec_cli.config.compose import COMPOSE_ERRORS, SweepJob, compose, launch, usage_errors
from llm4rec_cli.config.compose import options as options_of
from llm4rec_cli.config.overrides import (
    GROUPS,
    hydra_override,
    key_typed,
    split_flags,
    sweep_jobs,
    sweep_model_settings,
)
from llm4rec_cli.errors import (
    DryRun,
    Llm4RecError,
    RunError,
    UsageError,
    as_environment_error,
    raise_first,
)

log = logging.getLogger(__name__)

VERBOSE = "LLM4REC_VERBOSE"  # set by -v, also for the processes of a sweep
PARALLEL = {"hydra/launcher=joblib", "hydra/launcher=submitit_local"}
# Commands with options as well as overrides: see `parser()` in their modules.
WITH_OPTIONS = ("recommend", "tune", "inspect_data", "inspect_memorisation")

COMMON_OPTIONS = """\
Common options:
  -m, --multirun   run each combination of values that are separated by commas: seed=0,1,2
  --cfg job        print the composed config and exit; --resolve replaces references, --package model shows a part
  --info defaults  print the files that are composed
  -h, --help       show this page
  -v, --verbose    show full tracebacks and more log lines
  --wide           show all columns of tables, on lines of any length"""


def run(command: str, summary: str, arguments: list[str], examples: str = "", options: Namespace | None = None) -> int:
    """Compose the config and run `commands/<command>.py` once, or once per job of a sweep.

    Args:
        summary, examples: the first line and the last lines of its help.
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
    if command in WITH_OPTIONS:
        parser = importlib.import_module(f"llm4rec_cli.commands.{command}").parser()
        usage = parser.format_help()
        options, arguments = parser.parse_known_args(arguments)
    flags, overrides = split_flags(arguments, re.findall(r"--[\w-]+", usage))
    if "--help" in flags:
        print(_help(command.replace("inspect_", "inspect "), summary, usage, examples), end="")
        return 0
    sweep = "--multirun" in flags
    raise_first(_problems_of_flags(command, flags, sweep, runs_once=options is not None))
    if PARALLEL & set(overrides):
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # the jobs share these cores
    typed = [hydra_override(override) for override in overrides]
    if not flags:
        composed = compose(typed)
        with processes.process_group(composed.config.device):
            importlib.import_module(f"llm4rec_cli.commands.{command}").run(composed, *([options] if options else []))
        return 0
    with usage_errors():
        typed = sweep_model_settings(typed) if sweep else typed
        if sweep:
            _warn_of_refused_jobs(command, typed)
            with _outcome_folder(overrides) as outcomes:
                run_job = partial(_sweep_job, outcomes, os.getpid())
                return _run_sweep(partial(launch, run_job, command, flags, typed), outcomes)
        launch(lambda _: None, command, flags, typed)  # Hydra prints what the flags ask for, and runs no job
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


def _help(command: str, summary: str, usage: str, examples: str) -> str:
    """Return the help page of a command.

    Args:
        usage: that of its own options; empty if it has none.
    """
    names = defaultdict[str, list[str]](list)  # what is typed before a name -> the names
    for group in GROUPS:
        for option in options_of(group):
            folder, _, name = option.rpartition("/")
            prefix = f"+experiment={folder}/…" if group == "experiment" else f"{group}={folder}/…" if folder else group
            names[prefix].append(name)
    offered = "\n".join(f"{prefix}: {', '.join(of_prefix)}" for prefix, of_prefix in names.items())
    runs_once = bool(usage)
    common = [line for line in COMMON_OPTIONS.splitlines() if not (runs_once and "--multirun" in line)]
    parts = (
        f"llm4rec {command}: {summary}",
        usage.rstrip(),
        f"Groups and what they offer (group=option):\n{offered}",
        "Any value can be set: group.key=value. See all of them, as composed: --cfg job",
        "\n".join(common),
        f"Examples:\n{examples}",
    )
    return "\n\n".join(filter(None, parts))


def _warn_of_refused_jobs(command: str, typed: list[str]) -> None:
    """Log before the first job how many are refused for their settings, and why. The others are run all the same.

    Raises:
        UsageError: an override of a job is wrong.
    """
    from llm4rec_cli.run.job import Job

    jobs = [compose(overrides) for overrides in sweep_jobs(typed)]
    refused = defaultdict[str, list[str]](list)
    for job in jobs:
        try:
            resolved = Job.unchecked(job, command)
            raise_first(resolved.problems() if command == "train" else ())
        except Llm4RecError as error:
            refused[f"{error.problem} ({error.remedy})"].append(" ".join(job.typed))
        except Exception:
            log.debug(traceback.format_exc())  # a bug fails its job alone, at its turn
    for problem, overrides in refused.items():
        log.warning("%d of %d jobs will fail, such as %s: %s", len(overrides), len(jobs), overrides[0], problem)


def _sweep_job(outcomes: Path, sweep_process: int, job: SweepJob) -> None:
    """Run one job of a sweep, in any process of the launcher. A failure is recorded and the sweep goes on.

    Args:
        outcomes: the folder that its outcome is written to, as JSON. It is no environment variable, as a launcher's
            processes may outlive a sweep and keep the environment of the first.
        sweep_process: id of the process that started the sweep.
    """
    if sweep_process != os.getpid():  # a launcher's process: jobs log at the same time
        log_to_stderr(f"[job {job.number}] ")
        processes.keep_freed_memory()
    command = importlib.import_module(f"llm4rec_cli.commands.{job.command}")
    typed_keys = {key_typed(override) for override in job.composed.typed}
    defaults = [f"{group}={job.composed.choices[group]}" for group in ("dataset", "task") if group not in typed_keys]
    overrides = " ".join(job.composed.typed)
    outcome = {"overrides": job.composed.typed, "status": "failed", "folder": "", "error": ""}
    outcome["defaults"] = "" if "experiment" in typed_keys else " ".join(defaults)
    try:
        result = command.run(job.composed)
        outcome |= {"status": result.status, "folder": str(result.folder)}
    except BrokenPipeError:  # nobody reads what is printed any more; a finished run is only shown again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _sweep_job(outcomes, sweep_process, job)
        return
    except DryRun as dry_run:
        outcome |= {"status": "shown", "error": dry_run.problem}
    except Llm4RecError as error:
        outcome["error"] = error.problem
        log.error("%s: %s (%s)", overrides, error.problem, error.remedy)
    except Exception as error:
        known = as_environment_error(error)
        outcome["error"] = known.problem if known else f"{type(error).__name__}: {error}"
        log.error("%s: %s", overrides, f"{known.problem} ({known.remedy})" if known else traceback.format_exc())
    (outcomes / f"{job.number:06d}.json").write_text(json.dumps(outcome))


@contextlib.contextmanager
def _outcome_folder(overrides: list[str]) -> Iterator[Path]:
    """Yield a temporary folder under paths.outputs, as a launcher's jobs may run on other machines."""
    typed = dict(override.split("=", 1) for override in overrides if "=" in override)
    folder = Path(typed.get("paths.outputs", "outputs").strip("'\"")).expanduser().resolve() / ".sweeps"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as outcomes:
        yield Path(outcomes)


def _run_sweep(start: Callable[[], None], outcomes: Path) -> int:
    """Run the sweep and print its table, also if a killed job took the launcher down with it."""
    try:
        start()
    except COMPOSE_ERRORS:
        raise
    except Exception as error:
        _summarise(outcomes)
        raise RunError(
            f"the sweep ended early: a job's process was lost ({type(error).__name__})",
            "run the same command again, with fewer parallel jobs if memory was short: finished runs are skipped",
        ) from error
    return _summarise(outcomes)


def _summarise(folder: Path) -> int:
    from llm4rec_cli.results.tables import Content, say, show
    from llm4rec_cli.results.words import shared

    outcomes = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    in_all_jobs = shared([o["overrides"] for o in outcomes]) if outcomes else []
    varied = [" ".join(typed for typed in o["overrides"] if typed not in in_all_jobs) for o in outcomes]
    rows = [[job, o["status"], o["folder"] or o["error"]] for job, o in zip(varied, outcomes, strict=True)]
    notes = [f"all jobs: {' '.join(in_all_jobs)}"] if in_all_jobs else []
    show(Content("sweep", ["job", "status", "run or error"], rows, notes, whole=["job", "run or error"]))
    if len(defaults := dict.fromkeys(o["defaults"] for o in outcomes)) > 1:
        say(
            f"These jobs are not comparable: their models' defaults differ ({'; '.join(defaults)}). "
            "Set dataset= and task=."
        )
    return int(any(o["status"] == "failed" for o in outcomes))


def log_to_stderr(prefix: str = "") -> None:
    """Log the package's messages with Rich on a terminal; elsewhere as plain lines, with the prefix. With -v, more."""
    from rich.logging import RichHandler

    from llm4rec_cli.progress import console

    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(f"%(asctime)s {prefix}%(message)s", "%H:%M:%S"))
    root = logging.getLogger("llm4rec_cli")
    level = logging.DEBUG if VERBOSE in os.environ else logging.INFO
    root.setLevel(level if processes.is_first() else logging.WARNING)
    root.handlers[:] = [handler]
    root.propagate = False
