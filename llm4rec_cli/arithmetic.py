"""Faster arithmetic where the machine has it: `precision: auto`, and products of matrices.

`auto` becomes fp32 or bf16, the faster one in a benchmark that is run once per machine and kind of work.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.config.schema import Precision, Work
from llm4rec_cli.errors import UsageError
from llm4rec_cli.files import locked, write_json

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

CPU = "cpu"  # tests rename it, so that a CPU takes the paths of an accelerator
CPUINFO = Path("/proc/cpuinfo")
BUDGET = 0.4  # approximate seconds for the timed rounds of one probe
ROUNDS = 3  # minimum
MARGIN = 1.1  # required speed-up of bf16: a smaller one is noise, and fp32 is exact
ROWS = {"cpu": 1 << 10, "accelerator": 1 << 16}  # fewer would time how fast an accelerator's kernels are started
SIZE, INNER = 384, 1536  # a feed-forward layer of the packaged encoder
VOCABULARY, ANSWERS = 49_152, 8  # of the packaged chat model; answers decoded in parallel


def resolve_device(device: str) -> str:
    """Return the device of a config, with `auto` resolved.

    Raises:
        UsageError: this machine does not have it.
    """
    if device == "cpu":
        return "cpu"
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    available = accelerator.type if accelerator else "cpu"
    if device not in ("auto", available):
        raise UsageError(f"torch finds no {device} on this machine", f"device={available}; llm4rec doctor says more")
    return available


def at_once(limits: Mapping[str, int], device: str) -> int:
    """Return the limit of a kind of device: on a `cpu` what stays near the cache, on an `accelerator` what fits."""
    return limits["cpu" if device == CPU else "accelerator"]


def on_cpu(x: torch.Tensor) -> bool:
    """Return whether to compute on `x` as is fast on a CPU; otherwise by few large operators, which never wait."""
    return x.device.type == CPU


def fastest(work: Work, device: str, cache: Path) -> Precision:
    """Return the faster precision for this kind of work.

    Args:
        device: where the work is done.
        cache: folder whose arithmetic.json keeps the timings by machine.
    """
    return faster(timings(work, device, cache))


def faster(seconds: Mapping[str, float]) -> Precision:
    """Return bf16 if it is faster than fp32 by at least `MARGIN`, otherwise fp32."""
    return Precision.bf16 if seconds["bf16"] * MARGIN < seconds["fp32"] else Precision.fp32


def timings(work: Work, device: str, cache: Path) -> dict[str, float]:
    """Return `probe`'s seconds by precision, from the cache or measured now and cached."""
    path = cache / "arithmetic.json"
    machine = _machine(device)
    if (known := _stored(path).get(machine, {}).get(work.name)) is not None:
        return dict(known)
    with locked(cache / ".arithmetic.lock", path):  # jobs of a sweep share one measurement, and so one precision
        by_machine = _stored(path)
        seconds = by_machine.setdefault(machine, {}).get(work.name)
        if seconds is None:
            by_machine[machine][work.name] = seconds = probe(work, device)
            in_ms = (1e3 * s for s in seconds.values())
            log.info("%s on %s: fp32 takes %.1f ms, bf16 %.1f ms", work.name, device, *in_ms)
            write_json(path, by_machine)
    return dict(seconds)


def _stored(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return machine -> kind of work -> seconds by precision."""
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError):  # damaged: measured again
        return {}


def probe(work: Work, device: str) -> dict[str, float]:
    """Measure the seconds of a sample of this work in fp32 and in bf16.

    The two are timed in turns, so that other load slows both. The minimum is what the machine can do.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        samples = {
            "fp32": _workload(work, torch.float32, device),
            "bf16": _workload(work, torch.bfloat16, device),
        }
        for sample in samples.values():  # warm up
            sample()
        least = dict.fromkeys(samples, float("inf"))
        start, rounds = time.perf_counter(), 0
        while rounds < ROUNDS or time.perf_counter() - start < BUDGET:
            for name, sample in samples.items():
                least[name] = min(least[name], _seconds(sample, device))
            rounds += 1
    return least


def _workload(work: Work, dtype: torch.dtype, device: str) -> Callable[[], object]:
    """Return the function to time.

    Training runs forward and backward under autocast, as the Trainer does; for inference the weights are cast.
    Answering adds eight rows times the vocabulary, which is bound by memory: answering a prompt of a thousand tokens
    with some hundred costs about as much there as in one layer over the prompt.
    """
    import torch
    from torch import nn

    layer = nn.Sequential(nn.Linear(SIZE, INNER), nn.GELU(), nn.Linear(INNER, SIZE)).to(device)
    rows = torch.randn(at_once(ROWS, device), SIZE, device=device)

    def train() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            loss = layer(rows).float().square().mean()
        loss.backward()

    if work is Work.training:
        return train
    layer, rows = layer.to(dtype), rows.to(dtype)

    @torch.inference_mode()
    def read() -> object:
        return layer(rows)

    if work is Work.reading:
        return read
    embeddings, states = (torch.randn(n, SIZE, device=device).to(dtype) for n in (VOCABULARY, ANSWERS))

    @torch.inference_mode()
    def answer() -> object:
        return layer(rows), states @ embeddings.T

    return answer


def _seconds(sample: Callable[[], object], device: str) -> float:
    import torch

    begin = time.perf_counter()
    sample()
    if device != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - begin


def _machine(device: str) -> str:
    """Return a hash of what determines the speed: the device, its instructions, torch and its threads."""
    import torch

    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    cpu = [line for line in lines if line.startswith(("model name", "flags", "Features"))][:2]
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    facts = [device, name, platform.machine(), *cpu, torch.backends.cpu.get_cpu_capability()]
    facts += [torch.__version__, str(torch.get_num_threads())]
    facts += [] if device == "cpu" else [str(at_once(ROWS, device))]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which products are computed in this precision; `auto` counts as fp32."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=precision is Precision.bf16)


def product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return left · rightᵀ, (n, m), without a gradient.

    MKL, which torch takes for fp32, leaves out AVX-512 on CPUs that are not Intel's. There oneDNN, which torch takes
    for bf16, needs half the time. It prepares code for each new shape, so that it pays where shapes repeat.

    Args:
        left, right: (n, size) and (m, size).
        out: (n, m) optional buffer for the result.
    """
    import torch

    def fits(x: torch.Tensor) -> bool:
        return x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0 and 1 in x.stride()

    if fits(left) and fits(right) and left.shape[1] == right.shape[1] and _onednn_is_faster():
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
        return result
    return torch.mm(left, right.t(), out=out)


@cache
def _onednn_is_faster() -> bool:
    import torch

    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    is_amd = CPUINFO.exists() and "AuthenticAMD" in CPUINFO.read_text()
    return has_avx512 and is_amd and torch.backends.mkldnn.is_available()
