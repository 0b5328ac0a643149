import bench_evaluation as bench
import numpy as np
import pytest
from bench_common import Measurement

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.tasks.ranking import rank

SMALL = ["model.hidden_size=8", "model.inner_size=12", "model.max_length=6"]


@pytest.mark.parametrize("mask_history", [False, True])
@pytest.mark.usefixtures("demo_cache")
def test_scoring_all_users_at_once_gives_the_same_ranks(mask_history):
    _, split, model = bench.set_up(SMALL)
    examples = split.examples(SplitName.test)
    n_better, n_tied, top_items = bench.rank_at_once(model, examples, mask_history, 5)
    ours = rank(model, examples, mask_history, 5, 16)
    assert np.array_equal(n_better, ours.n_better)
    assert np.array_equal(n_tied, ours.n_tied)
    assert np.array_equal(top_items, ours.top_items)


def test_a_run_prints_each_contender(bench_prints, monkeypatch):
    monkeypatch.setattr(bench, "measure_in_fresh_process", lambda *_: Measurement(1, 10, None))
    words = ("sasrec on demo: ", bench.AT_ONCE, bench.RANK, bench.EVALUATE, "sasrec: memory")
    bench_prints(bench, ["task.bootstrap=10", *SMALL], *words)
