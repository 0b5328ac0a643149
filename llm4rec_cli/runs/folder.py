"""The run folder: who works on it, how far it is, and what came out."""

from __future__ import annotations

import json
import logging
import os
import platform
import resource
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from omegaconf import OmegaConf

from llm4rec_cli import files, processes
from llm4rec_cli.errors import Llm4RecError, RunError, UsageError, did_you_mean
from llm4rec_cli.files import write_atomic, write_json, write_text
from llm4rec_cli.runs.identity import Address, plain

if TYPE_CHECKING:
    from llm4rec_cli.runs.spec import RunSpec

log = logging.getLogger(__name__)

STATUS, METRICS, CONFIG, LOCK = "status.json", "metrics.json", "config.yaml", ".lock"
PACKAGES = ("llm4rec", "torch", "transformers", "accelerate", "numpy", "pandas", "scikit-learn", "hydra-core")


@dataclass(frozen=True)
class Outcome:
    """How a command's run ended: `done`, or `skipped` as it was done before."""

    status: str
    folder: Path


def metrics_of(folder: Path) -> dict[str, Any] | None:
    """metrics.json of a finished run; None where there is none."""
    try:
        status = json.loads((folder / STATUS).read_text())
        return dict(json.loads((folder / METRICS).read_text())) if status["status"] == "done" else None
    except FileNotFoundError:
        return None


def finished(outputs: Path) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """Every finished run under `outputs`, newest first: its folder, status.json and metrics.json."""
    found = []
    for path in outputs.glob(f"*/*/*/seed*/{STATUS}"):
        with suppress(FileNotFoundError):  # somebody begins it anew just now
            status = json.loads(path.read_text())
            metrics = metrics_of(path.parent)
            if metrics is not None:
                found.append(((path.parent / METRICS).stat().st_mtime, path.parent, status, metrics))
    yield from ((folder, status, metrics) for _, folder, status, metrics in sorted(found, key=lambda f: -f[0]))


def runs_named(named: Sequence[str], outputs: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The finished run that each name means, a folder or an end of its path, and its metrics.json.

    Raises:
        RunError: no finished run is called so.
        UsageError: several are.
    """
    runs = {folder: metrics for folder, _, metrics in finished(outputs)}
    found = []
    for name in named:
        folder = Path(name).expanduser()
        if folder.is_dir():
            metrics = metrics_of(folder)
            if metrics is None:
                raise RunError(f"{folder} is no finished run", "llm4rec list runs")
            found.append((folder, metrics))
            continue
        meant = [run for run in runs if _ends_on(run, folder)]
        if not meant:
            known = ["/".join(run.parts[-len(folder.parts) :]) for run in runs]
            raise RunError(f"no finished run under {outputs} is called '{name}'", did_you_mean(name, known))
        if len(meant) > 1:
            several = ", ".join(str(run.relative_to(outputs)) for run in sorted(meant))
            raise UsageError(f"'{name}' may be any of {len(meant)} runs", several)
        found.append((meant[0], runs[meant[0]]))
    return found


def _ends_on(run: Path, end: Path) -> bool:
    """Whether a run's path ends on these parts, the last of which may be cut."""
    *parents, last = end.parts
    return run.name.startswith(last) and list(run.parent.parts[len(run.parent.parts) - len(parents) :]) == parents


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
