"""The benchmark of generation runs small, and its contenders generate the same."""

import bench_generation as bench
import pytest
import torch

pytestmark = pytest.mark.numeric


def test_generation(capsys, monkeypatch):
    for name, value in {"VOCABULARY": 300, "BATCH": 2, "BEAMS": 6}.items():
        monkeypatch.setattr(bench, name, value)
    status = bench.main(["--size", "tiny", "--items", "130", "--sequences", "3", "--rounds", "1"])
    printed = capsys.readouterr().out
    assert [word for word in (*bench.CONTENDERS, "### tiny, bf16, 130 items in 3 digits") if word not in printed] == []
    ratios = [float(line.split()[3]) for line in printed.splitlines() if "times as fast as transformers" in line]
    assert len(ratios) == 2 and status == (min(ratios) < bench.FASTER)


def test_our_search_generates_what_transformers_does():
    t5, codes = bench.random_t5("tiny", "fp32"), bench.codes_of(130)
    made = bench.Bench(t5, codes, bench.random_sources(3), 6)
    assert torch.equal(bench.beam(made)[:, 0], bench.reference(made)[:, 0])
