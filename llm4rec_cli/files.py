"""Files that are whole or not there, and what they hash to. One process makes a thing; others wait for it."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a file beside `path`, flushes it to disk, then renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        write(aside)
        flush(aside)
        aside.replace(path)
        flush(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_atomic(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_once(path: Path, write: Callable[[Path], object]) -> None:
    """`write_atomic` where there is no such file; of several processes one writes, and the others wait for it."""
    if path.exists():
        return
    with locked(path.with_name(f".{path.name}.lock"), path):
        if not path.exists():
            remove_parts(path)
            write_atomic(path, write)


def fill_once(folder: Path, fill: Callable[[Path], object]) -> None:
    """Lets `fill` fill an empty folder, which becomes `folder` when all in it is on disk; done where it is not there.

    Of several processes one fills, and the others wait for it.
    """
    if folder.exists():
        return
    with locked(folder.with_name(f".{folder.name}.lock"), folder):
        if folder.exists():
            return
        remove_parts(folder)
        aside = _aside(folder)
        aside.mkdir()
        try:
            fill(aside)
            for path in (*aside.rglob("*"), aside):
                flush(path)
            aside.rename(folder)
            flush(folder.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def locked(lock: Path, what: Path, wait: bool = True) -> Iterator[None]:
    """Holds `what` by a lock file: another process waits, and its log says for whom. A killed holder holds nothing.

    The file is there while somebody holds it, or if they were killed.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
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
            if not _is_still(lock, file.fileno()):
                continue  # its holder removed it while we waited
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            try:
                yield
            finally:
                if _is_still(lock, file.fileno()):  # it goes with a folder that its holder removed
                    lock.unlink()
            return


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _aside(path: Path) -> Path:
    """Where this process makes `path` before it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def remove_parts(path: Path) -> None:
    """Removes what a killed process left of `path` half written. Only for the holder of its lock."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        shutil.rmtree(part) if part.is_dir() else part.unlink()


def flush(path: Path) -> None:
    """Makes a file's bytes, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Of the file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
