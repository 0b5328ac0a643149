"""All contenders give candidates the same likelihoods."""

import bench_llm_scoring as bench
import numpy as np
import pytest
import torch

from llm4rec_cli.conformance.numeric import assert_close

pytestmark = pytest.mark.numeric


def test_candidates_are_as_long_as_titles():
    prompt, candidates = bench.random_tokens(900, 4_000, 300)
    lengths = [len(candidate) for candidate in candidates]
    assert len(prompt) == 900
    assert min(lengths) == 3
    assert np.mean(lengths) == pytest.approx(8, abs=0.5)


def test_all_contenders_give_the_same_likelihoods(monkeypatch):
    monkeypatch.setattr(bench, "BATCH", 3)
    shared = bench.Bench(bench.random_llama("tiny", "fp32"), *bench.random_tokens(40, 10, 300), n_reference=7)
    scores = {name: score(shared) for name, score in bench.CONTENDERS.items()}
    assert [len(values) for values in scores.values()] == [7, 10, 10]
    for values in scores.values():
        assert_close(values[:7], scores[bench.REFERENCE], rel=1e-4)
    assert_close(scores[bench.OURS], scores[bench.COPIED], rel=1e-4)
    assert scores[bench.OURS].std() > 1


def test_a_likelihood_is_summed_over_a_candidates_own_tokens():
    uniform = torch.zeros(2, 3, 4)
    assert bench.summed(uniform, [[1, 2, 3], [1]]).tolist() == pytest.approx([-3 * np.log(4), -np.log(4)])


def test_pairs_are_in_the_same_order():
    truth, scores = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-1.5, -2.0, -1.75])
    assert bench.same_order(truth, truth) == 1
    assert bench.same_order(scores, truth) == pytest.approx(2 / 3)


def test_a_run_prints_each_contender_and_exits_with_its_verdict(bench_prints):
    arguments = ["--size", "tiny", "--prompt", "20", "--candidates", "6", "--rounds", "1"]
    bench_prints(bench.main, arguments, *bench.DESCRIPTIONS.values(), "### tiny, bf16, 6 candidates after 20 tokens")
