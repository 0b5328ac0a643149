"""The benchmark's contenders give candidates the same likelihoods, and its operations are counted right."""

import bench_llm_scoring as bench
import numpy as np
import pytest
import torch
from machine import Timing, executed

from tests.numeric import assert_close

pytestmark = pytest.mark.numeric


def made(n_prompt=40, candidates=None, anew=7, precision="fp32", batch=3):
    prompt, drawn = bench.drawn(n_prompt, 10, 300)
    return bench.Bench(bench.model("tiny", precision), prompt, candidates or drawn, anew, batch)


def test_candidates_are_as_long_as_titles():
    prompt, candidates = bench.drawn(900, 4_000, 300)
    lengths = [len(candidate) for candidate in candidates]
    assert len(prompt) == 900
    assert min(lengths) == 3
    assert np.mean(lengths) == pytest.approx(8, abs=0.5)


def test_all_contenders_give_the_same_likelihoods():
    shared = made()
    scores = {name: judge(shared) for name, judge in bench.CONTENDERS.items()}
    assert [len(found) for found in scores.values()] == [7, 7, 10, 10]
    for found in scores.values():
        assert_close(found[:7], scores[bench.REFERENCE], rel=1e-4)
    assert_close(scores[bench.OURS], scores[bench.COPIED], rel=1e-4)
    assert scores[bench.OURS].std() > 1


def test_a_likelihood_is_summed_over_a_candidates_own_tokens():
    uniform = torch.zeros(2, 3, 4)
    assert bench.summed(uniform, [[1, 2, 3], [1]]).tolist() == pytest.approx([-3 * np.log(4), -np.log(4)])


@pytest.mark.parametrize("name", bench.CONTENDERS)
def test_needed_operations_are_below_those_that_run(name):
    shared = made()
    lengths = [len(candidate) for candidate in shared.candidates]
    needed = bench.needed_flops(shared.model.config, 40, lengths)
    assert needed < executed(lambda: len(bench.CONTENDERS[name](shared)))


def test_needed_operations_are_those_that_run_where_little_is_masked():
    shared = made(n_prompt=2, candidates=[list(range(3, 7))], anew=1)
    needed = bench.needed_flops(shared.model.config, 2, [4])
    found = executed(lambda: len(bench.ours(shared)))
    assert needed < found < 1.05 * needed


def test_rows_relate_speed_to_the_reference_and_the_machine():
    timings = {bench.REFERENCE: Timing(2, 1, 3), bench.OURS: Timing(20, 19, 21)}
    rows = bench.speed_rows(timings, {bench.REFERENCE: 50e9, bench.OURS: 5e9}, needed=4e9, rate=200)
    assert [row["times"] for row in rows] == ["1.00", "10.0"]
    assert [row["GFLOP/s"] for row in rows] == ["100", "100"]
    assert [row["of the machine's"] for row in rows] == ["50 %", "50 %"]


def test_agreement_is_over_what_the_reference_judges():
    truth = torch.tensor([-1.0, -2.0, -3.0])
    scores = {bench.REFERENCE: truth, bench.OURS: torch.tensor([-1.5, -2.0, -1.75, -50.0])}
    theirs, ours = bench.agreement_rows(scores, truth)
    assert theirs["same order of pairs"] == "100.0 %"
    assert ours["worst difference from the reference"] == "1.250000"
    assert ours["same order of pairs"] == "66.7 %"


def test_a_run_prints_each_contender_and_ends_by_its_verdict(capsys, monkeypatch):
    monkeypatch.setattr(bench, "measured_rate", lambda dtype: 50.0)
    small = ["--size", "tiny", "--prompt", "20", "--candidates", "6", "--anew", "3", "--rounds", "1", "--markdown"]
    status = bench.main(small)
    printed = capsys.readouterr().out
    for words in (*bench.MEANING.values(), "### tiny, bf16, 6 candidates behind 20 tokens"):
        assert words in printed
    assert status == ("DOES NOT HOLD: " in printed)
