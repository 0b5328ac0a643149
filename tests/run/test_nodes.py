"""Jobs of a cluster, here on one machine: two nodes that share a training, and a launcher's job that is killed."""

import os
import signal
import socket
import time

import pytest
import torch.distributed.run

from llm4rec_cli import sweep
from llm4rec_cli.run import checkpoints
from tests.support import forked
from tests.support.driver import TINY, read
from tests.support.extras import needs

EXACT = ["model.dropout=0", "model.attention_dropout=0", "trainer.precision=fp32", "task.floors=[]"]


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def node(typed, endpoint):
    groups = ["--nnodes=2", "--nproc_per_node=1", "--rdzv_id=1", "--rdzv_backend=c10d", f"--rdzv_endpoint={endpoint}"]
    torch.distributed.run.main([*groups, "-m", "llm4rec_cli", *typed])


@pytest.mark.slow
def test_two_nodes_share_a_training_and_end_with_the_metrics_of_one(llm4rec, tmp_path, cache):
    typed = ["train", "model=sasrec", *TINY, *EXACT, "device=cpu", f"paths.cache={cache / 'llm4rec'}"]
    endpoint = f"127.0.0.1:{free_port()}"
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    two = tmp_path / "two"
    nodes = [forked.start(node, [*typed, f"paths.outputs={two}"], endpoint, cwd=folder)[0] for folder in folders]
    for process in nodes:
        process.join()
    errors = [(folder / forked.ERRORS.format(0)).read_text() for folder in folders]
    assert [process.exitcode for process in nodes] == [0, 0], errors
    one = llm4rec(*typed, "paths.outputs=one")
    (metrics,) = two.rglob("metrics.json")
    assert metrics.parent.relative_to(two) == one.folder.relative_to(tmp_path / "one")
    assert read(metrics)["metrics"] == pytest.approx(one.metrics["metrics"], abs=1e-3)


def submit(*typed):
    os.setsid()
    return forked.llm4rec("train", "-m", "hydra/launcher=submitit_local", *typed)


@needs("hydra-submitit-launcher")
@pytest.mark.slow
def test_a_job_of_submitit_that_is_killed_is_resumed_by_the_same_command(tmp_path, cache):
    typed = ["model=sasrec", *TINY, "trainer.epochs=20", "trainer.keep=last", f"paths.cache={cache / 'llm4rec'}"]
    (process,) = forked.start(submit, *typed, cwd=tmp_path)
    while not any(tmp_path.rglob(f"checkpoint-*/{checkpoints.MANIFEST}")):  # only a whole one is resumed
        assert process.is_alive()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    forked.run(submit, *typed, cwd=tmp_path)
    assert "resuming at step" in "".join(path.read_text() for path in tmp_path.rglob("run.log"))
    assert len([*tmp_path.glob("outputs/sasrec/demo/*/seed*/metrics.json")]) == 1


def test_each_process_of_a_sweep_keeps_a_gpu_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(sweep.tempfile, "gettempdir", lambda: str(tmp_path))
    chosen = []
    with monkeypatch.context() as patch:
        for _ in range(4):  # as in four processes: each holds its own lock
            patch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
            patch.delenv(sweep.KEEPS_GPU, raising=False)
            for _ in range(2):
                sweep.keep_one_gpu(7)
                chosen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        patch.delenv(sweep.KEEPS_GPU)
    assert chosen == ["3", "3", "5", "5", "3", "3", "5", "5"], "more processes than GPUs share them evenly"
    sweep.KEPT_LOCKS.close()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "a process that ends leaves no lock"


def test_one_gpu_is_not_shared_out(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.delenv(sweep.KEEPS_GPU, raising=False)
    sweep.keep_one_gpu(7)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert sweep.KEEPS_GPU not in os.environ
