"""Shared by the benchmarks: options, timing in turns, tables and verdicts."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from fresh_process import Measurement

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.overrides import quoted
from llm4rec_cli.results.tables import markdown
from llm4rec_cli.run.job import Job

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # these decide the rate of matrix products
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Timing:
    """Median, lowest and highest rate of a contender over the rounds, in units of work per second."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)}–{number(self.high)})"


@dataclass(frozen=True)
class Verdict:
    """Whether an aim is reached, and the numbers in words."""

    passed: bool
    details: str

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'FAIL'}: {self.details}"


def option_parser(description: str | None, examples: str, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options of all benchmarks; `rounds` is the default of --rounds."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"examples:\n{examples}\nRun it on a quiet machine. OMP_NUM_THREADS sets the threads of all contenders.",
    )
    parser.add_argument(
        "--rounds", type=int, default=rounds, help=f"timed turns of each, after one to warm up (default {rounds})"
    )
    return parser


def run_job(command: str, dataset: str, raw_dir: str | None, *overrides: str) -> Job:
    """Return what `llm4rec COMMAND` would run with this dataset and these overrides, unchecked."""
    location = [f"dataset.raw_dir={quoted(raw_dir)}"] if raw_dir else []
    return Job.unchecked(compose([f"dataset={dataset}", *location, *overrides]), command)


def machine_description() -> str:
    """Name the CPU, its instructions for matrix products, memory, and torch with its threads."""
    lines = [line for file in ("/proc/cpuinfo", "/proc/meminfo") if Path(file).exists() for line in _lines(file)]
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    memory = int(facts.get("MemTotal", "0").split()[0]) / 2**20
    flags = " ".join(flag for flag in CPU_FLAGS if flag in facts.get("flags", "").split())
    torch_version = torch.__version__.split("+")[0]
    cpu = facts.get("model name", "unknown CPU")
    return f"{cpu} ({flags}), {torch.get_num_threads()} threads, {memory:.0f} GiB, torch {torch_version}"


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


def speed_rows(
    label: str, unit: str, timings: Mapping[str, Timing], descriptions: Mapping[str, str] | None = None
) -> list[dict[str, str]]:
    """Return one row per contender: its speed, and its speed-up over the first contender.

    Args:
        label: heading of the first column.
        unit: one unit of work, e.g. `target`.
        descriptions: contender -> text of the second column.
    """
    baseline = next(iter(timings.values())).median
    return [
        {
            label: name,
            **({"description": descriptions[name]} if descriptions else {}),
            f"{unit}s/s: median (min–max)": str(timing),
            "speed-up": number(timing.median / baseline),
        }
        for name, timing in timings.items()
    ]


def memory_rows(peaks: Mapping[tuple[str, str], Measurement]) -> list[dict[str, str]]:
    """Return one row per contender: the MiB that the work added to Python, torch, the data and the model.

    Args:
        peaks: (contender, heading) -> measurement.
    """
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


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
