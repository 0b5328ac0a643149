"""The run folder: its lock, its status and its results."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import resource
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from llm4rec_cli import files, processes
from llm4rec_cli.config import plugins, registry
from llm4rec_cli.config.walk import plain
from llm4rec_cli.errors import Llm4RecError
from llm4rec_cli.files import write_atomic, write_json, write_text
from llm4rec_cli.results.result import CONFIG, INTERRUPTED, LOCK, PREDICTIONS, STATUS, Result
from llm4rec_cli.run.catalog import read_json
from llm4rec_cli.run.identity import Address

if TYPE_CHECKING:
    import pandas as pd

    from llm4rec_cli.run.job import Job

log = logging.getLogger(__name__)

ENVIRONMENT = "environment.json"
PACKAGES = ("llm4rec", "torch", "transformers", "accelerate", "numpy", "pandas", "scikit-learn", "hydra-core")


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `done`, or `skipped` because a finished run exists.

    Attributes:
        results: of the floors of a run, and of the run itself.
        next: what to run next, in words and as a command.
    """

    status: str
    folder: Path
    results: tuple[Result, ...] = ()
    next: str = ""

    @property
    def result(self) -> Result:
        return self.results[-1]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder: a second command on the same run waits until the first has finished it.

    Of several processes of one run, the first holds the lock for all.
    """
    if not processes.is_first():
        yield
        return
    with files.locked(folder / LOCK, folder):
        for partial in folder.rglob(".*.part"):  # left by a killed process
            partial.unlink()
        yield


@contextmanager
def recorded(address: Address, job: Job) -> Iterator[Path]:
    """Keep status.json up to date during a run: at the end `done`, or `failed` with the error. A killed run stays
    `running`.

    Of several processes only the first writes. With `force`, results of an earlier run are removed first.
    """
    folder = address.folder
    if not processes.is_first():
        yield folder
        return
    if job.starts_anew:
        _clear(folder)
    elif _has_other_code(folder, job.model.name):
        log.info("the code of model %s has changed since this run began: force=true starts it anew", job.model.name)
    status = {
        "status": "running",
        "error": None,
        "pid": os.getpid(),
        "command": job.command,
        "overrides": job.overrides,
        "choices": dict(job.choices),
    }
    write_json(folder / STATUS, status)
    write_text(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(plain(job.config))))
    write_json(folder / ENVIRONMENT, _environment(job.model.name))
    with _logged(folder / "run.log"):
        try:
            yield folder
        except KeyboardInterrupt:
            write_json(folder / STATUS, status | {"status": "failed", "error": INTERRUPTED})
            raise
        except Exception as error:
            problem = error.problem if isinstance(error, Llm4RecError) else f"{type(error).__name__}: {error}"
            log.debug(traceback.format_exc())
            with suppress(OSError):  # a full disk: the error is still raised, and the status stays `running`
                write_json(folder / STATUS, status | {"status": "failed", "error": problem})
            raise
    write_json(folder / STATUS, status | {"status": "done"})


def log_finished(model: str, folder: Path) -> None:
    """Log that a finished run is shown, and whether the model's own code has changed since."""
    log.info("%s: finished run found, showing its results: %s", model, folder)
    if _has_other_code(folder, model):
        log.info("the code of model %s has changed since this run: force=true runs it again", model)


def write_results(result: Result, predictions: pd.DataFrame) -> None:
    """Write predictions.parquet and metrics.csv, then metrics.json; of several processes only the first writes."""
    import pandas as pd

    if not processes.is_first():
        return
    write_atomic(result.folder / PREDICTIONS, lambda path: predictions.to_parquet(path, index=False))
    rows = pd.DataFrame({"metric": result.metrics.keys(), "value": result.metrics.values()})
    for i, bound in enumerate(("low", "high")):
        rows[bound] = [result.intervals.get(name, (None, None))[i] for name in rows["metric"]]
    write_atomic(result.folder / "metrics.csv", lambda path: rows.to_csv(path, index=False))
    result.write()


def peak_rss_mb() -> int:
    """Return the peak memory of this process in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20


def _clear(folder: Path) -> None:
    (folder / STATUS).unlink(missing_ok=True)  # first, so that a folder cleared half way does not count as done
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


class _QuietFileHandler(logging.FileHandler):
    """Drop log lines silently when the disk is full: writing results raises anyway."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    handler = _QuietFileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("llm4rec_cli")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def _has_other_code(folder: Path, model: str) -> bool:
    """Return whether a run of this release was made by other code of its model.

    Of another release `results_version` says whether numbers moved.
    """
    environment = read_json(folder / ENVIRONMENT)
    if environment.get("packages", {}).get("llm4rec") != version("llm4rec"):
        return False
    code = code_identity(model)
    return bool(environment.get("model_code", code) != code)


def code_identity(model: str) -> str:
    """Return a hash of a model's own code. It does not enter addresses: `results_version` says where numbers move."""
    content = {name: file.read_text() for name, file in registry.source_files(model).items()}
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]


def _environment(model: str) -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "processes": processes.world_size(),
        "packages": {name: version(name) for name in PACKAGES} | plugins.packages(),
        "commit": _commit(),
        "model_code": code_identity(model),
    }


def _commit() -> str | None:
    """Return the commit of the checkout that this package runs from; None for an installed package, or without git."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists() or shutil.which("git") is None:
        return None
    result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
