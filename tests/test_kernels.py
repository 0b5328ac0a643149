"""Libraries choose kernels by what the CPU can do: those of older CPUs that can be selected here give right results.

docs/develop/tests.md lists the places where a library asks, and what cannot be selected.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from threadpoolctl import threadpool_info

ROOT = Path(__file__).parents[1]
CPUINFO = Path("/proc/cpuinfo")
FLAGS = {"any", *CPUINFO.read_text().split()} if CPUINFO.exists() else {"any"}
LINES = [line.split() for line in (ROOT / "scripts/kernels.txt").read_text().splitlines() if not line.startswith("#")]
SELECTABLE = {flag: dict(pair.split("=") for pair in pairs) for flag, *pairs in LINES if flag in FLAGS}
OLDER = list(SELECTABLE)[:-1] or list(SELECTABLE)  # the last is this CPU's own
FEW_BITS = "test_frozen_weights_of_few_bits_are_rounded_and_the_adapter_reloads_to_equal_scores"
# Products of every library, softmax and attention, text and tables, weights of few bits, ranks.
CHECKS = (
    *("tests/test_kernels.py::test_the_selected_kernels_are_used", "tests/models/test_layers.py"),
    *("tests/test_arithmetic.py::test_a_product_by_onednn_is_exact", "tests/models/test_losses.py"),
    *("tests/llm/test_attention.py", "tests/text/test_vectors.py", "tests/data/test_store.py"),
    *("tests/evaluation/test_ranking.py", "tests/zoo/models/test_tuned_lm_model.py::" + FEW_BITS),
)


@pytest.mark.parametrize("flag", OLDER)
def test_results_are_right_under_the_kernels_of_older_cpus(flag):
    options = ["-q", "-n", "0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *CHECKS],
        cwd=ROOT,
        env={**os.environ, **SELECTABLE[flag], "KERNELS": flag},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.skipif("KERNELS" not in os.environ, reason="run in the processes of this file, which select kernels")
def test_the_selected_kernels_are_used():
    selected = SELECTABLE[os.environ["KERNELS"]]
    capability = torch.backends.cpu.get_cpu_capability().lower()
    assert capability == selected.get("ATEN_CPU_CAPABILITY", capability)
    if platform.machine() == "x86_64":
        blas = {library["architecture"] for library in threadpool_info() if library["internal_api"] == "openblas"}
        assert "OPENBLAS_CORETYPE" not in selected or blas == {selected["OPENBLAS_CORETYPE"]}
        level = pa.runtime_info().simd_level
        assert level == selected.get("ARROW_USER_SIMD_LEVEL", level).lower()
