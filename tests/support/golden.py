"""Golden addresses, metrics and first steps of training, in tests/golden: refactoring must not change them.

A metric of a trained model is compared where the kernels are those that wrote it: elsewhere rounding may change ranks.

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
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llm4rec_cli.config import walk
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.run.identity import ReadWeights
from llm4rec_cli.run.job import Job
from llm4rec_cli.text import encoders as text_encoders
from llm4rec_cli.text import weights as text_weights
from llm4rec_cli.text.sentence import Recipe
from tests.support import ranges
from tests.support.driver import job_of

FOLDER = Path(__file__).parent.parent / "golden"
WRITES = os.environ.get("GOLDEN") == "write"
EXACT = 1e-6  # relative tolerance where nothing depends on kernels, and with the kernels that wrote the golden file
STEP = 1e-3  # relative tolerance of a first step's loss, of each gradient's norm and of the update
# Models that only count, draw at random, or round before they compare: they rank the same on every machine.
COUNTING = (
    *("random", "popularity", "causal_popularity", "next_id", "mean", "majority", "retrieval", "usual_feature"),
    *("liked_share", "like_means"),
)
DRAWN = "random"  # `model.start` of a P5 whose first weights are drawn, and not factors of a matrix
LEARNED_IDS = {"opq", "rq_kmeans", "rq_vae"}
LIBRARIES = ("torch", "transformers", "numpy", "scipy", "scikit-learn")
# Variables by which torch, oneDNN, MKL, OpenBLAS and NumPy choose kernels.
KERNEL_VARIABLES = (
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "OPENBLAS_CORETYPE"),
    *("NPY_DISABLE_CPU_FEATURES", "PERTURB"),
)


class Golden:
    """One golden file: compares values with it, or rewrites it under GOLDEN=write."""

    def __init__(self, name: str) -> None:
        self.path = FOLDER / f"{name}.json"
        self.values: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def hold(self, key: str, value: Any) -> None:
        """Assert that `value` equals the golden one."""
        assert value == self.recorded(key, value), key

    def recorded(self, key: str, value: Any) -> Any:
        """Return the golden value, which under GOLDEN=write becomes `value`."""
        if WRITES:
            self.values[key] = value
            lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(self.values.items())]
            self.path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        assert key in self.values, f"{self.path.name} has no {key}: GOLDEN=write … -k NAME records it"
        return self.values[key]


def kernels() -> str:
    """Return what the arithmetic of models depends on."""
    versions = [f"{name} {version(name)}" for name in LIBRARIES]
    chosen = [f"{name}={os.environ[name]}" for name in KERNEL_VARIABLES if name in os.environ]
    threads = f"threads {torch.get_num_threads()}"
    return ", ".join([*versions, torch.backends.cpu.get_cpu_capability(), threads, processor(), *chosen])


def processor() -> str:
    """Return vendor, family and model of the processor, and its vector extensions, by which libraries choose kernels.

    Where the system does not say them, return its architecture.
    """
    file = Path("/proc/cpuinfo")
    text = file.read_text() if file.exists() else ""
    facts = dict(re.findall(r"(?m)^(vendor_id|cpu family|model|flags)\s*: (.*)$", text))
    extensions = [flag for flag in facts.pop("flags", "").split() if flag.startswith(("avx", "amx", "fma"))]
    return " ".join([*facts.values(), *sorted(extensions)]) or platform.machine()


def hold_run(key: str, run: Mapping[str, Any], settings: Mapping[str, Any], step: Mapping[str, Any]) -> None:
    """Assert what a small run and the first step of its training must be on this machine.

    On every machine: the counts, the names of the metrics, each in its range, and the first step up to rounding. With
    the kernels that wrote the golden files, or for a model of COUNTING, also each metric.

    Args:
        key: of the golden values.
        run: metrics.json.
        settings: the run's `model` settings.
        step: what `first_step` recorded.
    """
    golden = Golden("metrics")
    golden_kernels = golden.recorded("kernels", kernels())
    golden_run = golden.recorded(key, {"counts": counts(run), "metrics": run["metrics"]})
    assert counts(run) == golden_run["counts"], key
    ranges.hold(run["metrics"])
    same_kernels = kernels() == golden_kernels
    if run["model"] in COUNTING or same_kernels:
        assert run["metrics"] == pytest.approx(golden_run["metrics"], rel=EXACT, abs=EXACT, nan_ok=True), key
    else:
        assert ranges.always_there(run["metrics"]) == ranges.always_there(golden_run["metrics"]), key
    if config_class(run["model"]).traits.trainable:
        hold_first_step(key, settings, step)


def hold_first_step(key: str, settings: Mapping[str, Any], step: Mapping[str, Any]) -> None:
    """Assert that the first step of a training is the golden one, unless rounding may move its weights or ids.

    A training that starts from factors of a matrix, or from ids that are learned from vectors, is compared under the
    kernels that wrote the golden files only: equal singular values leave the factors undetermined, and rounding moves
    items between clusters.
    """
    golden = Golden("first_steps").recorded(key, step)
    same_kernels = kernels() == Golden("metrics").recorded("kernels", kernels())
    learned = (settings.get("ids") or {}).get("kind") in LEARNED_IDS
    if same_kernels or (settings.get("start", DRAWN) == DRAWN and not learned):
        hold_step(step, golden, key)


def counts(run: Mapping[str, Any]) -> dict[str, int]:
    """Return the numbers of examples, parameters, trained parameters and training rows."""
    rows = run["training"]["rows"] if run["training"] else 0
    return {name: run[name] for name in ("n_examples", "n_parameters", "n_trainable")} | {"rows": rows}


def hold_step(step: Mapping[str, Any], golden: Mapping[str, Any], key: str) -> None:
    """Assert that a first step equals the golden one up to rounding.

    The norm of each gradient is compared relative to itself, and if it is small relative to a thousandth of the largest
    one: the gradients of some biases are 0 but for rounding.
    """
    assert step["loss"] == pytest.approx(golden["loss"], rel=STEP), key
    small = STEP * max(golden["gradients"])
    assert len(step["gradients"]) == len(golden["gradients"]), key
    for actual, expected in zip(step["gradients"], golden["gradients"], strict=True):
        assert actual == pytest.approx(expected, rel=STEP, abs=STEP * small), key
    assert step["update"] == pytest.approx(golden["update"], rel=STEP), key


@contextmanager
def stand_ins() -> Iterator[None]:
    """Identify pretrained weights by their names within the block, so that none need to be installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_weights, "locate_weights", lambda name, *_: (Path(name), f"weights of {name}"))
        patch.setattr(text_encoders, "recipe_of", lambda *_: Recipe())
        patch.setattr(text_weights, "backbone_identity", lambda name, *_: f"weights of {name}")
        importlib.import_module("llm4rec_cli.llm.local")  # before it can take the stand-in for good
        patch.setattr(text_weights, "locate_causal", lambda name, *_: SimpleNamespace(identity=f"weights of {name}"))
        yield


def addresses(*typed: str) -> dict[str, tuple[str, str]]:
    """Return model -> (hash, variant) of this experiment and its floors, with stand-ins for data and weights."""
    job = job_of(*typed)
    floors = [job.floor(name) for name in job.task.floors if name != job.model.name]
    dataset: Any = SimpleNamespace(fingerprint="data", manifest={"tokens": {"sha256": "tokens"}})
    with stand_ins():
        return {run.model.name: _address(run, dataset) for run in (job, *floors)}


def _address(job: Job, dataset: Any) -> tuple[str, str]:
    if any(getattr(job.model, name) for name in walk.settings_with(job.model, "agrees_in")):
        initial: Any = SimpleNamespace(as_initial=lambda seed: ReadWeights("weights", "variant"))
        job = replace(job, initial=initial)
    address = job.address(dataset)
    return address.config_hash, address.variant
