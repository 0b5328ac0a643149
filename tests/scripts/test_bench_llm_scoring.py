"""All contenders give candidates the same likelihoods, and FLOP are counted correctly."""

import bench_common
import bench_llm_scoring as bench
import numpy as np
import pytest
import torch
from bench_common import flops_per_unit

from tests.support.numeric import assert_close

pytestmark = pytest.mark.numeric


def small_bench(n_prompt=40, candidates=None, n_reference=7, precision="fp32", batch=3):
    prompt, random_candidates = bench.random_tokens(n_prompt, 10, 300)
    return bench.Bench(
        bench.random_llama("tiny", precision), prompt, candidates or random_candidates, n_reference, batch
    )


def test_candidates_are_as_long_as_titles():
    prompt, candidates = bench.random_tokens(900, 4_000, 300)
    lengths = [len(candidate) for candidate in candidates]
    assert len(prompt) == 900
    assert min(lengths) == 3
    assert np.mean(lengths) == pytest.approx(8, abs=0.5)


def test_all_contenders_give_the_same_likelihoods():
    shared = small_bench()
    scores = {name: score(shared) for name, score in bench.CONTENDERS.items()}
    assert [len(values) for values in scores.values()] == [7, 7, 10, 10]
    for values in scores.values():
        assert_close(values[:7], scores[bench.REFERENCE], rel=1e-4)
    assert_close(scores[bench.OURS], scores[bench.COPIED], rel=1e-4)
    assert scores[bench.OURS].std() > 1


def test_a_likelihood_is_summed_over_a_candidates_own_tokens():
    uniform = torch.zeros(2, 3, 4)
    assert bench.summed(uniform, [[1, 2, 3], [1]]).tolist() == pytest.approx([-3 * np.log(4), -np.log(4)])


@pytest.mark.parametrize("name", bench.CONTENDERS)
def test_needed_operations_are_below_those_that_run(name):
    shared = small_bench()
    lengths = [len(candidate) for candidate in shared.candidates]
    needed = bench.needed_flops(shared.model.config, 40, lengths)
    assert needed < flops_per_unit(lambda: len(bench.CONTENDERS[name](shared)))


def test_needed_operations_are_those_that_run_where_little_is_masked():
    shared = small_bench(n_prompt=2, candidates=[list(range(3, 7))], n_reference=1)
    needed = bench.needed_flops(shared.model.config, 2, [4])
    executed = flops_per_unit(lambda: len(bench.ours(shared)))
    assert needed < executed < 1.05 * needed


def test_agreement_is_over_the_candidates_that_the_reference_scores():
    truth = torch.tensor([-1.0, -2.0, -3.0])
    scores = {bench.REFERENCE: truth, bench.OURS: torch.tensor([-1.5, -2.0, -1.75, -50.0])}
    theirs, ours = bench.agreement_rows(scores, truth)
    assert theirs["same order of pairs"] == "100.0 %"
    assert ours["largest difference from reference"] == "1.250000"
    assert ours["same order of pairs"] == "66.7 %"


def test_a_run_prints_each_contender_and_exits_with_its_verdict(capsys, monkeypatch):
    monkeypatch.setattr(bench_common, "machine_rate", lambda precision: 50.0)
    small = ["--size", "tiny", "--prompt", "20", "--candidates", "6", "--reference-candidates", "3"]
    small += ["--rounds", "1", "--markdown"]
    status = bench.main(small)
    printed = capsys.readouterr().out
    for words in (*bench.DESCRIPTIONS.values(), "### tiny, bf16, 6 candidates after 20 tokens"):
        assert words in printed
    assert status == ("FAIL: " in printed)
