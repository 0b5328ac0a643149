"""Shared by the benchmarks, which need Linux: timing in turns, memory of a fresh process, and tables."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from llm4rec_cli import processes
from llm4rec_cli.results.tables import markdown

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # these decide the rate of matrix products
ROUNDS = 5  # timed turns of each contender


class Timing(NamedTuple):
    """Median, lowest and highest rate of a contender over the rounds, in units of work per second."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)}–{number(self.high)})"


class Measurement(NamedTuple):
    """Seconds of a piece of work without its set-up, MiB that it added to the peak memory, and what it returned."""

    seconds: float
    added_mb: float
    returned: Any


def typed_overrides(description: str | None) -> list[str]:
    """Return the overrides on the command line of a benchmark, which has no other options."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="dataset=NAME dataset.raw_dir=PATH, …; default: the demo")
    return parser.parse_args().overrides


def machine_description() -> str:
    """Name the CPU, its instructions for matrix products, memory, and torch with its threads."""
    files = [Path("/proc/cpuinfo"), Path("/proc/meminfo")]
    lines = [line.partition(":") for file in files for line in file.read_text().splitlines()]
    facts = {name.strip(): value.strip() for name, _, value in lines}
    memory = int(facts.get("MemTotal", "0").split()[0]) / 2**20
    flags = " ".join(flag for flag in CPU_FLAGS if flag in facts.get("flags", "").split())
    cpu, version = facts.get("model name", "unknown CPU"), torch.__version__.split("+")[0]
    return f"{cpu} ({flags}), {torch.get_num_threads()} threads, {memory:.0f} GiB, torch {version}"


def time_in_turns(contenders: Mapping[str, Callable[[], float]]) -> dict[str, Timing]:
    """Time the contenders in turns, A B C A B C …, so that other load on the machine slows all of them. The first turns
    warm up. Each call does a piece of work and returns the number of units done."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(ROUNDS + 1):
        for name, work in contenders.items():
            start = time.perf_counter()
            units = work()
            if i > 0:
                rates[name].append(units / (time.perf_counter() - start))
    return {name: Timing(median(values), min(values), max(values)) for name, values in rates.items()}


def measure_in_fresh_process(set_up: Callable[..., Callable[[], object]], *arguments: Any) -> Measurement:
    """Call `set_up(*arguments)` in a fresh process, whose peak memory is its own, and measure the function it returns.

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
    before, start = peak_mb(), time.perf_counter()
    returned = work()
    return Measurement(time.perf_counter() - start, peak_mb() - before, returned)


def peak_mb() -> float:
    """Return the peak memory of this process in MiB. A child's `ru_maxrss` starts at its parent's value."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def speed_rows(label: str, unit: str, timings: Mapping[str, Timing]) -> list[dict[str, str]]:
    """Return one row per contender: its speed in units per second, and its speed-up over the first contender."""
    baseline = next(iter(timings.values())).median
    heading = f"{unit}s/s: median (min–max)"
    return [
        {label: name, heading: str(timing), "speed-up": number(timing.median / baseline)}
        for name, timing in timings.items()
    ]


def print_table(title: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Print rows with equal keys as a Markdown section, as in docs/develop/benchmarks.md."""
    print(f"### {title}\n\n{markdown(list(rows[0]), [list(row.values()) for row in rows])}\n")


def number(value: float) -> str:
    """Format with three significant digits and no exponent: 0.0123, 4.56, 78.9, 1,234."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
