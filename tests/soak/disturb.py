"""Kill commands, or cut the power, at random; the same command again must leave what an undisturbed one leaves."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.soak.bench import BEFORE, COMMANDS, Bench, Ended, differences, snapshot

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "sqlite3.connect"}
WRITING = os.O_WRONLY | os.O_RDWR
RECORD = struct.Struct("QQQ")  # inode, size and time of change of a synced file


@dataclass
class Undisturbed:
    """A command's end, the number of its changes of files, and what it left, from a folder `start`."""

    start: Path
    ended: Ended
    changes: int
    left: dict[str, Any]


class Changes:
    """A count of changes of files, shared with the process that makes them, which is killed before the `fatal` one."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)

    @property
    def count(self) -> int:
        return int.from_bytes(self._shared[:8], "little")

    def watch(self, fatal: int = 0) -> None:
        self._shared[:8] = bytes(8)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING):
                self._shared[:8] = (self.count + 1).to_bytes(8, "little")
                if self.count == fatal:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)


def undisturbed(bench: Bench, name: str, changes: Changes) -> Undisturbed:
    """Run a command, and before it what it needs, without a disturbance."""
    folder = bench.fresh("trial")
    for needed in BEFORE.get(name, ()):
        assert not bench.run(folder, needed).code
    start = bench.fresh(f"start {name}", folder)
    ended = bench.run(folder, COMMANDS[name], changes.watch)
    assert not ended.code, ended.err
    return Undisturbed(start, ended, changes.count, snapshot(folder))


def kill(bench: Bench, name: str, expected: Undisturbed, changes: Changes, rng: np.random.Generator) -> tuple[str, str]:
    """Kill a command at a random moment or before a random change, and repeat it; return that and the problems."""
    folder = bench.fresh("trial", expected.start)
    by_change = rng.random() < 0.5
    fatal = int(rng.integers(1, expected.changes + 1)) if by_change else 0
    seconds = rng.uniform(0, expected.ended.seconds)
    begun = time.monotonic()
    pid = bench.begin(folder, COMMANDS[name], lambda: changes.watch(fatal))
    killed = bench.end(folder, pid, begun, limit=300 if by_change else seconds)
    moment = f"change {fatal} of {expected.changes}" if by_change else f"{seconds:.1f} s"
    if killed.code != -signal.SIGKILL:
        moment += f", had ended with {killed.code}"
    return moment, _again(bench, folder, name, expected)


def cut_power(
    bench: Bench, name: str, expected: Undisturbed, changes: Changes, rng: np.random.Generator
) -> tuple[str, str]:
    """As `kill`, and drop what was written and not synced; half of the commands had ended."""
    folder = bench.fresh("trial", expected.start)
    synced = bench.work / "synced"
    synced.write_bytes(b"".join(_record(path) for path in folder.rglob("*")))
    fatal = int(rng.integers(1, expected.changes + 1)) if rng.random() < 0.5 else 0

    def before() -> None:
        _record_syncs(synced)
        changes.watch(fatal)

    bench.run(folder, COMMANDS[name], before)
    lost = drop_unsynced(folder, synced)
    moment = f"change {fatal} of {expected.changes}" if fatal else "its end"
    problems = [] if fatal else [f"lost {path}" for path in lost if Path(path).name != "run.log"]
    return moment, "; ".join([*problems, *filter(None, [_again(bench, folder, name, expected)])])


def _again(bench: Bench, folder: Path, name: str, expected: Undisturbed) -> str:
    ended = bench.run(folder, COMMANDS[name])
    if ended.code:
        return f"exit code {ended.code}: {ended.err[-500:]}"
    left = snapshot(folder)
    parts = [path for path in left if path.endswith(".part") and path not in expected.left]
    return ", ".join([*differences(expected.left, left), *parts])


def _record(path: Path | int) -> bytes:
    stat = os.stat(path)  # noqa: PTH116  # of a descriptor too
    return RECORD.pack(stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _record_syncs(synced: Path) -> None:
    """Record what this process syncs instead of syncing it."""
    log = os.open(synced, os.O_WRONLY | os.O_APPEND)
    os.fsync = lambda descriptor: os.write(log, _record(descriptor)) and None  # type: ignore[assignment]


def drop_unsynced(folder: Path, synced: Path) -> list[str]:
    """Cut each file to what was synced of it; return their paths. SQLite syncs its own files."""
    records = {inode: (size, changed) for inode, size, changed in RECORD.iter_unpack(synced.read_bytes())}
    lost = []
    for path in filter(Path.is_file, folder.rglob("*")):
        stat = path.stat()
        size, changed = records.get(stat.st_ino, (0, 0))
        if ".sqlite" in path.name or (size, changed) == (stat.st_size, stat.st_mtime_ns) or not stat.st_size:
            continue
        os.truncate(path, size if size < stat.st_size else 0)
        lost.append(str(path.relative_to(folder)))
    return lost


def soak(bench: Bench, trials: range, seed: int, names: list[str], disturb: Callable[..., tuple[str, str]]) -> int:
    """Disturb commands in turn; print each trial and the totals, and return the number of failed trials."""
    changes, expected, failed, done = Changes(), dict[str, Undisturbed](), Counter[str](), Counter[str]()
    for i in trials:
        name = names[i % len(names)]
        if name not in expected:
            expected[name] = undisturbed(bench, name, changes)
        moment, problems = disturb(bench, name, expected[name], changes, np.random.default_rng([seed, i]))
        done[name] += 1
        failed[name] += bool(problems)
        print(f"{disturb.__name__} {i}: {name} at {moment}: {problems or 'equal'}", flush=True)
    for name, n in done.items():
        print(f"{disturb.__name__}: {name:<15} {n - failed[name]:>3} of {n} equal")
    return failed.total()
