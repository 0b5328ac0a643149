"""Several processes on one run, as `torchrun` starts them. One process, the usual case, is the first of one."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from llm4rec_cli.errors import RunError

T = TypeVar("T")

PATIENCE = timedelta(days=1)  # one process may wait for a lock, or for a longer share; torchrun ends all if one fails


def world_size() -> int:
    """How many processes work on this run."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", 0))


def is_first() -> bool:
    """Whether this process writes files and speaks: the others compute in silence."""
    return rank() == 0


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Connects the processes of one run while the block lasts; with CUDA each takes a device of its own.

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
    torch.distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield
    finally:
        # What still refers to the connection, as a wrapped model in the Trainer's cycles does, would keep its threads.
        # One that drops its last tensor while Python ends is unwound through C++: "terminate called without an active
        # exception", and the run that went well ends with an error.
        gc.collect()
        torch.distributed.destroy_process_group()


def share(n: int) -> slice:
    """This process's part of 0..n-1: parts are contiguous, in order of rank, and differ by one in size at most."""
    return slice(n * rank() // world_size(), n * (rank() + 1) // world_size())


def gathered(value: T) -> list[T]:
    """What every process holds, in order of rank."""
    if world_size() == 1:
        return [value]
    import torch

    values: list[T] = [value] * world_size()
    with _together():
        torch.distributed.all_gather_object(values, value)
    return values


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, given to all: it alone runs `make`, and the others wait."""
    if world_size() == 1:
        return make()
    import torch

    box = [make() if is_first() else None]
    with _together():
        torch.distributed.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[return-value]


@contextmanager
def _together() -> Iterator[None]:
    """Where a process waits for the others, it learns that one of them failed."""
    try:
        yield
    except RuntimeError as error:
        raise RunError("another process of this run failed", "what it says itself is the reason") from error
