"""The rates of the card itself."""

from __future__ import annotations

import torch

from llm4rec_studies.cost import measuring
from llm4rec_studies.cost.rates import Rates
from llm4rec_studies.gpu_check.sections import Section, judged

COPIED = {"cpu": 1 << 22, "cuda": 1 << 28}  # numbers of a copy


def rates_of(device: str) -> tuple[Rates, Section]:
    """Return the rates of a device, and the section that shows them: products in three precisions, copies on the device
    and from the host."""
    rates = measuring.measured(device)
    facts: dict[str, float | str] = {
        "fp32 TFLOP/s": rates.fp32 / 1e12,
        "tf32 TFLOP/s": _tf32(device) / 1e12,
        "bf16 TFLOP/s": rates.bf16 / 1e12,
        "elementwise GB/s": rates.bytes / 1e9,
        "GB/s": _copied(device, device) / 1e9,
        "host to device GB/s": _copied("cpu", device) / 1e9,
        "µs an operator": 1e6 * rates.launch,
    }
    return rates, judged("card", facts, [])


def _tf32(device: str) -> float:
    """Return the rate of fp32 products that may be rounded to TF32; on a device without it that of fp32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        size = measuring.PRODUCT[torch.device(device).type]
        a, b = (torch.randn(size, size, device=device) for _ in range(2))
        return 2 * size**3 / measuring.fastest(lambda: a @ b, device)
    finally:
        torch.set_float32_matmul_precision(before)


def _copied(source: str, device: str) -> float:
    """Return the bytes a second that a copy reads and writes on a device, or brings from pinned memory of the host."""
    numbers = torch.ones(COPIED[torch.device(device).type], device=source)
    is_on_device = torch.device(source).type == torch.device(device).type
    if not is_on_device:
        numbers = numbers.pin_memory()
    target = torch.empty_like(numbers, device=device)
    seconds = measuring.fastest(lambda: target.copy_(numbers, non_blocking=True), device)
    return (1 + is_on_device) * 4 * len(numbers) / seconds
