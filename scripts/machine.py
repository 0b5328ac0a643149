"""What the benchmarks share: the machine and its rate, contenders timed in turn, one table."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from llm4rec_cli.reporting import tables

FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # of the CPU; what decides the rate of its matrix products


@dataclass(frozen=True)
class Timing:
    """Rates of one contender over the rounds.

    Attributes:
        median, low, high: units of work a second.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)}–{number(self.high)})"


def machine_in_words() -> str:
    """Cores, what the CPU offers for matrix products, memory, torch and its threads."""
    facts = dict(line.split(":", 1) for line in _lines("/proc/cpuinfo") if ":" in line)
    cpu = {name.strip(): value.strip() for name, value in facts.items()}
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    flags = cpu.get("flags", "").split()
    words = [
        cpu.get("model name", "unknown CPU"),
        f"threads: {torch.get_num_threads()}",
        " ".join(flag for flag in FEATURES if flag in flags),
        f"{memory / 2**20:.0f} GiB",
        f"torch {torch.__version__.split('+')[0]}",
    ]
    return ", ".join(word for word in words if word)


def measured_rate(dtype: torch.dtype, size: int = 2048, repeats: int = 5) -> float:
    """GFLOP/s of a square matrix product on this machine's CPU, with torch's present threads: the best of `repeats`."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    a @ b
    return max(2 * size**3 / _seconds(lambda: a @ b) / 1e9 for _ in range(repeats))


def in_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Timing]:
    """Each contender once a round, A B C A B C …: whatever else slows the machine slows all of them.

    Args:
        contenders: each does a piece of its work and returns how many units that was.
        rounds: rounds that count; one more goes before them to warm up.
    """
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(rounds + 1):
        for name, work in contenders.items():
            begin = time.perf_counter()
            units = work()
            if i > 0:
                rates[name].append(units / (time.perf_counter() - begin))
    return {name: Timing(median(found), min(found), max(found)) for name, found in rates.items()}


def executed(work: Callable[[], float]) -> float:
    """Floating-point operations in matrix products a unit of this work, counted by torch as they run."""
    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # torch itself leaves it out
    attention = {operator: lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value)}
    with FlopCounterMode(display=False, custom_mapping=attention) as counter:
        units = work()
    return counter.get_total_flops() / units


def report(title: str, rows: Sequence[Mapping[str, str]], markdown: bool = False) -> None:
    """Prints rows with the same keys as a table: by Rich, or as a Markdown section."""
    columns = list(rows[0])
    cells = [[row[column] for column in columns] for row in rows]
    if markdown:
        print(f"### {title}\n\n{tables.markdown(columns, cells)}\n")
    else:
        tables.console().print(tables.table(title, columns, cells))


def number(value: float) -> str:
    """Three digits that count, without an exponent: 0.0123, 4.56, 78.9, 1,234."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
