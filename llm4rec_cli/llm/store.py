"""The durable store of answers: one SQLite file, shared by all runs and by processes at the same time.

Each answer is kept once, under the SHA-256 of all that decides it: who answers, and the request. What was paid can be
read with any SQLite client:

    sqlite3 answers.sqlite 'select identity, count(*), sum(cost) from answers group by identity'

SQLite's write-ahead log needs a disk of this machine, not one of the network.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llm4rec_cli.errors import RunError, as_full_disk
from llm4rec_cli.files import locked
from llm4rec_cli.llm.requests import Answer, Request

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds that a process waits for another's transaction, which takes milliseconds

_TABLE = """
    CREATE TABLE IF NOT EXISTS answers (
        key TEXT PRIMARY KEY,    -- SHA-256 of identity and request
        identity TEXT NOT NULL,  -- JSON: who answered, and how
        request TEXT NOT NULL,   -- JSON
        answer TEXT NOT NULL,    -- JSON: raw, with tokens, seconds, attempts, model and date
        cost REAL NOT NULL,      -- at the prices of the run that asked
        digest TEXT NOT NULL     -- SHA-256 of key and answer
    )
"""
# As they stand on the disk: what is damaged may be no text.
_SELECT = "SELECT CAST(answer AS BLOB), CAST(digest AS BLOB) FROM answers WHERE key = ?"


class Store:
    """All answers that there are.

    Args:
        path: the file; made, with its folder, where it is not there.

    Raises:
        RunError: it is no such file, or cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with locked(path.with_name(f".{path.name}.lock"), path), self._told():  # two cannot make one file at once
            self._db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")  # flushed one by one: asking again costs more than a flush
            self._db.execute(_TABLE)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def find(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers that are there, by key. One that is not as it was written counts as missing, and is removed."""
        found = {}
        with self._told():
            for key in keys:
                row = self._db.execute(_SELECT, (key,)).fetchone()
                if row is None:
                    continue
                answer, digest = row
                if answer and digest == _digest(key, answer).encode():
                    found[key] = _answer(answer)
                    continue
                log.warning("%s: the answer %s is damaged, and counts as missing", self.path, key[:12])
                self._db.execute("DELETE FROM answers WHERE key = ? AND CAST(answer AS BLOB) IS ?", (key, answer))
        return found

    def keep(self, key: str, identity: dict[str, Any], request: Request, answer: Answer, cost: float) -> Answer:
        """Keeps an answer, at once and for good, unless there is one.

        Args:
            key: as of `ask.keys_of`.

        Returns:
            the one that is kept: another process's where that was first.
        """
        while not (kept := self.find([key])):
            text = json.dumps(asdict(answer))
            row = (key, canonical(identity), canonical(asdict(request)), text, cost, _digest(key, text.encode()))
            with self._told():
                self._db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)
        return kept[key]

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors in our words."""
        try:
            yield
        except sqlite3.Error as error:
            raise as_full_disk(error) or RunError(
                f"{self.path}: the store of answers cannot be used ({error})",
                "check that path; if the file is damaged, move it away; llm.store=PATH names another",
            ) from error


def key_of(identity: dict[str, Any], request: Request, beside: Sequence[str] = ()) -> str:
    """What an answer is kept under: the same for the same request of the same backend, on every machine.

    Args:
        beside: keys of all requests that it is answered together with, where the answer may depend on them.
    """
    told = [identity, asdict(request), *([sorted(beside)] if beside else [])]
    return hashlib.sha256(canonical(told).encode()).hexdigest()


def canonical(value: Any) -> str:
    """JSON in ASCII, written in one way only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(key: str, answer: bytes) -> str:
    return hashlib.sha256(key.encode() + answer).hexdigest()


def _answer(text: bytes) -> Answer:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()
    }
    return Answer(**fields)
