"""Each benchmark runs small, prints its contenders, and exits with its verdict on their speed and agreement."""

import bench_features
import bench_generation
import bench_llm_scoring
import bench_prompt4nr
import bench_tuned_lm
import pytest
from fresh_process import measure

from tests.llm.tiny_llm import tiny_llm
from tests.models.tiny_bert import tiny_bert

pytestmark = pytest.mark.numeric


def test_features(cache, monkeypatch, bench_prints):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    arguments = ["--texts", "8", "--rounds", "1"]
    bench_prints(bench_features.main, arguments, "### 8 distinct texts of demo", *bench_features.DESCRIPTIONS)


def test_generation(bench_prints, monkeypatch):
    bench = bench_generation
    small = {"VOCABULARY": 300, "BATCH": 2, "MEMORY_LENGTHS": (8, 12), "BEAMS": 6, "measure_in_fresh_process": measure}
    for name, value in small.items():
        monkeypatch.setattr(bench, name, value)
    words = (*bench.DESCRIPTIONS.values(), "3 of 3 sequences", "### tiny, bf16, 130 items in 3 digits")
    bench_prints(bench.main, ["--size", "tiny", "--items", "130", "--sequences", "3", "--rounds", "1"], *words)


def test_llm_scoring(bench_prints):
    bench, arguments = bench_llm_scoring, ["--size", "tiny", "--prompt", "20", "--candidates", "6", "--rounds", "1"]
    bench_prints(bench.main, arguments, *bench.DESCRIPTIONS.values(), "### tiny, bf16, 6 candidates after 20 tokens")


def test_prompt4nr(bench_prints, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_prompt4nr, "BATCH", 3)
    arguments = ["--backbone", str(tiny_bert(tmp_path)), "--titles", "3", "--examples", "4", "--rounds", "1"]
    words = (*bench_prompt4nr.DESCRIPTIONS.values(), "histories of at most 3 titles, candidates each: 1: training")
    bench_prints(bench_prompt4nr.main, arguments, *words)


def test_tuned_lm(bench_prints, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM4REC_CACHE", str(tmp_path / "cache"))
    backbone = f"model.backbone={tiny_llm(tmp_path / 'llm')}"
    arguments = ["--rounds", "1", "--batch", "2", "--batches", "1", "--questions", "next title", "--", backbone]
    words = (*bench_tuned_lm.DESCRIPTIONS.values(), "### next title, 2 rows a batch")
    bench_prints(bench_tuned_lm.main, arguments, *words)
