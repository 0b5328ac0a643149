"""Which arithmetic is faster on this machine, fp32 or bf16: measured on a piece of the work, once a machine.

`precision: auto` in a config is replaced by the answer before the work begins.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.config.schema import Precision, Work
from llm4rec_cli.files import write_json

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

BUDGET = 0.4  # seconds that the timed rounds of one probe take, about
ROUNDS = 3  # at least
MARGIN = 1.1  # bf16 must be so many times as fast: a difference below it is noise, and fp32 is exact
ROWS, SIZE, INNER = 1024, 384, 1536  # of a feed-forward layer of the packaged encoder
VOCABULARY, ANSWERS = 49_152, 8  # of the packaged chat model; answers decoded at once


def fastest(work: Work, device: str, cache: Path) -> Precision:
    """The faster arithmetic for this kind of work.

    Args:
        device: where the work is done.
        cache: folder; measurements are kept in arithmetic.json, by machine.
    """
    return faster(measured(work, device, cache))


def faster(seconds: Mapping[str, float]) -> Precision:
    """The faster of two, by the seconds that each takes."""
    return Precision.bf16 if seconds["bf16"] * MARGIN < seconds["fp32"] else Precision.fp32


def measured(work: Work, device: str, cache: Path) -> dict[str, float]:
    """Seconds that a piece of this work takes by precision: as kept for this machine, or measured now and kept."""
    path = cache / "arithmetic.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    machine = _machine(device)
    if work.name not in known.get(machine, {}):
        seconds = probe(work, device)
        known.setdefault(machine, {})[work.name] = seconds
        log.info("%s on %s: fp32 takes %.1f ms, bf16 %.1f ms", work.name, device, *(1e3 * s for s in seconds.values()))
        write_json(path, known)
    found: dict[str, float] = known[machine][work.name]
    return found


def probe(work: Work, device: str) -> dict[str, float]:
    """The least seconds that a piece of this work takes in fp32 and in bf16.

    The two are timed in turns, so that whatever else runs slows both; the minimum is what the machine can do.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        pieces = {name: _piece(work, dtype, device) for name, dtype in _dtypes().items()}
        for piece in pieces.values():
            piece()
        least = dict.fromkeys(pieces, float("inf"))
        start, rounds = time.perf_counter(), 0
        while rounds < ROUNDS or time.perf_counter() - start < BUDGET:
            for name, piece in pieces.items():
                least[name] = min(least[name], _seconds(piece, device))
            rounds += 1
    return least


def _dtypes() -> dict[str, torch.dtype]:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16}


def _piece(work: Work, dtype: torch.dtype, device: str) -> Callable[[], object]:
    """What is timed. Training goes forward and back under autocast, as the Trainer does; weights that only answer are
    held in the precision.

    An answer of some hundred tokens to a prompt of a thousand takes about as much arithmetic of one prompt's layer as
    of eight rows times the vocabulary, where memory decides.
    """
    import torch
    from torch import nn

    layer = nn.Sequential(nn.Linear(SIZE, INNER), nn.GELU(), nn.Linear(INNER, SIZE)).to(device)
    rows = torch.randn(ROWS, SIZE, device=device)

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
    words, states = (torch.randn(n, SIZE, device=device).to(dtype) for n in (VOCABULARY, ANSWERS))

    @torch.inference_mode()
    def answer() -> object:
        return layer(rows), states @ words.T

    return answer


def _seconds(piece: Callable[[], object], device: str) -> float:
    import torch

    begin = time.perf_counter()
    piece()
    if device != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - begin


def _machine(device: str) -> str:
    """What decides the rates: the device, its instructions, torch and its threads."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    about = [line for line in lines if line.startswith(("model name", "flags", "Features"))][:2]
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    facts = [device, name, platform.machine(), *about, torch.backends.cpu.get_cpu_capability()]
    facts += [torch.__version__, str(torch.get_num_threads())]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
