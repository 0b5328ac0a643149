"""Shared by the benchmarks: options, random data, timing in turns, memory of a fresh process, and tables."""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from llm4rec_cli import processes
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.overrides import quoted
from llm4rec_cli.results.tables import markdown
from llm4rec_cli.run.job import Job

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # these decide the rate of matrix products
SHORTEST, MEAN = 3, 8.9  # interactions per user of random data; the mean is Beauty's


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


def option_parser(description: str | None, examples: str, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options of the benchmarks of speed; `rounds` is the default of --rounds."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"examples:\n{examples}\nRun it on a quiet machine. OMP_NUM_THREADS sets the threads of all contenders.",
    )
    words = f"timed turns of each, after one to warm up (default {rounds})"
    parser.add_argument("--rounds", type=int, default=rounds, help=words)
    return parser


def run_job(command: str, dataset: str, raw_dir: str | None, *overrides: str) -> Job:
    """Return what `llm4rec COMMAND` would run with this dataset and these overrides, unchecked."""
    location = [f"dataset.raw_dir={quoted(raw_dir)}"] if raw_dir else []
    return Job.unchecked(compose([f"dataset={dataset}", *location, *overrides]), command)


def interactions(n_users: int, n_items: int, seed: int = 0) -> pd.DataFrame:
    """Draw columns `user` and `item`, sorted by user; lengths are geometric, low item numbers are popular."""
    rng = np.random.default_rng(seed)
    length = SHORTEST - 1 + rng.geometric(1 / (MEAN - SHORTEST + 1), n_users)
    user = np.repeat(np.arange(n_users, dtype=np.int32), length)
    return pd.DataFrame({"user": user, "item": (n_items * rng.random(len(user)) ** 2).astype(np.int32)})


def machine_description() -> str:
    """Name the CPU, its instructions for matrix products, memory, and torch with its threads."""
    files = [file for file in map(Path, ("/proc/cpuinfo", "/proc/meminfo")) if file.exists()]
    lines = [line.partition(":") for file in files for line in file.read_text().splitlines()]
    facts = {name.strip(): value.strip() for name, _, value in lines}
    memory = int(facts.get("MemTotal", "0").split()[0]) / 2**20
    flags = " ".join(flag for flag in CPU_FLAGS if flag in facts.get("flags", "").split())
    cpu, version = facts.get("model name", "unknown CPU"), torch.__version__.split("+")[0]
    return f"{cpu} ({flags}), {torch.get_num_threads()} threads, {memory:.0f} GiB, torch {version}"


def time_in_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Timing]:
    """Time the contenders in turns, A B C A B C …, so that other load on the machine slows all of them.

    Args:
        contenders: each does a piece of its work and returns the number of units done.
        rounds: timed rounds, after one to warm up.
    """
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(rounds + 1):
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
    """Return the peak memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where a child's `ru_maxrss` starts at its parent's value
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def speed_rows(label: str, unit: str, timings: Mapping[str, Timing]) -> list[dict[str, str]]:
    """Return one row per contender: its speed in units per second, and its speed-up over the first contender."""
    baseline = next(iter(timings.values())).median
    heading = f"{unit}s/s: median (min–max)"
    return [
        {label: name, heading: str(timing), "speed-up": number(timing.median / baseline)}
        for name, timing in timings.items()
    ]


def memory_rows(peaks: Mapping[tuple[str, str], Measurement]) -> list[dict[str, str]]:
    """Return one row per contender: the MiB that its work added, by the heading in each key (contender, heading)."""
    rows: dict[str, dict[str, str]] = {}
    for (contender, heading), measurement in peaks.items():
        rows.setdefault(contender, {"added MiB": contender})[heading] = number(measurement.added_mb)
    return list(rows.values())


def print_table(title: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Print rows with equal keys as a Markdown section, as in docs/develop/benchmarks.md."""
    print(f"### {title}\n\n{markdown(list(rows[0]), [list(row.values()) for row in rows])}\n")


def number(value: float) -> str:
    """Format with three significant digits and no exponent: 0.0123, 4.56, 78.9, 1,234."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
