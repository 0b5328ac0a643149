"""Puts the scripts' folder on the path, as when one of them is run; it is not a package."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))


@pytest.fixture
def demo_cache(cache, monkeypatch):
    """The cache that benchmarks read the demo from."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture
def bench_prints(capsys, demo_cache, monkeypatch):
    """bench_prints(bench, overrides, *words): run a benchmark with one round, which prints these words."""
    monkeypatch.setattr("bench_common.ROUNDS", 1)

    def check(bench, overrides, *words):
        bench.main(overrides)
        printed = capsys.readouterr().out
        assert [word for word in words if word not in printed] == []

    return check
