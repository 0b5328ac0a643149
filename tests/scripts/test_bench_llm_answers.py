"""Both contenders give the same answers, and the table separates reading from writing."""

import bench_llm_answers as bench
import pytest
from bench_common import Timing
from bench_llm_scoring import random_llama

from tests.support.numeric import assert_close

pytestmark = pytest.mark.numeric


def test_prompts_are_padded_on_the_left():
    tokens, mask = bench.random_prompts([4, 2], 300)
    assert mask.tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    assert ((tokens >= 3) == mask.bool()).all()


def test_both_start_their_answers_with_the_same_logits():
    model = random_llama("tiny", "fp32")
    tokens, mask = bench.random_prompts([20, 13, 18], 300)
    theirs, ours = (bench.first_logits(model, name, tokens, mask, 3) for name in (bench.REFERENCE, bench.OURS))
    assert theirs.shape == (3, 300)
    assert_close(ours, theirs, rel=1e-4)


def test_rows_separate_reading_from_writing():
    read = {bench.REFERENCE: Timing(1, 1, 1), bench.OURS: Timing(2, 2, 2)}
    whole = {bench.REFERENCE: Timing(0.5, 0.4, 0.6), bench.OURS: Timing(1, 1, 1)}
    theirs, ours = bench.rows(read, whole, n_prompts=2, n=5)
    assert theirs["prompts read/s: median (min–max)"] == "1.00 (1.00–1.00)"
    assert theirs["ms per further token of all"] == "500"  # 2 of 4 seconds are reading
    assert theirs["answers/s: median (min–max)"] == "0.500 (0.400–0.600)"
    assert (ours["ms per further token of all"], ours["speed-up"]) == ("250", "2.00")


def test_it_runs(capsys):
    bench.main(["--size", "tiny", "--prompt", "40", "--tokens", "4", "--rounds", "1", "--precisions", "fp32"])
    printed = capsys.readouterr().out
    assert "logits differ by 0.0" in printed and bench.OURS in printed
