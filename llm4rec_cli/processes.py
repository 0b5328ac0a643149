"""The process of a run and its memory, and several processes of one run, as `torchrun` starts them.

A run usually has one process, with rank 0.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from llm4rec_cli.errors import RunError

T = TypeVar("T")
TIMEOUT = timedelta(days=1)  # a process may wait for a lock or a slower process; torchrun ends all if one fails
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT = 2**31 - 1  # bytes; the largest value that mallopt takes


def memory() -> tuple[int, int]:
    """Return total and available memory in bytes, within the container's limit. Files that are only cached count as
    available."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available, meminfo = total, Path("/proc/meminfo")
    if meminfo.exists():
        facts = dict(line.split(":") for line in meminfo.read_text().splitlines())
        available = int(facts["MemAvailable"].split()[0]) * 1024
    limit = container_limit("memory.max")
    if limit.isdigit():
        total = min(total, int(limit))
        stat = dict(line.split() for line in container_limit("memory.stat").splitlines())
        used = int(container_limit("memory.current") or 0) - int(stat.get("inactive_file", 0))
        available = min(available, int(limit) - used)
    return total, available


def cores() -> float:
    """Return the cores this process may use, by its affinity and its container's quota."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = container_limit("cpu.max").partition(" ")
    return min(n, int(quota) / int(period)) if quota.isdigit() else n


def container_limit(name: str) -> str:
    """Return a limit of the container that this runs in; empty if there is none."""
    file = Path("/sys/fs/cgroup") / name
    return file.read_text().strip() if file.exists() else ""


def keep_freed_memory() -> None:
    """Have glibc reuse the memory of freed blocks, of up to 2 GiB each, instead of returning it to the system.

    A training step frees its large buffers and needs the same ones in the next step. If the system has to give them
    again, it clears and maps each of their pages, which took up to a fifth of a step of a SASRec with 300 dimensions.
    Arrow, if it is not imported yet, takes its memory from glibc, too: with its own allocator, clearing pages took a
    quarter of the time of reading reviews.
    """
    if platform.libc_ver()[0] == "glibc":
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
        for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(parameter, KEPT)


def world_size() -> int:
    """Return the number of processes of this run."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """Return the rank of this process, from 0."""
    return int(os.environ.get("RANK", 0))


def is_first() -> bool:
    """Return whether this is the process that writes files and logs; the others only compute."""
    return rank() == 0


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Connect the processes of one run while the block lasts; with CUDA each uses a device of its own.

    Args:
        device: as in the config.
    """
    if world_size() == 1:
        yield
        return
    import torch

    backend = "gloo"
    if device in ("auto", "cuda") and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    torch.distributed.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield
    finally:
        # Remaining references to the connection, such as a wrapped model in the Trainer's cycles, would keep its
        # threads alive. A thread that drops its last tensor while Python ends is unwound through C++: "terminate called
        # without an active exception", and a successful run ends with an error.
        gc.collect()
        torch.distributed.destroy_process_group()


def shares(n: int) -> list[slice]:
    """Return each process's part of 0..n-1: parts are contiguous, ordered by rank, and equal in size up to one."""
    bounds = [n * number // world_size() for number in range(world_size() + 1)]
    return [slice(*pair) for pair in pairwise(bounds)]


def share(n: int) -> slice:
    """Return this process's part of 0..n-1."""
    return shares(n)[rank()]


def gathered(value: T) -> list[T]:
    """Return the values of all processes, in order of rank."""
    if world_size() == 1:
        return [value]
    import torch

    values: list[T] = [value] * world_size()
    with _peer_failures_reported():
        torch.distributed.all_gather_object(values, value)
    return values


def means(sums: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return total / number of each pair (total, number), added over all processes, where the number is not 0."""
    totals: dict[str, tuple[float, float]] = {}
    for of_process in gathered(sums):
        for name, (total, n) in of_process.items():
            before = totals.get(name, (0.0, 0.0))
            totals[name] = before[0] + total, before[1] + n
    return {name: total / n for name, (total, n) in totals.items() if n}


def from_first(make: Callable[[], T]) -> T:
    """Run `make` in the first process only and return its result in all of them. The others wait."""
    if world_size() == 1:
        return make()
    import torch

    box = [make() if is_first() else None]
    with _peer_failures_reported():
        torch.distributed.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[return-value]


@contextmanager
def _peer_failures_reported() -> Iterator[None]:
    """Raise RunError when another process fails while this one waits for it."""
    try:
        yield
    except RuntimeError as error:
        raise RunError("another process of this run failed", "see its own error message for the reason") from error
