"""Time and peak memory of a piece of work, measured in a fresh process so that the peak is its own."""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from llm4rec_cli import processes

STATUS = Path("/proc/self/status")
INTERVAL = 0.05  # seconds between two looks at the private memory


@dataclass(frozen=True)
class Measurement:
    """Time and memory of a piece of work.

    Attributes:
        seconds: without setting up.
        before_mb: peak memory of the process when the work began, in MiB.
        peak_mb: peak memory when it ended, in MiB.
        private_mb: peak of the memory that is no page of a file while it ran, in MiB; 0 where it is unknown.
        notes: the numbers that the work returned, if any.
    """

    seconds: float
    before_mb: float
    peak_mb: float
    private_mb: float = 0.0
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def added_mb(self) -> float:
        """How much the work raised the peak, in MiB."""
        return self.peak_mb - self.before_mb


def measure_in_fresh_process(set_up: Callable[..., Callable[[], object]], *arguments: Any) -> Measurement:
    """Call `set_up(*arguments)` in a fresh process, and measure a call of the function it returns.

    Args:
        set_up: a function at the top level of a module, so that the other process can import it.
    """
    processes.keep_freed_memory()  # also for the variables that the other process inherits
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, set_up, *arguments).result()


def measure(set_up: Callable[..., Callable[[], object]], *arguments: Any) -> Measurement:
    """Do the same in this process."""
    processes.keep_freed_memory()  # as commands do
    work = set_up(*arguments)
    before, private, ended = peak_mb(), [0.0], threading.Event()
    watch = threading.Thread(target=_watch, args=(private, ended))
    watch.start()
    try:
        start = time.perf_counter()
        returned = work()
        seconds = time.perf_counter() - start
    finally:
        ended.set()
        watch.join()
    return Measurement(seconds, before, peak_mb(), private[0], returned if isinstance(returned, dict) else {})


def _watch(private: list[float], ended: threading.Event) -> None:
    while STATUS.exists() and not ended.wait(INTERVAL):
        private[0] = max(private[0], _of_this_process("RssAnon"))


def peak_mb() -> float:
    """Return the peak memory of this process in MiB. (A child's `ru_maxrss` starts at its parent's value.)"""
    if STATUS.exists():
        return _of_this_process("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _of_this_process(field: str) -> float:
    """Return a field of Linux's status of this process in MiB."""
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(fields[field].split()[0]) / 1024
