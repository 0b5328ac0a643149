"""What a run takes of its GPUs: memory, and energy as NVML counts it (the extra `gpu`)."""

from __future__ import annotations

import importlib
from typing import Any

from llm4rec_cli import processes
from llm4rec_cli.results.result import GpuCosts


class Meter:
    """Measures the energy of this process's GPU from its creation on, and its memory from the start of the process."""

    def __init__(self, nvml: Any) -> None:
        import torch

        nvml.nvmlInit()
        self.nvml = nvml
        # By its UUID, as CUDA_VISIBLE_DEVICES renumbers GPUs for torch and not for NVML.
        self.gpu = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties().uuid}")
        self.start = self._millijoules()

    def costs(self) -> GpuCosts:
        """Return the costs until now, of all processes; each of them must call it."""
        import torch

        own = torch.cuda.max_memory_reserved() >> 20, self._millijoules() - self.start
        peaks, millijoules = zip(*processes.gathered(own), strict=True)
        return GpuCosts(
            name=torch.cuda.get_device_name(),
            number=len(peaks),
            peak_mb=max(peaks),
            kilojoules=round(sum(millijoules) / 1e6, 3),
        )

    def _millijoules(self) -> int:
        """Return the energy that the GPU has taken since its driver was loaded."""
        return int(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.gpu))


def meter(device: str) -> Meter | None:
    """Return a meter of this process's GPU; None on other devices, without NVML, and for GPUs that count no energy
    (before Volta)."""
    if device != "cuda":
        return None
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        return Meter(nvml)
    except nvml.NVMLError:
        return None
