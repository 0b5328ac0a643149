from dataclasses import replace

import bench_evaluation as bench
import numpy as np
import pytest
import torch
from fresh_process import Measurement
from torch.utils.flop_counter import FlopCounterMode

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.tasks.ranking import rank

SMALL = ["model.hidden_size=8", "model.inner_size=12", "model.max_length=6"]
SIZE = 60, 200


@pytest.fixture
def sasrec():
    job = bench.evaluation_job("sasrec", None, None, SMALL)
    split = bench.load_split(job, SIZE)
    return split, bench.random_model(job, split)


@pytest.mark.parametrize("mask_history", [False, True])
def test_scoring_all_users_at_once_gives_the_same_ranks(sasrec, mask_history):
    split, model = sasrec
    examples = split.examples(SplitName.test)
    n_better, n_tied, top_items = bench.rank_at_once(model, examples, mask_history, 5)
    ours = rank(model, examples, mask_history, 5, 16)
    assert np.array_equal(n_better, ours.n_better)
    assert np.array_equal(n_tied, ours.n_tied)
    assert np.array_equal(top_items, ours.top_items)


@pytest.mark.parametrize(("name", "layers", "length"), [("sasrec", 1, 5), ("sasrec", 3, 1), ("unisrec", 1, 4)])
def test_needed_operations_are_those_that_run_where_nothing_is_padded(name, layers, length):
    job = bench.evaluation_job(name, None, None, [*SMALL, f"model.layers={layers}"])
    split = leave_one_out(tiny_dataset([[1] * 9] * 7, n_items=50))
    model, examples = bench.random_model(job, split), split.examples(SplitName.test)
    examples = replace(examples, start=examples.end - length)
    with FlopCounterMode(display=False) as counter:
        model.score(examples)
    text_size = bench.TEXT_SIZE if name == "unisrec" else 0
    needed = bench.needed_flops(job.model, examples.history_length, split.n_items, text_size)
    attention = layers * 4 * 8 * length  # not counted by torch on a CPU
    assert counter.get_total_flops() / len(examples) + attention == pytest.approx(needed, rel=0.02)  # biases


def test_a_causal_pass_needs_half_of_the_square():
    model = bench.evaluation_job("sasrec", None, None, [*SMALL, "model.layers=2"]).model
    short, long = (bench.needed_flops(model, np.array([n]), 0) for n in (1, 3))
    per_token = 8 * 8**2 + 4 * 8 * 12 + 4 * 8**2  # in the lower layer, and its key and value in the top one
    assert long - short == 2 * per_token + 4 * 8 * (6 - 1) + 4 * 8 * (3 - 1)


def test_a_run_on_synthetic_data_prints_each_contender(bench_prints, monkeypatch):
    monkeypatch.setattr(bench, "measure_in_fresh_process", lambda *_: Measurement(1, 300, 310))
    words = ("sasrec, 8-d", "unisrec, 8-d", "30 users, 100 items", bench.AT_ONCE, bench.RANK, bench.EVALUATE)
    bench_prints(bench.main, ["--synthetic", "30", "100", "--rounds", "1", "task.bootstrap=10", *SMALL], *words)


def test_a_share_of_the_users_can_be_set_up_alone():
    work = bench.set_up_memory(bench.RANK, 0.5, "sasrec", None, None, SMALL, SIZE)
    assert work() == 30


def test_models_are_random_and_the_same_for_one_seed():
    job = bench.evaluation_job("unisrec", None, None, SMALL)
    split = bench.load_split(job, SIZE)
    first, second = (bench.random_model(job, split) for _ in range(2))
    assert torch.equal(first.score(split.examples(SplitName.test)), second.score(split.examples(SplitName.test)))
