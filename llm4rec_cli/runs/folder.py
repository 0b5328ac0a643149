"""The run folder: who works on it, how far it is, and what came out."""

from __future__ import annotations

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
from typing import TYPE_CHECKING, Any

import pandas as pd
from omegaconf import OmegaConf

from llm4rec_cli import files, processes
from llm4rec_cli.errors import Llm4RecError
from llm4rec_cli.files import write_atomic, write_json, write_text
from llm4rec_cli.runs.catalog import CONFIG, LOCK, METRICS, STATUS
from llm4rec_cli.runs.identity import Address, plain

if TYPE_CHECKING:
    from llm4rec_cli.runs.spec import RunSpec

log = logging.getLogger(__name__)

PACKAGES = ("llm4rec", "torch", "transformers", "accelerate", "numpy", "pandas", "scikit-learn", "hydra-core")


@dataclass(frozen=True)
class Outcome:
    """How a command's run ended: `done`, or `skipped` as it was done before."""

    status: str
    folder: Path


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a run folder: of two commands on one address the second waits, and then finds the run finished.

    Of the processes of one run the first holds it for all.
    """
    if not processes.is_first():
        yield
        return
    with files.locked(folder / LOCK, folder):
        for part in folder.rglob(".*.part"):  # of a killed process
            part.unlink()
        yield


@contextmanager
def recorded(where: Address, spec: RunSpec) -> Iterator[Path]:
    """Keeps status.json while a run is worked on: leaves `done`, `failed` with the error, or, if killed, `running`.

    Of several processes the first does. With `force`, what an earlier run left there is forgotten.
    """
    folder = where.folder
    if not processes.is_first():
        yield folder
        return
    if spec.config.force:
        _clear(folder)
    status = {
        "status": "running",
        "error": None,
        "pid": os.getpid(),
        "command": spec.command,
        "overrides": spec.overrides,
        "choices": dict(spec.choices),
    }
    write_json(folder / STATUS, status)
    write_text(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(plain(spec.config))))
    write_json(folder / "environment.json", _environment())
    with _logged(folder / "run.log"):
        try:
            yield folder
        except KeyboardInterrupt:
            write_json(folder / STATUS, status | {"status": "failed", "error": "interrupted"})
            raise
        except Exception as error:
            problem = error.problem if isinstance(error, Llm4RecError) else f"{type(error).__name__}: {error}"
            log.debug(traceback.format_exc())
            with suppress(OSError):  # a full disk: what failed is told, and the state stays that of a killed run
                write_json(folder / STATUS, status | {"status": "failed", "error": problem})
            raise
    write_json(folder / STATUS, status | {"status": "done"})


def write_results(folder: Path, metrics: dict[str, Any], predictions: pd.DataFrame) -> None:
    """predictions.parquet and metrics.csv, then metrics.json; by the first of several processes."""
    if not processes.is_first():
        return
    write_atomic(folder / "predictions.parquet", lambda aside: predictions.to_parquet(aside, index=False))
    rows = pd.DataFrame({"metric": metrics["metrics"].keys(), "value": metrics["metrics"].values()})
    for i, bound in enumerate(("low", "high")):
        rows[bound] = [metrics["intervals"].get(name, (None, None))[i] for name in rows["metric"]]
    write_atomic(folder / "metrics.csv", lambda aside: rows.to_csv(aside, index=False))
    write_json(folder / METRICS, metrics)


def peak_rss_mb() -> int:
    """The most memory this process has held, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20


def _clear(folder: Path) -> None:
    (folder / STATUS).unlink(missing_ok=True)  # first: if this is killed half way, the rest must not count as done
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


class _QuietFileHandler(logging.FileHandler):
    """Where the disk is full, a line of log is lost without a traceback: what matters fails loudly elsewhere."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """The package's log also goes to the run's own file."""
    handler = _QuietFileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("llm4rec_cli")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "processes": processes.world_size(),
        "packages": {name: version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of the checkout that this package runs from; None for an installed one, or without git."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists() or shutil.which("git") is None:
        return None
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
