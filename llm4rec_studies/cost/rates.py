"""How fast a machine works, and how long counted work takes at these rates. Free of torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from llm4rec_cli.config.schema import Precision
from llm4rec_cli.errors import UsageError, did_you_mean
from llm4rec_studies.cost.work import Work

SHEET_OPERATIONS, SHEET_BYTES, SHEET_LAUNCH = 0.4, 0.5, 10e-6  # shares of a data sheet, seconds; assumed


@dataclass(frozen=True)
class Rates:
    """What a machine reaches.

    Attributes:
        fp32, bf16: operations a second in products of large matrices.
        bytes: bytes a second, read and written by elementwise operators with their gradients.
        launch: seconds of the processor to start an operator.
        overlaps: whether the processor goes on while the device computes.
        source: `measured`, or which data sheet and what shares of it.
    """

    device: str
    fp32: float
    bf16: float
    bytes: float
    launch: float
    overlaps: bool
    source: str

    def seconds(self, work: Work, precision: Precision) -> float:
        """Return how long this work takes, about."""
        rate = self.bf16 if precision is Precision.bf16 else self.fp32
        device = work.operations / rate + work.bytes / self.bytes
        host = work.operators * self.launch + work.seconds
        return max(device, host) if self.overlaps else device + host


def by_data_sheet(device: str, fp32: float, bf16: float, bandwidth: float, address: str) -> Rates:
    """Return the rates of a GPU by its data sheet, in operations and bytes a second, at the stated shares."""
    shares = f"{100 * SHEET_OPERATIONS:.0f} % of its operations, {100 * SHEET_BYTES:.0f} % of its bytes a second"
    return Rates(
        *(device, SHEET_OPERATIONS * fp32, SHEET_OPERATIONS * bf16, SHEET_BYTES * bandwidth, SHEET_LAUNCH, True),
        f"data sheet ({address}) at {shares}, {1e6 * SHEET_LAUNCH:.0f} µs an operator",
    )


GPUS = {  # dense, without sparsity; fp32 without TF32
    "A100": by_data_sheet("A100 80 GB SXM", 19.5e12, 312e12, 2.039e12, "NVIDIA A100 datasheet"),
    "H100": by_data_sheet("H100 80 GB SXM", 67e12, 989e12, 3.35e12, "NVIDIA H100 datasheet"),
}
DEFAULT_GPU = "A100"
GPU_HELP = f"whose hours: {', '.join(GPUS)} by data sheets, or gpu-DEVICE.json of doctor gpu ({DEFAULT_GPU})"


def rates_of_gpu(named: str) -> Rates:
    """Return the rates of one of GPUS, or those that a report of `llm4rec doctor gpu` has measured. Raises UsageError
    if `named` is neither."""
    if named in GPUS:
        return GPUS[named]
    file = Path(named).expanduser()
    if not file.is_file():
        known = did_you_mean(named, GPUS)
        raise UsageError(
            f"'{named}' is no GPU with a data sheet here and no file",
            f"{known}; or gpu-DEVICE.json of llm4rec doctor gpu",
        )
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        card = next(section["facts"] for section in report["sections"] if section["name"] == "card")
        return Rates(
            *(report["device"], 1e12 * card["fp32 TFLOP/s"], 1e12 * card["bf16 TFLOP/s"]),
            *(1e9 * card["elementwise GB/s"], 1e-6 * card["µs an operator"], report["device"] != "cpu"),
            f"measured by llm4rec doctor gpu, {report['date']}",
        )
    except (ValueError, KeyError, TypeError, StopIteration):
        raise UsageError(
            f"{file} is no report with rates of a card", "llm4rec doctor gpu writes gpu-DEVICE.json"
        ) from None
