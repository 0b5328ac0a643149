"""Launches a command on the config that its overrides make: once, or once a job of a sweep."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import re
import sys
import tempfile
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

from llm4rec_cli import processes
from llm4rec_cli.config.compose import COMPOSE_ERRORS, Job, as_usage_error, compose, launch
from llm4rec_cli.config.overrides import FLAGS, hydra_override, key_typed, split_flags, sweep_model_settings
from llm4rec_cli.errors import DryRun, Llm4RecError, RunError, UsageError, as_full_disk, as_unusable_path, did_you_mean

log = logging.getLogger(__name__)

OUTCOMES = "LLM4REC_SWEEP_OUTCOMES"  # a folder: one JSON file a job of a sweep, whichever process ran it
CONDUCTOR = "LLM4REC_SWEEP_CONDUCTOR"  # the process that started the sweep
HELP = "LLM4REC_HELP"
PARALLEL = {"hydra/launcher=joblib", "hydra/launcher=submitit_local"}
WITH_OPTIONS = ("recommend", "judge")  # commands with options beside overrides: `parser()` in their module names them


def run(command: str, summary: str, arguments: list[str], verbose: bool) -> int:
    """Composes the config and runs `commands/<command>.py` once, or once a job of a sweep.

    Returns:
        the exit code: 0, or 1 if a job of a sweep failed.

    Raises:
        UsageError: the overrides are wrong.
        Llm4RecError: whatever the command raised.
    """
    _log_to_stderr(verbose)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or Hydra prints its own page and exits; our caller prints ours
    os.environ[HELP] = f"llm4rec {command}: {summary}"
    known: tuple[str, ...] = FLAGS
    given: list[Namespace] = []
    if command in WITH_OPTIONS:
        parser = importlib.import_module(f"llm4rec_cli.commands.{command}").parser()
        os.environ[HELP] += f"\n\n{parser.format_help()}"
        known += tuple(re.findall(r"--\w+", parser.format_usage()))
        own, arguments = parser.parse_known_args(arguments)
        given.append(own)
    flags, overrides = split_flags(["--help" if a == "-h" else a for a in arguments])
    for flag in flags:
        if flag.startswith("--") and flag.partition("=")[0] not in known:
            raise UsageError(f"unknown option '{flag}'", did_you_mean(flag, known))
    sweep = "-m" in flags or "--multirun" in flags
    if command in WITH_OPTIONS and (sweep or processes.world_size() > 1):
        raise UsageError(f"{command} answers one question in one process", "leave out -m and torchrun")
    if sweep and processes.world_size() > 1:
        raise UsageError("a sweep runs each job in one process", "llm4rec train -m …, without torchrun")
    if sweep and {"--cfg", "-c"} & set(flags):
        raise UsageError("-m and --cfg exclude one another", f"llm4rec {command} --cfg job, for one job")
    if PARALLEL & set(overrides):
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # jobs beside one another on these cores: more only collide
    typed = [hydra_override(override) for override in overrides]
    try:
        typed = sweep_model_settings(typed) if sweep else typed
        with _outcomes(overrides if sweep else None) as outcomes:
            os.environ |= {OUTCOMES: outcomes, CONDUCTOR: str(os.getpid())}
            if not flags:
                composed = compose(typed)
                with processes.process_group(composed.config.device):
                    importlib.import_module(f"llm4rec_cli.commands.{command}").run(composed, *given)
                return 0
            if "--help" in flags:
                shown = io.StringIO()
                with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):  # Hydra exits after its help
                    launch(_sweep_job, command, flags, typed)
                sys.stdout.write(re.sub(r"\b_\w+, ", "", shown.getvalue()))  # less the types, which nobody can choose
                return 0
            if sweep:
                return _swept(lambda: launch(_sweep_job, command, flags, typed), Path(outcomes))
            launch(_sweep_job, command, flags, typed)
            return 0
    except COMPOSE_ERRORS as error:
        raise as_usage_error(error) from error


def _sweep_job(job: Job) -> None:
    """One job of a sweep, in whichever process a launcher starts it. A failure is recorded and the sweep goes on."""
    if os.environ[CONDUCTOR] != str(os.getpid()):  # a process of a launcher: jobs speak at the same time
        _log_to_stderr(verbose=False, prefix=f"[job {job.number}] ")
    command = importlib.import_module(f"llm4rec_cli.commands.{job.command}")
    typed = {key_typed(override) for override in job.composed.typed}
    left = [f"{group}={job.composed.choices[group]}" for group in ("dataset", "task") if group not in typed]
    outcome = {"overrides": " ".join(job.composed.typed), "status": "failed", "folder": "", "error": ""}
    outcome["defaults"] = "" if "experiment" in typed else " ".join(left)
    try:
        finished = command.run(job.composed)
        outcome |= {"status": finished.status, "folder": str(finished.folder)}
    except DryRun as shown:
        outcome |= {"status": "shown", "error": shown.problem}
    except Llm4RecError as error:
        outcome["error"] = error.problem
        log.error("%s: %s (%s)", outcome["overrides"], error.problem, error.remedy)
    except Exception as error:
        told = as_full_disk(error) or as_unusable_path(error)
        outcome["error"] = told.problem if told else f"{type(error).__name__}: {error}"
        log.error("%s: %s", outcome["overrides"], told.problem if told else traceback.format_exc())
    (Path(os.environ[OUTCOMES]) / f"{job.number:06d}.json").write_text(json.dumps(outcome))


@contextlib.contextmanager
def _outcomes(overrides: list[str] | None) -> Iterator[str]:
    """A folder for the outcomes of a sweep; among the runs, as a launcher's jobs may run on other machines."""
    folder = None
    if overrides is not None:
        typed = dict(override.split("=", 1) for override in overrides if "=" in override)
        folder = Path(typed.get("paths.outputs", "outputs").strip("'\"")).expanduser().resolve() / ".sweeps"
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as found:
        yield found


def _swept(start: Callable[[], None], outcomes: Path) -> int:
    """Runs the sweep and prints its table, also where a job's process was killed and took the launcher with it."""
    try:
        start()
    except COMPOSE_ERRORS:
        raise
    except Exception as error:
        _summarise(outcomes)
        raise RunError(
            f"the sweep ended early: a job's process was lost ({type(error).__name__})",
            "give the same command again, with fewer jobs at a time if memory was short: what is done is skipped",
        ) from error
    return _summarise(outcomes)


def _summarise(folder: Path) -> int:
    from llm4rec_cli.reporting.tables import console, table

    outcomes = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    rows = [[o["overrides"], o["status"], o["folder"] or o["error"]] for o in outcomes]
    console().print(table("sweep", ["job", "status", "run or error"], rows))
    if len(data := dict.fromkeys(o["defaults"] for o in outcomes)) > 1:
        console().print(
            f"These jobs cannot be compared: models took their own data ({'; '.join(data)}). Name dataset= and task=.",
            soft_wrap=True,
        )
    return int(any(o["status"] == "failed" for o in outcomes))


def _log_to_stderr(verbose: bool, prefix: str = "") -> None:
    """Rich log lines on a terminal; elsewhere plain ones, with their prefix."""
    from rich.logging import RichHandler

    from llm4rec_cli.progress import console

    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(f"%(asctime)s {prefix}%(message)s", "%H:%M:%S"))
    root = logging.getLogger("llm4rec_cli")
    speaks = logging.DEBUG if verbose else logging.INFO
    root.setLevel(speaks if processes.is_first() else logging.WARNING)
    root.handlers[:] = [handler]
    root.propagate = False
