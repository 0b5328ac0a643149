"""The durable store of completions: one SQLite file, shared by all runs and by concurrent processes.

Each completion is stored once, under the SHA-256 of all that determines it: the backend's identity and the request.
Any SQLite client can read what was paid:

    sqlite3 answers.sqlite 'select identity, count(*), sum(cost) from answers group by identity'

SQLite's write-ahead log needs a local disk, not a network one.
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
from llm4rec_cli.llm.requests import Completion, Request

log = logging.getLogger(__name__)

LOCK_TIMEOUT = 60.0  # seconds to wait for another process's transaction, which takes milliseconds

_TABLE = """
    CREATE TABLE IF NOT EXISTS answers (
        key TEXT PRIMARY KEY,    -- SHA-256 of identity and request
        identity TEXT NOT NULL,  -- JSON: the backend, and its settings
        request TEXT NOT NULL,   -- JSON
        answer TEXT NOT NULL,    -- JSON: a Completion
        cost REAL NOT NULL,      -- at the prices of the run that sent it
        digest TEXT NOT NULL     -- SHA-256 of key and answer
    )
"""
# As bytes: what is damaged may not be text.
_SELECT = "SELECT CAST(answer AS BLOB), CAST(digest AS BLOB) FROM answers WHERE key = ?"


class Store:
    """The store of completions. The file is created, with its folder, if missing.

    Raises:
        RunError: the file is not a store, or cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._old: dict[str, bytes] = {}  # key -> digest of a completion that is to be replaced
        self._asked_again: set[str] = set()
        with locked(path.with_name(f".{path.name}.lock"), path), self._errors():  # two cannot create one file at once
            # In Jupyter an endpoint reads it in another thread, while this one waits.
            self._db = sqlite3.connect(path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")  # flush each: a lost completion costs more than a flush
            self._db.execute(_TABLE)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def get(self, keys: Iterable[str]) -> dict[str, Completion]:
        """Return the stored completions, by key. A damaged one counts as missing, and is removed."""
        completions = {}
        with self._errors():
            for key in keys:
                row = self._db.execute(_SELECT, (key,)).fetchone()
                if row is None:
                    continue
                answer, digest = row
                if self._old.get(key) == digest:
                    continue
                if answer and digest == _digest(key, answer).encode():
                    completions[key] = _from_json(answer)
                    continue
                log.warning("%s: the answer %s is damaged and counts as missing", self.path, key[:12])
                self._db.execute("DELETE FROM answers WHERE key = ? AND CAST(answer AS BLOB) IS ?", (key, answer))
        return completions

    def replace(self, keys: Iterable[str]) -> int:
        """Let the completions of these keys count as missing, each once, and return their number.

        They are removed together when the first new one arrives: until then nothing is lost, and after it old ones are
        not taken for new ones.
        """
        old = {}
        with self._errors():
            for key in set(keys) - self._asked_again:
                if row := self._db.execute(_SELECT, (key,)).fetchone():
                    old[key] = row[1]
        self._old |= old
        self._asked_again |= set(keys)
        return len(old)

    def add(
        self, key: str, identity: dict[str, Any], request: Request, completion: Completion, cost: float
    ) -> Completion:
        """Store a completion durably, unless there is one. Return the stored one: another process's where that came
        first."""
        if self._old:
            with self._errors():
                self._db.executemany(
                    "DELETE FROM answers WHERE key = ? AND CAST(digest AS BLOB) = ?", list(self._old.items())
                )
            self._old = {}
        while not (stored := self.get([key])):
            text = json.dumps(asdict(completion))
            row = (key, *map(canonical_json, (identity, request.content())), text, cost, _digest(key, text.encode()))
            with self._errors():
                self._db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)
        return stored[key]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise as_full_disk(error) or RunError(
                f"{self.path}: the store of answers cannot be used ({error})",
                "check the path, move a damaged file away, or set llm.store=PATH to another store",
            ) from error


def cache_key(identity: dict[str, Any], request: Request, batch: Sequence[str] = ()) -> str:
    """Return the key of a completion: equal for the same request to the same backend, on every machine. `batch` has the
    keys of all requests that are completed together with it, where the completion may depend on them."""
    content = [identity, request.content(), *([sorted(batch)] if batch else [])]
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """Return JSON in ASCII, with one spelling of each value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(key: str, answer: bytes) -> str:
    return hashlib.sha256(key.encode() + answer).hexdigest()


def _from_json(text: bytes) -> Completion:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()
    }
    return Completion(**fields)
