"""What a run takes of its GPU, with stand-ins for torch's functions and NVML's."""

import sys
from types import SimpleNamespace

import pytest
import torch

from llm4rec_cli import processes
from llm4rec_cli.results.result import GpuCosts
from llm4rec_cli.run import gpu


class NVMLError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch):
    """A stand-in with one GPU, which has taken 5 kJ before, and takes 1.5 kJ more at each look."""
    joules = iter(range(5_000_000, 50_000_000, 1_500_000))
    module = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID={"GPU-1234": "handle"}.__getitem__,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: {"handle": next(joules)}[handle],
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: SimpleNamespace(uuid="1234"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 3 << 30)
    return module


def test_energy_is_counted_from_the_start_and_added_over_processes_and_the_largest_peak_is_kept(nvml, monkeypatch):
    meter = gpu.meter("cuda")
    assert meter.costs() == GpuCosts(name="a GPU", number=1, peak_mb=3072, kilojoules=1.5)
    assert meter.costs().kilojoules == 3.0
    monkeypatch.setattr(processes, "gathered", lambda own: [own, (4000, 250_000)])
    assert gpu.meter("cuda").costs() == GpuCosts(name="a GPU", number=2, peak_mb=4000, kilojoules=1.75)


def test_other_devices_a_gpu_that_counts_no_energy_and_a_machine_without_nvml_have_no_meter(nvml, monkeypatch):
    assert gpu.meter("cpu") is gpu.meter("mps") is None

    def unsupported(handle):
        raise NVMLError

    nvml.nvmlDeviceGetTotalEnergyConsumption = unsupported
    assert gpu.meter("cuda") is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu.meter("cuda") is None
