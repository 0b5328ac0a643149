"""Both decoders name the same titles, and the table says what part of the time is for the prompts."""

import bench_constrained as bench
import pytest
from bench_common import Timing
from bench_llm_scoring import random_llama

pytestmark = pytest.mark.numeric

TITLES = [[3, 4, bench.END], [3, bench.END], [5, 6, 7, bench.END]]


def test_titles_are_different_and_end():
    titles = bench.random_titles(100, 10, 300)
    assert len({tuple(title) for title in titles}) == 100
    assert all(title.count(bench.END) == 1 and title[-1] == bench.END for title in titles)
    assert len({title[0] for title in titles}) < 51


def test_tokens_name_titles_and_begin_one():
    assert bench.named_by([3, bench.END, 5, 6], TITLES) == ([1], [5, 6])
    assert bench.named_by([5, 6, 7, bench.END], TITLES) == ([2], [])


def test_both_name_the_same_titles():
    model, titles = random_llama("tiny", "fp32"), bench.random_titles(12, 5, 300)
    prompts = [[7, 8, 9, 10], [11, 12], [13, 14, 15]]
    theirs, ours = (listed(model, prompts, titles, 4) for listed in bench.CONTENDERS.values())
    assert theirs == ours and all(len(set(named)) == 4 for named in ours)


def test_rows_have_the_part_of_the_prompts():
    timings = {bench.REFERENCE: Timing(1, 1, 1), bench.OURS: Timing(2, 2, 2)}
    theirs, ours = bench.rows(Timing(4, 4, 4), timings)
    assert theirs["of its time, prompts and one title"] == "25 %"
    assert (ours["of its time, prompts and one title"], ours["speed-up"]) == ("50 %", "2.00")


def test_it_runs(capsys):
    typed = ("--size", "tiny", "--prompt", "40", "--titles", "12", "--rounds", "1", "--precisions", "fp32")
    bench.main(typed)
    assert "100 % of the lists are the same" in capsys.readouterr().out
