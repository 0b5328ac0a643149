"""`-m`: one job for each combination of values, and at the end one table of all of them.

Hydra splits the overrides and launches the jobs, here or by joblib or submitit. What is added, and why Hydra's own
does not serve: jobs that a rule refuses are named before the first one starts, where Hydra tells at each job's turn;
how a job ended is a file, as a launcher that loses a process (killed for memory) returns nothing of the others; a
failure is one line with its remedy, where Hydra prints a traceback and ends with the first; each process of several
takes a GPU of its own, which no launcher for one machine does; and the results become one table.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llm4rec_cli import processes
from llm4rec_cli.config.commands import commands
from llm4rec_cli.config.compose import COMPOSE_ERRORS, SweepJob, compose, launch
from llm4rec_cli.config.overrides import command_line, key_typed, sweep_jobs
from llm4rec_cli.errors import DryRun, Llm4RecError, RunError, as_environment_error, raise_first
from llm4rec_cli.files import locked
from llm4rec_cli.paths import default_outputs, outputs_option
from llm4rec_cli.progress import log_to_stderr

log = logging.getLogger(__name__)

KEEPS_GPU = "LLM4REC_KEEPS_GPU"  # set in a process that has chosen its GPU
KEPT_LOCKS = contextlib.ExitStack()
atexit.register(KEPT_LOCKS.close)


def run_sweep(command: str, flags: list[str], typed: list[str], overrides: Sequence[str]) -> int:
    """Run a command once per combination of values, and print the table of all jobs and that of their results, also if
    a killed job took the launcher down with it.

    Args:
        typed: the overrides in Hydra's grammar.
        overrides: as the user typed them.

    Returns:
        the exit code: 1 if a job failed.

    Raises:
        RunError: a job's process was lost.
        UsageError: an override of a job is wrong.
    """
    _warn_of_refused_jobs(command, typed)
    with _outcome_folder(overrides) as outcomes:
        try:
            launch(partial(_run_job, outcomes, os.getpid()), command, flags, typed)
        except COMPOSE_ERRORS:
            raise
        except Exception as error:
            _summarise(outcomes)
            raise RunError(
                f"the sweep ended early: a job's process was lost ({type(error).__name__})",
                "run the same command again, with fewer parallel jobs if memory was short: finished runs are skipped",
            ) from error
        return _summarise(outcomes)


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


def keep_one_gpu(sweep: int) -> None:
    """Let this process, one of several of a sweep, use one of several GPUs, which as few others of them use as
    possible. It keeps that one for later jobs.

    Args:
        sweep: id of the process that started the sweep.
    """
    if KEEPS_GPU in os.environ:
        return
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        gpus = visible.split(",")
    else:
        import torch

        gpus = [str(number) for number in range(torch.cuda.device_count())]  # does not start CUDA
    if len(gpus) > 1:
        number = _number_of_its_own(Path(tempfile.gettempdir()) / f"llm4rec-gpus-{os.getuid()}-{sweep}")
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        os.environ[KEEPS_GPU] = "1"


def _number_of_its_own(locks: Path) -> int:
    """Return the lowest number, from 0, that no other process holds, and hold it until this one ends."""
    number = 0
    while True:
        with contextlib.suppress(BlockingIOError):
            KEPT_LOCKS.enter_context(locked(locks / str(number), locks, wait=False))
            return number
        number += 1


def _run_job(outcomes: Path, sweep_process: int, job: SweepJob) -> None:
    """Run one job of a sweep, in any process of the launcher. A failure is recorded and the sweep goes on.

    Args:
        outcomes: the folder that its outcome is written to, as JSON. It is not an environment variable, because a
            launcher's processes may outlive a sweep and keep the environment of the first.
        sweep_process: id of the process that started the sweep.
    """
    if sweep_process != os.getpid():  # a launcher's process: jobs log at the same time
        log_to_stderr(f"[job {job.number}] ")
        processes.keep_freed_memory()
        keep_one_gpu(sweep_process)
    command = commands()[job.command].load()
    typed_keys = {key_typed(override) for override in job.composed.typed}
    defaults = [f"{group}={job.composed.choices[group]}" for group in ("dataset", "task") if group not in typed_keys]
    overrides = " ".join(job.composed.typed)
    outcome = {"overrides": job.composed.typed, "status": "failed", "folder": "", "error": "", "results": []}
    outcome["defaults"] = "" if "experiment" in typed_keys else " ".join(defaults)
    shown = io.StringIO()  # the job's own table, which the last one of the sweep repeats
    try:
        with contextlib.redirect_stdout(shown if job.command in ("train", "eval") else sys.stdout):
            result = command.run(job.composed)
        log.info("job %d, %s: %s", job.number, overrides, result.status)
        outcome |= {"status": result.status, "folder": str(result.folder), "next": result.next}
        outcome["results"] = [str(own.folder) for own in result.results]
    except BrokenPipeError:  # nobody reads what is printed any more; a finished run is only shown again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _run_job(outcomes, sweep_process, job)
        return
    except DryRun as dry_run:
        print(shown.getvalue(), end="")
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
def _outcome_folder(overrides: Sequence[str]) -> Iterator[Path]:
    """Yield a temporary folder under paths.outputs, as a launcher's jobs may run on other machines."""
    typed = dict(override.split("=", 1) for override in overrides if "=" in override)
    folder = Path(typed.get("paths.outputs", default_outputs()).strip("'\"")).expanduser().resolve() / ".sweeps"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as outcomes:
        yield Path(outcomes)


def _summarise(folder: Path) -> int:
    """Print how each job ended, the results of all jobs and their floors, and what to run next."""
    from llm4rec_cli.results.describe import shared
    from llm4rec_cli.results.tables import Content, say, show

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
    _show_results([outcome for outcome in outcomes if outcome["results"]])
    return int(any(o["status"] == "failed" for o in outcomes))


def _show_results(outcomes: Sequence[Mapping[str, Any]]) -> None:
    """Print one table per dataset, task and protocol, with each floor once, and what to run next."""
    from llm4rec_cli.results import report
    from llm4rec_cli.results.result import read_result
    from llm4rec_cli.results.tables import show
    from llm4rec_cli.results.variants import groups, variants

    folders = dict.fromkeys(folder for outcome in outcomes for folder in outcome["results"])
    results = {folder: result for folder in folders if (result := read_result(Path(folder)))}
    if not results:
        return
    for group in groups(variants(results.values())):
        print()
        show(report.results(group, in_short=True))
    own = variants(results[outcome["folder"]] for outcome in outcomes if outcome["folder"] in results)
    outputs = outputs_option(own[0].first_run.outputs)
    if len(own) == 1:
        print(outcomes[-1]["next"])
    elif len(own) == 2 and own[0].heading == own[1].heading:
        seeds = [] if any(variant.is_seeded and len(variant.runs) < 2 for variant in own) else ["--seeds"]
        names = (variant.first_run.name for variant in own)
        print(f"next, their difference with an interval: {command_line('compare', names, *seeds, *outputs)}")
    else:
        datasets = ",".join(dict.fromkeys(variant.first_run.dataset for variant in own))
        command = command_line("report", [f"dataset={datasets}"], *outputs)
        print(f"next, all results with deviations: {command}")
