"""Work in a process of its own: its peak of memory is then its own too."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Measured:
    """What a piece of work took.

    Attributes:
        seconds: of the work, without what was set up for it.
        before_mb: the most memory that the process had held when the work began, in MiB.
        peak_mb: the same when it had ended.
    """

    seconds: float
    before_mb: float
    peak_mb: float


def alone(set_up: Callable[..., Callable[[], object]], *arguments: Any) -> Measured:
    """Calls `set_up(*arguments)` in a fresh process, and measures a call of what it returns.

    Args:
        set_up: a function of a module, for the other process to find.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measured, set_up, *arguments).result()


def measured(set_up: Callable[..., Callable[[], object]], *arguments: Any) -> Measured:
    """The same in this process."""
    work = set_up(*arguments)
    before = peak_mb()
    begin = time.perf_counter()
    work()
    return Measured(time.perf_counter() - begin, before, peak_mb())


def peak_mb() -> float:
    """The most memory that this process has held, in MiB. (`ru_maxrss` of a child begins at its parent's.)"""
    if STATUS.exists():
        facts = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return int(facts["VmHWM"].split()[0]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
