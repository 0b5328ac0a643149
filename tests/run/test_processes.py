"""Several processes, as torchrun (in test_nodes.py) starts them: one run folder, and the numbers of one process."""

import json
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from llm4rec_cli import processes
from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.run.loader import Shares
from tests.run.gradients import BATCH_SIZES, SETTINGS, keep_all
from tests.support import forked
from tests.support.driver import read

pytestmark = pytest.mark.numeric

EXACT = ["model.dropout=0", "trainer.precision=fp32"]  # dropout is drawn by each process for its own share


@pytest.fixture
def as_process(monkeypatch):
    def become(rank, world_size):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world_size))

    return become


@pytest.mark.parametrize(("n", "world_size"), [(10, 1), (10, 2), (11, 3), (2, 3), (0, 2)])
def test_shares_cover_all_once_and_in_order(n, world_size, as_process):
    parts = []
    for rank in range(world_size):
        as_process(rank, world_size)
        parts.append(list(range(n))[processes.share(n)])
    assert [i for part in parts for i in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_processes_share_each_batch_and_an_idle_one_keeps_step(as_process):
    steps = []
    for rank in range(2):
        as_process(rank, 2)
        shares = Shares(n_rows=5, batch_size=4, seed=0)
        shares.epoch = 3
        steps.append(list(shares))
    as_process(0, 1)
    alone = Shares(n_rows=5, batch_size=4, seed=0)
    alone.epoch = 3
    for first, second, whole in zip(*steps, alone, strict=True):
        assert first.of_all == second.of_all == [first.rows, second.rows]
        counted = [row for share in (first, second) for row in share.rows if share.counts]
        assert counted == whole.rows
    assert [share.counts for share in steps[0]] == [True, False]  # of one row the second process has it
    assert len(steps[0][-1].rows) == 1


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """still(n): what n processes find of gradients and log, training each setting without moving it."""
    folder = tmp_path_factory.mktemp("still")

    @cache
    def train(n):
        forked.run(keep_all, folder / str(n), cwd=folder, n=n)
        return folder / str(n)

    return train


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_three_processes_have_the_gradients_log_and_scores_of_one_with_the_whole_batch(still, setting, batch_size):
    one, several = (still(n) / setting / str(batch_size) for n in (1, 3))
    alone, together = load_file(one / "gradients"), load_file(several / "gradients")
    assert alone.keys() == together.keys()
    assert len({name.split(".")[0] for name in alone}) >= 4  # two epochs of two batches, the last smaller
    for name, gradient in alone.items():
        assert_close(together[name], gradient, rel=1e-5, msg=name)
    assert any(gradient.abs().max() > 1e-3 for gradient in alone.values())

    lines, others = ([json.loads(line) for line in (folder / "train_log.jsonl").open()] for folder in (one, several))
    assert len(lines) == len(others) == 2
    for line, other in zip(lines, others, strict=True):
        assert line.pop("loss") == pytest.approx(other.pop("loss"), rel=1e-4)  # as the Trainer rounds it
        assert line == pytest.approx(other, rel=1e-5)
        assert ("loss/item/films" in line) == ("pre-trained" in setting)

    scores = load_file(one / "scores")["scores"]  # of a model that adapts all items, each process some of them
    assert scores.std() > 0
    assert_close(load_file(several / "scores")["scores"], scores, rel=1e-6)


def leave_a_wrapped_model_behind():
    """In a cycle of references, as the Trainer leaves it: only a collection of garbage frees it."""
    with processes.process_group("cpu"):
        ring = [nn.parallel.DistributedDataParallel(nn.Linear(2, 2))]
        ring.append(ring)
        processes.gathered(ring[0](torch.ones(1, 2)).sum().backward())
        del ring
    names = [thread.read_text().strip() for thread in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in names if "gloo" in name], names


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="names of threads are read from /proc")
def test_no_thread_of_the_connection_is_left_to_drop_tensors_while_python_ends(tmp_path):
    """Such a thread would take the interpreter's lock too late: "terminate called without an active exception"."""
    forked.run(leave_a_wrapped_model_behind, cwd=tmp_path, n=2)


@pytest.mark.slow
def test_two_processes_write_one_run_and_rank_as_one(llm4rec, tmp_path, cache):
    """Trained in two processes; then the run that one process trained is evaluated by two."""
    tiny = ["model=sasrec", "model.hidden_size=16", "model.inner_size=16", "model.layers=1", *EXACT]
    tiny += ["trainer.epochs=1", "task.max_examples=101", "task.floors=[popularity]"]
    tiny.append(f"paths.cache={cache / 'llm4rec'}")
    out = forked.run(forked.llm4rec, "train", *tiny, "paths.outputs=two", cwd=tmp_path, n=2)
    alone = llm4rec("train", *tiny, "paths.outputs=one")
    assert "run folder:" not in (tmp_path / forked.OUT.format(1)).read_text()
    two = tmp_path / out.split("run folder: ")[1].splitlines()[0]
    assert two.relative_to(tmp_path / "two") == alone.folder.relative_to(tmp_path / "one")
    assert read(two / "environment.json")["processes"] == 2
    lines = [json.loads((folder / "train_log.jsonl").read_text()) for folder in (two, alone.folder)]
    assert lines[0]["loss"] == pytest.approx(lines[1]["loss"], rel=1e-5)
    assert {path.name for path in two.iterdir()} == {path.name for path in alone.folder.iterdir()}

    overrides = ["eval", "model=sasrec", "task=direct", "task.max_examples=101", "task.floors=[]"]
    overrides += [f"run={alone.folder}", "paths.outputs=one", f"paths.cache={cache / 'llm4rec'}"]
    forked.run(forked.llm4rec, *overrides, cwd=tmp_path, n=2)
    (folder,) = (tmp_path / "one/sasrec/demo/direct").glob("seed0-*")
    sharded, ranked = read(folder / "metrics.json"), pd.read_parquet(folder / "predictions.parquet")
    whole = llm4rec(*overrides, "force=true").metrics
    assert sharded["metrics"] == whole["metrics"]
    pd.testing.assert_frame_equal(ranked, pd.read_parquet(folder / "predictions.parquet"))
