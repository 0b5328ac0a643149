"""Addresses and metrics as they are: a change of structure moves none of them.

Where a change must move some, write them anew in a commit of its own that says which, and raise RESULTS_VERSION where
numbers moved:

    GOLDEN=write python -m pytest tests/test_configs.py -n 0
"""

from __future__ import annotations

import json
import os
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
SAME = 1e-6  # relative, where the kernels are those of the golden file
# Of models with weights, elsewhere: of 20 examples two may be answered otherwise, and losses are rounded otherwise.
ALIKE = 0.1


class Golden:
    """One golden file: holds what is given to what it says, or takes it as what it shall say."""

    def __init__(self, name: str) -> None:
        self.path = FOLDER / f"{name}.json"
        self.values: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def hold(self, key: str, value: Any, tolerance: float | None = None) -> None:
        """Asserts that `value` is the golden one; numbers within a tolerance, if one is given."""
        if WRITES:
            self.values[key] = value
            lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(self.values.items())]
            self.path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        elif tolerance is None:
            assert value == self.values[key], key
        else:
            assert value == pytest.approx(self.values[key], rel=tolerance, abs=tolerance, nan_ok=True), key


def kernels() -> str:
    """What the arithmetic of models depends on."""
    return f"{torch.__version__} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}"


def metrics(golden: Golden, key: str, found: Mapping[str, Any]) -> None:
    """Holds the metrics of a run to the golden ones: exactly where nothing is trained or the kernels are the same."""
    if WRITES:
        golden.hold("kernels", kernels())
    exact = not config_class(found["model"]).trainable or kernels() == golden.values["kernels"]
    golden.hold(key, found["metrics"], SAME if exact else ALIKE)


@contextmanager
def stand_ins() -> Iterator[None]:
    """While the block lasts, weights are known by their names: none need be at hand."""
    with pytest.MonkeyPatch.context() as patch:
        named = lambda name, *_: (Path(name), f"weights of {name}")  # noqa: E731
        patch.setattr(text_weights, "locate_weights", named)
        patch.setattr(text_weights, "backbone_identity", lambda name: f"weights of {name}")
        patch.setattr(llm_weights, "locate", lambda name: SimpleNamespace(identity=f"weights of {name}"))
        yield


def addresses(*typed: str) -> dict[str, tuple[str, str]]:
    """The hash and the variant of this experiment and of each of its floors, on stand-ins for data and weights."""
    spec = spec_of(*typed)
    floors = [spec.of_floor(name) for name in spec.task.floors if name != spec.model.name]
    dataset: Any = SimpleNamespace(fingerprint="data", manifest={"tokens": {"sha256": "tokens"}})
    with stand_ins():
        return {one.model.name: _address(one, dataset) for one in (spec, *floors)}


def _address(spec: RunSpec, dataset: Any) -> tuple[str, str]:
    begins = spec.model.initial and getattr(spec.model, spec.model.initial)
    where = address_of(spec, dataset, initial=("weights", "variant") if begins else None)
    return where.config_hash, where.variant
