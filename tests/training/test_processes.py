"""Several processes, as torchrun starts them: one run folder, and the numbers of one process."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

from llm4rec_cli import processes
from llm4rec_cli.training.fit import _Shares
from tests.driver import read
from tests.numeric import assert_close
from tests.training.gradients import BATCH_SIZES, SETTINGS

pytestmark = pytest.mark.numeric

ROOT = Path(__file__).parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
EXACT = ["model.dropout=0", "trainer.precision=fp32"]  # dropout is drawn by each process for its own share


def python(*arguments, cwd=ROOT):
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


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
        shares = _Shares(n_rows=5, batch_size=4, seed=0)
        shares.epoch = 3
        steps.append(list(shares))
    as_process(0, 1)
    alone = _Shares(n_rows=5, batch_size=4, seed=0)
    alone.epoch = 3
    for first, second, whole in zip(*steps, alone, strict=True):
        counted = [row for share in (first, second) for row in share.rows if share.counts]
        assert counted == whole.rows
    assert [share.counts for share in steps[0]] == [True, False]  # of one row the second process has it
    assert len(steps[0][-1].rows) == 1


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """still(n): what n processes find of gradients and log, training each setting without moving it."""
    folder = tmp_path_factory.mktemp("still")

    @cache
    def run(n):
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", n] if n > 1 else []
        python(*torchrun, "-m", "tests.training.gradients", folder / str(n))
        return folder / str(n)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_gradients_of_several_processes_are_those_of_one_with_the_whole_batch(still, n, setting, batch_size):
    one, several = (load_file(still(m) / setting / str(batch_size) / "gradients") for m in (1, n))
    assert one.keys() == several.keys()
    assert len({name.split(".")[0] for name in one}) >= 4  # two epochs of two batches, the last smaller
    for name, gradient in one.items():
        assert_close(several[name], gradient, rel=1e-5, msg=name)
    assert any(gradient.abs().max() > 1e-3 for gradient in one.values())


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_several_processes_log_what_one_does(still, n, setting, batch_size):
    one, several = (
        [json.loads(line) for line in (still(m) / setting / str(batch_size) / "train_log.jsonl").open()] for m in (1, n)
    )
    assert len(one) == len(several) == 2
    for line, other in zip(one, several, strict=True):
        assert line.pop("loss") == pytest.approx(other.pop("loss"), rel=1e-4)  # as the Trainer rounds it
        assert line == pytest.approx(other, rel=1e-5)
        assert ("loss/item/films" in line) == ("pre-trained" in setting)


@pytest.mark.slow
def test_two_processes_write_one_run_and_rank_as_one(llm4rec, tmp_path, cache):
    """Trained in two processes; then the run that one process trained is evaluated by two."""
    tiny = ["model=sasrec", "model.hidden_size=16", "model.inner_size=16", "model.layers=1", *EXACT]
    tiny += ["trainer.epochs=1", "task.max_examples=101", "task.floors=[popularity]"]
    tiny.append(f"paths.cache={cache / 'llm4rec'}")
    done = python(*TORCHRUN, "-m", "llm4rec_cli", "train", *tiny, "paths.outputs=two", cwd=tmp_path)
    alone = llm4rec("train", *tiny, "paths.outputs=one")
    assert done.stdout.count("run folder:") == 1
    two = tmp_path / done.stdout.split("run folder: ")[1].splitlines()[0]
    assert two.relative_to(tmp_path / "two") == alone.folder.relative_to(tmp_path / "one")
    assert read(two / "environment.json")["processes"] == 2
    lines = [json.loads((folder / "train_log.jsonl").read_text()) for folder in (two, alone.folder)]
    assert lines[0]["loss"] == pytest.approx(lines[1]["loss"], rel=1e-5)
    assert {path.name for path in two.iterdir()} == {path.name for path in alone.folder.iterdir()}

    asked = ["eval", "model=sasrec", "task=direct", "task.max_examples=101", "task.floors=[]"]
    asked += [f"run={alone.folder}", "paths.outputs=one", f"paths.cache={cache / 'llm4rec'}"]
    python(*TORCHRUN, "-m", "llm4rec_cli", *asked, cwd=tmp_path)
    (folder,) = (tmp_path / "one/sasrec/demo/direct").glob("seed0-*")
    sharded, ranked = read(folder / "metrics.json"), pd.read_parquet(folder / "predictions.parquet")
    whole = llm4rec(*asked, "force=true").metrics
    assert sharded["metrics"] == whole["metrics"]
    pd.testing.assert_frame_equal(ranked, pd.read_parquet(folder / "predictions.parquet"))
