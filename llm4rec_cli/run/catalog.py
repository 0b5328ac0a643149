"""The catalogue of runs: all run folders with their state, and the entries of the cache."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm4rec_cli.errors import UsageError, did_you_mean
from llm4rec_cli.paths import default_outputs
from llm4rec_cli.results.records import read_records
from llm4rec_cli.results.result import INTERRUPTED, LOCK, METRICS, STATUS, Result, Status, read_status, result_of

STATES = ("done", "failed", INTERRUPTED, "running", "killed", "unreadable")
FILTERS = ("model", "dataset", "task", "seed", "status")


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        folder: <outputs>/<model>/<dataset>/<task>/seed<seed>-<hash>.
        state: one of STATES. An `interrupted` run says failed, with that error. A `killed` run says running, but no
            process holds its lock.
        result: of a run that is done.
        written: when its state last changed, in seconds since 1970.
    """

    folder: Path
    state: str
    status: Status
    result: Result | None
    written: float

    def value(self, key: str) -> str:
        """Return the value that a filter with this key is compared with."""
        model, dataset, task, name = self.folder.parts[-4:]
        seed = name.removeprefix("seed").rpartition("-")[0]
        return {"model": model, "dataset": dataset, "task": task, "seed": seed, "status": self.state}[key]


def runs(outputs: Path) -> list[Run]:
    """Return every run under `outputs`, newest first, recognised by path, name and status.json; symbolic links are not
    followed."""
    folders = [path.parent for path in outputs.glob("*/*/*/seed*/status.json")]
    run_folders = [f for f in folders if re.fullmatch(r"seed-?\d+-\w+", f.name) and not _linked(f, outputs)]
    return sorted(map(read_run, run_folders), key=lambda run: (-run.written, run.folder))


def recorded_runs(outputs: Path) -> list[Run]:
    """Return the recorded runs in a folder, newest first; nothing of them is on disk besides their record."""
    done = Status(status="done")
    recorded = [Run(record.folder, done.status, done, record, record.finished) for record in read_records(outputs)]
    return sorted(recorded, key=lambda run: (-run.written, run.folder))


def read_run(folder: Path) -> Run:
    """Return the run in a folder with a status.json."""
    status = read_status(folder)
    state, result = status.status, None
    if state == "running" and not is_locked(folder / LOCK):
        state = "killed"
    elif state == "failed" and status.error == INTERRUPTED:
        state = INTERRUPTED
    elif state == "done":
        try:
            result = result_of(read_json(folder / METRICS), folder)
        except ValueError:
            state = "unreadable"
    return Run(folder, state, status, result, (folder / STATUS).lstat().st_mtime)


def read_json(path: Path) -> Mapping[str, Any]:
    """Return the object in a JSON file; empty if the file is missing, truncated or not readable."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def filter_runs(runs: Iterable[Run], filters: Sequence[str]) -> list[Run]:
    """Return the runs that match every filter `key=value[,value…]`.

    Raises:
        UsageError: a key or status is unknown.
    """
    wanted = {}
    for text in filters:
        key, equals, values = text.partition("=")
        if not equals or key not in FILTERS:
            raise UsageError(f"unknown filter '{text}'", did_you_mean(key, FILTERS))
        wanted[key] = values.split(",")
    for state in wanted.get("status", []):
        if state not in STATES:
            raise UsageError(f"unknown status '{state}'", did_you_mean(state, STATES))
    if "failed" in wanted.get("status", []):
        wanted["status"].append(INTERRUPTED)  # as status.json says
    return [run for run in runs if all(run.value(key) in values for key, values in wanted.items())]


@dataclass(frozen=True)
class CacheEntry:
    """An entry of the cache.

    Attributes:
        path: <cache>/<part>/<name>.
        part: datasets, features, raw, …
        bytes: on disk.
        used: when a file of it was last read or written, if the file system records that.
    """

    path: Path
    part: str
    bytes: int
    used: float


def outputs_folder(typed: str | None) -> Path:
    """Return the folder of the runs: the typed one, or the default, which need not exist.

    Raises:
        UsageError: the typed one does not exist.
    """
    folder = Path(typed or default_outputs()).expanduser()
    if typed and not folder.is_dir():
        raise UsageError(f"--outputs {typed}: the folder does not exist", "the folder that paths.outputs=PATH named")
    return folder


def cache_entries(cache: Path) -> Iterator[CacheEntry]:
    """Yield the entries of the cache by part and name, without lock files. Symbolic links are not followed."""
    parts = sorted(p for p in cache.iterdir() if p.is_dir() and not p.is_symlink()) if cache.is_dir() else []
    for part in parts:
        for path in sorted(part.iterdir()):
            if path.suffix != ".lock":
                times = [max(stat.st_atime, stat.st_mtime) for stat in _stats(path)]
                last_use = max(times, default=path.lstat().st_mtime)
                yield CacheEntry(path, part.name, disk_usage(path), last_use)


def is_locked(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def disk_usage(path: Path) -> int:
    """Return the bytes of a file, or of all files under a folder."""
    return sum(stat.st_size for stat in _stats(path))


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Yield the stat of a file, or of every file under a folder. A running process may remove files meanwhile."""
    is_folder = path.is_dir() and not path.is_symlink()
    files = (Path(root, name) for root, _, names in os.walk(path) for name in names) if is_folder else [path]
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            yield file.lstat()


def _linked(folder: Path, root: Path) -> bool:
    return any(path.is_symlink() for path in (folder, *folder.parents) if root in path.parents)
