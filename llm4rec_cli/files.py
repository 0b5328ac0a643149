"""Atomic writes of files and folders, locks between processes, and file hashes."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from llm4rec_cli.errors import UsageError
from llm4rec_cli.progress import step

log = logging.getLogger(__name__)

HASHED_AT_ONCE = 1 << 22  # bytes
HELD: set[TextIO] = set()  # files of the locks that this process holds
SETTLED = 2_000_000_000  # nanoseconds since a file was written, after which its time tells versions apart


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the same folder, flush it to disk, then rename it to `path`.

    Of several processes that write a path, one does so at a time; it removes what killed ones left.
    """
    with locked(_lock(path), path):
        _write_locked(path, write)


def _write_locked(path: Path, write: Callable[[Path], object]) -> None:
    remove_parts(path)
    part = _part(path)
    try:
        write(part)
        flush(part)
        part.replace(path)
        flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_atomic(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_once(path: Path, write: Callable[[Path], object], is_whole: Callable[[Path], bool] = Path.exists) -> None:
    """Write a file with `write_atomic` unless it is whole; of several processes one writes and the others wait."""
    if is_whole(path):
        return
    with locked(_lock(path), path):
        if not is_whole(path):
            _write_locked(path, write)


def fill_once(folder: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` fill a temporary folder, flush it to disk, then rename it to `folder`, unless that exists.

    Of several processes one fills the folder and the others wait.
    """
    if folder.exists():
        return
    with locked(_lock(folder), folder):
        if folder.exists():
            return
        remove_parts(folder)
        part = _part(folder)
        part.mkdir()
        try:
            fill(part)
            for path in (*part.rglob("*"), part):
                flush(path)
            part.rename(folder)
            flush(folder.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def fill_new(folder: Path, fill: Callable[[Path], object]) -> Path:
    """Write a folder that a user named with `fill_once` and return it.

    Raises:
        UsageError: it exists.
    """
    folder = folder.expanduser().resolve()
    if folder.exists():
        raise UsageError(f"{folder} exists", "remove it, or choose another --out folder")
    fill_once(folder, fill)
    return folder


@contextmanager
def locked(lock: Path, what: Path, wait: bool = True) -> Iterator[None]:
    """Lock `what` while the block runs. Another process waits, and logs which process it waits for.

    The file is removed afterwards. If its holder is killed, the file remains but the lock is free.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is false.
    """
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                file.seek(0)
                log.info("waiting for process %s, which works on %s", file.read() or "unknown", what)
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_same_file(lock, file.fileno()):
                continue  # its holder removed the file while this process waited
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            HELD.add(file)
            try:
                yield
            finally:
                HELD.discard(file)
                if _is_same_file(lock, file.fileno()):  # not if its folder was removed meanwhile
                    lock.unlink()
            return


def _leave_locks() -> None:
    """Close the locks of the process that this one was forked from, or it would hold them after that one is killed."""
    for file in HELD:
        file.close()
    HELD.clear()


os.register_at_fork(after_in_child=_leave_locks)


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _part(path: Path) -> Path:
    """Return the temporary path at which this process writes `path`. Hosts that share a file system number their
    processes alike."""
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.part")


def remove_parts(path: Path) -> None:
    """Remove the temporary files of `path` that killed processes left. Only for the holder of its lock."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        shutil.rmtree(part) if part.is_dir() else part.unlink()


def flush(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remembered_sha256(path: Path, notes: Path) -> str:
    """Return the SHA-256 of a file; it is read again only if its size, time or inode has changed.

    Args:
        notes: a folder for what is remembered, a small file for each path.
    """
    return _remembered(path, notes, "sha256", sha256)


def checked_once(path: Path, notes: Path, check: Callable[[Path], object]) -> None:
    """Let `check` read a file, unless it has passed before and its size, time and inode are the same.

    Args:
        notes: as for `remembered_sha256`.
    """
    _remembered(path, notes, "passed", lambda path: str(check(path)))


def _remembered(path: Path, notes: Path, name: str, compute: Callable[[Path], str]) -> str:
    """Return the value that was computed of this version of a file, under this name in its note."""
    note = notes / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]}.json"
    before = _stamp(path)
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["stamp"] == before:
            return str(known[name])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not computed before, or the note is damaged
    value = compute(path)
    # A file may be written twice within one tick of its clock.
    if _stamp(path) == before and time.time_ns() - path.stat().st_mtime_ns > SETTLED:
        with suppress(OSError):  # no permission: it is computed again
            write_json(note, {"stamp": before, name: value})
    return value


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file's bytes in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file, step(f"hashing {path.name}", path.stat().st_size, in_bytes=True) as progress:
        while block := file.read(HASHED_AT_ONCE):
            digest.update(block)
            progress.advance(len(block))
    return digest.hexdigest()
