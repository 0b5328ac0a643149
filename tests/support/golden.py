"""Golden addresses and metrics, in tests/golden: refactoring must not change them.

If a change must move some, rewrite the files in a separate commit that says which, and raise RESULTS_VERSION if numbers
moved:

    GOLDEN=write python -m pytest tests/test_configs.py -n 0
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llm4rec_cli.config.registry import config_class
from llm4rec_cli.llm import weights as llm_weights
from llm4rec_cli.runs.identity import address_of
from llm4rec_cli.runs.spec import RunSpec
from llm4rec_cli.text import weights as text_weights
from tests.support.driver import spec_of

FOLDER = Path(__file__).parent.parent / "golden"
WRITES = os.environ.get("GOLDEN") == "write"
EXACT = 1e-6  # relative tolerance with the kernels that wrote the golden file
# Tolerance for models with weights under other kernels: 2 of 20 examples may change, and losses round differently.
APPROXIMATE = 0.1


class Golden:
    """One golden file: compares values with it, or rewrites it under GOLDEN=write."""

    def __init__(self, name: str) -> None:
        self.path = FOLDER / f"{name}.json"
        self.values: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def hold(self, key: str, value: Any, tolerance: float | None = None) -> None:
        """Assert that `value` equals the golden one, for numbers up to a tolerance if there is one."""
        if WRITES:
            self.values[key] = value
            lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(self.values.items())]
            self.path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
            return
        assert key in self.values, f"{self.path.name} has no {key}: GOLDEN=write … -k NAME records it"
        if tolerance is None:
            assert value == self.values[key], key
        else:
            assert value == pytest.approx(self.values[key], rel=tolerance, abs=tolerance, nan_ok=True), key


def kernels() -> str:
    """Return what the arithmetic of models depends on."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{torch.__version__} {capability} {torch.get_num_threads()} {processor()}"


def processor() -> str:
    """Return vendor, family and model of the processor, by which libraries choose kernels of one capability.

    Where the system does not say them, return its architecture.
    """
    file = Path("/proc/cpuinfo")
    facts = dict(re.findall(r"(?m)^(vendor_id|cpu family|model)\s*: (.*)$", file.read_text())) if file.exists() else {}
    return " ".join(facts.values()) or platform.machine()


def metrics(golden: Golden, key: str, run_metrics: Mapping[str, Any]) -> None:
    """Assert that a run's metrics equal the golden ones: exactly if nothing is trained or the kernels are the same."""
    if WRITES:
        golden.hold("kernels", kernels())
    exact = not config_class(run_metrics["model"]).trainable or kernels() == golden.values["kernels"]
    golden.hold(key, run_metrics["metrics"], EXACT if exact else APPROXIMATE)


@contextmanager
def stand_ins() -> Iterator[None]:
    """Identify pretrained weights by their names within the block, so that none need to be installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_weights, "locate_weights", lambda name, *_: (Path(name), f"weights of {name}"))
        patch.setattr(text_weights, "backbone_identity", lambda name: f"weights of {name}")
        importlib.import_module("llm4rec_cli.llm.local")  # before it can take the stand-in for good
        patch.setattr(llm_weights, "locate", lambda name: SimpleNamespace(identity=f"weights of {name}"))
        yield


def addresses(*typed: str) -> dict[str, tuple[str, str]]:
    """Return model -> (hash, variant) of this experiment and its floors, with stand-ins for data and weights."""
    spec = spec_of(*typed)
    floors = [spec.for_floor(name) for name in spec.task.floors if name != spec.model.name]
    dataset: Any = SimpleNamespace(fingerprint="data", manifest={"tokens": {"sha256": "tokens"}})
    with stand_ins():
        return {run.model.name: _address(run, dataset) for run in (spec, *floors)}


def _address(spec: RunSpec, dataset: Any) -> tuple[str, str]:
    initial_run = spec.model.init_setting and getattr(spec.model, spec.model.init_setting)
    address = address_of(spec, dataset, initial=("weights", "variant") if initial_run else None)
    return address.config_hash, address.variant
