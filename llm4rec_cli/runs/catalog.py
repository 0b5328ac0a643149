"""The catalog: every run there is and its state, the finished ones by name, and what the cache keeps."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm4rec_cli.errors import RunError, UsageError, did_you_mean

STATUS, METRICS, CONFIG, LOCK = "status.json", "metrics.json", "config.yaml", ".lock"  # of a run folder
STATES = ("done", "failed", "running", "killed", "unreadable")
FILTERS = ("model", "dataset", "task", "seed", "status")
TRASH = ".pruned"  # where `prune` puts things aside before it removes them


# --- finished runs


def finished_metrics(folder: Path) -> dict[str, Any] | None:
    """metrics.json of a finished run; None where there is none."""
    try:
        status = json.loads((folder / STATUS).read_text())
        return dict(json.loads((folder / METRICS).read_text())) if status["status"] == "done" else None
    except FileNotFoundError:
        return None


def finished_runs(outputs: Path) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """Every finished run under `outputs`, newest first: its folder, status.json and metrics.json."""
    found = []
    for path in outputs.glob(f"*/*/*/seed*/{STATUS}"):
        with suppress(FileNotFoundError):  # somebody begins it anew just now
            status = json.loads(path.read_text())
            metrics = finished_metrics(path.parent)
            if metrics is not None:
                found.append(((path.parent / METRICS).stat().st_mtime, path.parent, status, metrics))
    yield from ((folder, status, metrics) for _, folder, status, metrics in sorted(found, key=lambda f: -f[0]))


def resolve_runs(named: Sequence[str], outputs: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The finished run that each name means, a folder or an end of its path, and its metrics.json.

    Raises:
        RunError: no finished run is called so.
        UsageError: several are.
    """
    runs = {folder: metrics for folder, _, metrics in finished_runs(outputs)}
    found = []
    for name in named:
        folder = Path(name).expanduser()
        if folder.is_dir():
            metrics = finished_metrics(folder)
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


# --- all runs


@dataclass(frozen=True)
class Run:
    """A run folder as it lies there.

    Attributes:
        folder: <outputs>/<model>/<dataset>/<task>/seed<seed>-<hash>.
        state: one of STATES; `killed` says running, but nobody holds its lock.
        status: status.json; empty where it is unreadable.
        metrics: metrics.json of a run that is done; otherwise empty.
        written: when its state last changed, in seconds since 1970.
    """

    folder: Path
    state: str
    status: dict[str, Any]
    metrics: dict[str, Any]
    written: float

    def value(self, key: str) -> str:
        """What a filter's key is compared with."""
        model, dataset, task, name = self.folder.parts[-4:]
        seed = name.removeprefix("seed").rpartition("-")[0]
        return {"model": model, "dataset": dataset, "task": task, "seed": seed, "status": self.state}[key]


def runs(outputs: Path) -> list[Run]:
    """Every run under `outputs`, newest first. A folder counts by its place, its name and its status.json; no symbolic
    link is followed."""
    folders = [path.parent for path in outputs.glob("*/*/*/seed*/status.json")]
    own = [f for f in folders if re.fullmatch(r"seed-?\d+-\w+", f.name) and not _linked(f, outputs)]
    return sorted(map(read_run, own), key=lambda run: (-run.written, run.folder))


def read_run(folder: Path) -> Run:
    """The run in a folder that holds a status.json."""
    status = read_json(folder / "status.json")
    state = str(status.get("status", "unreadable"))
    metrics = read_json(folder / "metrics.json") if state == "done" else {}
    if state == "running" and not is_locked(folder / ".lock"):
        state = "killed"
    elif state == "done" and not metrics:
        state = "unreadable"
    return Run(folder, state, status, metrics, (folder / "status.json").lstat().st_mtime)


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; empty where it is torn, not ours to read, or not there."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def filter_runs(found: Iterable[Run], filters: Sequence[str]) -> list[Run]:
    """The runs that meet every `key=value[,value…]`.

    Raises:
        UsageError: an unknown key, or a state of no name.
    """
    wanted = {}
    for text in filters:
        key, equals, values = text.partition("=")
        if not equals or key not in FILTERS:
            raise UsageError(f"unknown filter '{text}'", did_you_mean(key, FILTERS))
        wanted[key] = values.split(",")
    for state in wanted.get("status", []):
        if state not in STATES:
            raise UsageError(f"no run's status is '{state}'", did_you_mean(state, STATES))
    return [run for run in found if all(run.value(key) in values for key, values in wanted.items())]


# --- the cache


@dataclass(frozen=True)
class CacheEntry:
    """One thing kept in the cache.

    Attributes:
        path: <cache>/<part>/<name>.
        part: datasets, features, raw, …
        state: `whole`; `being written`; or `left half written` by a process that was killed.
        bytes: on disk.
        used: when a file of it was last read or written, as far as the file system keeps that.
    """

    path: Path
    part: str
    state: str
    bytes: int
    used: float


def cache_folder(given: str | None) -> Path:
    """Where prepared data and the like are kept: the folder that is given, or the user's."""
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm4rec"


def cache_entries(cache: Path) -> Iterator[CacheEntry]:
    """What lies in the cache, by part and name, without lock files. No symbolic link is followed."""
    parts = sorted(p for p in cache.iterdir() if p.is_dir() and not p.is_symlink()) if cache.is_dir() else []
    for part in parts:
        for path in sorted(part.iterdir()) if part.name != TRASH else []:
            if path.suffix != ".lock":
                yield CacheEntry(path, part.name, _writing(path), disk_usage(path), _last_use(path))


def _writing(path: Path) -> str:
    """State of a cache entry: half-written ones are `.<name>.<random>.part`, under the lock `.<name>.lock`."""
    if path.suffix != ".part":
        return "whole"
    name = path.name.removesuffix(".part").rpartition(".")[0]
    return "being written" if is_locked(path.with_name(f"{name}.lock")) else "left half written"


# --- files, however they are reached: links are never followed


def is_locked(lock: Path) -> bool:
    """Whether some process holds this lock file."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def disk_usage(path: Path) -> int:
    """Of a file, or of all files under a folder."""
    return sum(facts.st_size for facts in _facts(path))


def _last_use(path: Path) -> float:
    return max((max(facts.st_atime, facts.st_mtime) for facts in _facts(path)), default=path.lstat().st_mtime)


def _facts(path: Path) -> Iterator[os.stat_result]:
    """Of a file, or of every file under a folder; a run at work may take one away meanwhile."""
    folder = path.is_dir() and not path.is_symlink()
    files = (Path(at, name) for at, _, names in os.walk(path) for name in names) if folder else [path]
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            yield file.lstat()


def _linked(folder: Path, root: Path) -> bool:
    """Whether a symbolic link stands between `root` and `folder`."""
    return any(path.is_symlink() for path in (folder, *folder.parents) if root in path.parents)
