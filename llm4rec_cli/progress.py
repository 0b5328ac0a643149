"""Progress: a Rich bar on a terminal, one log line an interval elsewhere. Always on stderr: tables own stdout."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger(__name__)
T = TypeVar("T")
INTERVAL = 10.0  # seconds between two lines where there is no terminal

console = Console(stderr=True)


def bar() -> Progress:
    """A Rich progress display; invisible where stderr is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def track(steps: Collection[T], description: str) -> Iterator[T]:
    """Iterates over `steps` and shows how far it is."""
    with bar() as progress:
        task = progress.add_task(description, total=len(steps), note="")
        said = time.monotonic()
        for done, step in enumerate(steps):
            yield step
            progress.update(task, completed=done + 1)
            if not console.is_terminal and time.monotonic() - said > INTERVAL:
                said = time.monotonic()
                log.info("%s: %d of %d", description, done + 1, len(steps))
