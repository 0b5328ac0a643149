"""Progress on stderr: a Rich bar on a terminal, otherwise a log line every `INTERVAL` seconds. Tables use stdout."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from llm4rec_cli import processes

log = logging.getLogger(__name__)
T = TypeVar("T")
INTERVAL = 10.0  # seconds between two log lines without a terminal

console = Console(stderr=True)


def bar(amount: ProgressColumn | None = None) -> Progress:
    """Return a Rich progress display, invisible unless stderr is a terminal.

    Args:
        amount: the column for the completed amount; by default "m/n" steps.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        amount or MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not (console.is_terminal and processes.is_first()),
    )


def track(steps: Collection[T], description: str) -> Iterator[T]:
    """Iterate over `steps` and show progress."""
    return track_iterable(steps, len(steps), description)


def track_iterable(steps: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Iterate over `steps`, `total` in number, and show progress."""
    with bar() as progress:
        task = progress.add_task(description, total=total, note="")
        last_logged = time.monotonic()
        for done, step in enumerate(steps):
            yield step
            progress.update(task, completed=done + 1)
            if not console.is_terminal and time.monotonic() - last_logged > INTERVAL:
                last_logged = time.monotonic()
                log.info("%s: %d of %d", description, done + 1, total)


@contextmanager
def transfer(description: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show the progress of a transfer; yields a function to call with (bytes done, total bytes or None)."""
    with bar(DownloadColumn()) as progress:
        task = progress.add_task(description, total=None, note="")
        last_logged = time.monotonic()

        def update(done: int, total: int | None) -> None:
            nonlocal last_logged
            progress.update(task, completed=done, total=total)
            if not console.is_terminal and time.monotonic() - last_logged > INTERVAL:
                last_logged = time.monotonic()
                log.info("%s: %.1f of %s MB", description, done / 1e6, f"{total / 1e6:.1f}" if total else "?")

        yield update
