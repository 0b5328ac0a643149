"""Progress: a Rich bar on a terminal, one log line an interval elsewhere. Always on stderr: tables own stdout."""

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
INTERVAL = 10.0  # seconds between two lines where there is no terminal

console = Console(stderr=True)


def bar(amount: ProgressColumn | None = None) -> Progress:
    """A Rich progress display; invisible where stderr is no terminal.

    Args:
        amount: the column that tells how much is done; by default steps of so many.
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
    """Iterates over `steps` and shows how far it is."""
    return counted(steps, len(steps), description)


def counted(steps: Iterable[T], total: int, description: str) -> Iterator[T]:
    """The same of steps that come one by one, and do not know how many they are."""
    with bar() as progress:
        task = progress.add_task(description, total=total, note="")
        said = time.monotonic()
        for done, step in enumerate(steps):
            yield step
            progress.update(task, completed=done + 1)
            if not console.is_terminal and time.monotonic() - said > INTERVAL:
                said = time.monotonic()
                log.info("%s: %d of %d", description, done + 1, total)


@contextmanager
def transfer(description: str) -> Iterator[Callable[[int, int | None], None]]:
    """Shows how far a transfer is; yields what is to be told how many bytes there are and, if known, will be."""
    with bar(DownloadColumn()) as progress:
        task = progress.add_task(description, total=None, note="")
        said = time.monotonic()

        def tell(done: int, total: int | None) -> None:
            nonlocal said
            progress.update(task, completed=done, total=total)
            if not console.is_terminal and time.monotonic() - said > INTERVAL:
                said = time.monotonic()
                log.info("%s: %.1f of %s MB", description, done / 1e6, f"{total / 1e6:.1f}" if total else "?")

        yield tell
