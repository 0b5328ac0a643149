"""Measure the rates of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from llm4rec_studies.cost.counting import Counter
from llm4rec_studies.cost.rates import Rates

ROUNDS, SECONDS = 2, 1.0  # of each sample at least, of which the fastest counts
PRODUCT = {"cpu": 1024, "cuda": 8192}  # rows and columns of the matrices
STATES = {"cpu": (2048, 256), "cuda": (65_536, 512)}  # of the sample of elementwise operators
SMALL_OPERATORS = 500


def measured(device: str) -> Rates:
    """Return the rates of this machine's device: of a CPU by the time of its processor, so that other load hardly
    counts; of a GPU by the clock."""
    kind = torch.device(device).type
    size, seconds = PRODUCT[kind], {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        seconds[dtype] = fastest(partial(torch.matmul, a, b), device)
    block = elementwise(device)
    counter = Counter()
    with counter:
        block()
    small = torch.ones(8, 8, device=device, requires_grad=True)
    counted = Counter()
    with counted:
        _chain(small)
    return Rates(
        torch.cuda.get_device_name() if kind == "cuda" else kind,
        2 * size**3 / seconds[torch.float32],
        2 * size**3 / seconds[torch.bfloat16],
        counter.work.bytes / fastest(block, device),
        fastest(lambda: _chain(small), device) / counted.work.operators,
        kind != "cpu",
        "measured",
    )


def elementwise(device: str) -> Callable[[], None]:
    """Return what a layer does besides products, forward and backward: norm, GELU, dropout, residual."""
    states = torch.randn(*STATES[torch.device(device).type], device=device, requires_grad=True)
    norm = nn.LayerNorm(states.shape[1], device=device)

    def block() -> None:
        mixed = nn.functional.dropout(nn.functional.gelu(norm(states)), 0.1) + states
        mixed.backward(mixed.detach())

    return block


def _chain(small: torch.Tensor) -> None:
    x = small
    for _ in range(SMALL_OPERATORS):
        x = x * small
    x.sum().backward()


def fastest(work: Callable[[], object], device: str) -> float:
    """Return the seconds of the fastest of some rounds, after one that warms up."""
    work()
    seconds: list[float] = []
    while len(seconds) < ROUNDS or sum(seconds) < SECONDS:
        start = _now(device)
        work()
        seconds.append(_now(device) - start)
    return min(seconds)


def _now(device: str) -> float:
    if torch.device(device).type == "cpu":
        return time.process_time()
    torch.accelerator.synchronize()
    return time.perf_counter()
