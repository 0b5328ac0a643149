"""Batches on their way to a model: tensors for its device, and arrays that stay."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.base import Batch


def as_tensors(numbers: Mapping[str, IntArray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values.astype(np.int64)) for name, values in numbers.items()}


def on_device(batch: Batch, device: torch.device) -> Batch:
    return {name: copied_to(x, device) if isinstance(x, Tensor) else x for name, x in batch.items()}


def copied_to(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device; by pinned memory to a GPU, as other copies wait for its work."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)
