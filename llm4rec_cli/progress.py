"""Progress of long steps on stderr: bars on a terminal, otherwise a log line a minute with the same content.

Every long loop reports here: `track` for a loop over known steps, `step` for anything else. Steps may be nested.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from llm4rec_cli import processes
from llm4rec_cli.errors import printable

log = logging.getLogger(__name__)
# Each training imports bitsandbytes where it is installed, and it warns of kernels that no model here uses, and at each
# product of int8. Without this line Python prints these warnings, also where the Python API prints nothing.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
T = TypeVar("T")
VERBOSE = "LLM4REC_VERBOSE"  # set by -v, also for the processes of a sweep
INTERVAL = 60.0  # seconds between two log lines of a step
REFRESH = 0.2  # seconds between two updates of its bar

console = Console(stderr=True)
clock = time.monotonic
Note = str | Callable[[], str]  # what else to say; a function is only called when it is shown


class Step:
    """One step under way.

    Args:
        description: what is done, as in "ranking".
        total: how much there is to do; None if not known.
        done: how much of that was done before, as in a resumed training.
        in_bytes: whether amounts are bytes.
    """

    def __init__(self, description: str, total: int | None, done: int, in_bytes: bool) -> None:
        self.description, self.total, self.in_bytes = description, total, in_bytes
        self.note: Note = ""
        self.begin(done)
        self.logged = self.began
        self.drawn = float("-inf")
        self.bar: TaskID | None = None

    def begin(self, done: int) -> None:
        """Report that the step begins, or begins again, with so much done before: time left is computed from here."""
        self.done = self.done_before = done
        self.began = clock()

    def advance(self, amount: int = 1, note: Note = "") -> None:
        """Report that so much more is done."""
        self.update(self.done + amount, note=note)

    def update(self, done: int, total: int | None = None, note: Note = "") -> None:
        """Report how much is done altogether, and, where it is only now known, of how much."""
        self.done, self.total, self.note = done, self.total if total is None else total, note
        now = clock()
        if self.bar is not None and (now - self.drawn >= REFRESH or self.done == self.total):
            self.drawn = now
            _bars.update(self.bar, completed=self.done, total=self.total, facts=self._facts(now))
        elif not console.is_terminal and now - self.logged >= INTERVAL:
            self.logged = now
            log.info("%s: %s", self.description, self._facts(now))

    def _facts(self, now: float) -> str:
        """Return `1,200 of 3,000, 2 min 5 s, 3 min 8 s left, valid 0.1031`."""
        elapsed, gained = now - self.began, self.done - self.done_before
        facts = [self._amount(), _duration(elapsed)]
        if self.total is not None and gained > 0 and self.done < self.total:
            facts.append(f"{_duration(elapsed * (self.total - self.done) / gained)} left")
        note = self.note if isinstance(self.note, str) else self.note()
        return ", ".join([*facts, *([note] if note else [])])

    def _amount(self) -> str:
        if self.in_bytes:
            of_total = "" if self.total is None else f" of {self.total / 1e6:.1f}"
            return f"{self.done / 1e6:.1f}{of_total} MB"
        return f"{self.done:,.0f}" + ("" if self.total is None else f" of {self.total:,.0f}")


def _new_bars() -> Progress:
    texts = [
        TextColumn(text, markup=False, table_column=Column(overflow="fold"))
        for text in ("{task.description}", "{task.fields[facts]}")
    ]
    return Progress(texts[0], BarColumn(bar_width=10), texts[1], console=console, transient=True)


_bars = _new_bars()  # of all steps under way


@contextmanager
def step(description: str, total: int | None = None, *, done: int = 0, in_bytes: bool = False) -> Iterator[Step]:
    """Show the progress of a step while the block lasts; see `Step` for the arguments."""
    current = Step(description, total, done, in_bytes)
    if console.is_terminal and processes.is_first():
        if not _bars.tasks:
            _bars.start()
        current.bar = _bars.add_task(description, total=total, completed=done, facts="")
    try:
        yield current
    finally:
        if current.bar is not None:
            _bars.remove_task(current.bar)
            if not _bars.tasks:
                _bars.stop()


def track(steps: Collection[T], description: str) -> Iterator[T]:
    """Iterate over `steps` and show progress."""
    return track_iterable(steps, len(steps), description)


def track_iterable(steps: Iterable[T], total: int, description: str, note: Note = "") -> Iterator[T]:
    """Iterate over `steps`, `total` in number, and show progress."""
    with step(description, total) as current:
        for item in steps:
            yield item
            current.advance(note=note)


def _duration(seconds: float) -> str:
    """Return `42 s`, `3 min 5 s` or `2 h 10 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _make_printable(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    return True


def log_to_stderr(prefix: str = "") -> None:
    """Log the package's messages with Rich on a terminal; elsewhere as plain lines, with the prefix. With -v, more."""
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(f"%(asctime)s {prefix}%(message)s", "%H:%M:%S"))
    handler.addFilter(_make_printable)
    root = logging.getLogger("llm4rec_cli")
    level = logging.DEBUG if VERBOSE in os.environ else logging.INFO
    root.setLevel(level if processes.is_first() else logging.WARNING)
    root.handlers[:] = [handler]
    root.propagate = False
