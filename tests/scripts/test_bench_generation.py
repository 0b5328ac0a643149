"""The benchmark of generation runs small, prints its contenders, and exits with its verdict on speed and memory."""

import bench_generation as bench
import pytest
from fresh_process import measure

pytestmark = pytest.mark.numeric


def test_generation(bench_prints, monkeypatch):
    small = {"VOCABULARY": 300, "BATCH": 2, "MEMORY_LENGTHS": (8, 12), "BEAMS": 6, "measure_in_fresh_process": measure}
    for name, value in small.items():
        monkeypatch.setattr(bench, name, value)
    words = (*bench.DESCRIPTIONS.values(), "times as fast as transformers", "### tiny, bf16, 130 items in 3 digits")
    bench_prints(bench.main, ["--size", "tiny", "--items", "130", "--sequences", "3", "--rounds", "1"], *words)
