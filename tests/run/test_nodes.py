"""Jobs of a cluster, here on one machine: two nodes that share a training, and a launcher's jobs that are killed."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from llm4rec_cli import processes
from llm4rec_cli.run import checkpoints
from tests.support.driver import TINY, read

EXACT = ["model.dropout=0", "model.attention_dropout=0", "trainer.precision=fp32", "task.floors=[]"]


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.mark.slow
def test_two_nodes_share_a_training_and_end_with_the_metrics_of_one(tmp_path, cache):
    typed = ["model=sasrec", *TINY, *EXACT, "device=cpu", f"paths.cache={cache / 'llm4rec'}"]
    endpoint = f"127.0.0.1:{free_port()}"
    groups = ["--nnodes=2", "--nproc_per_node=1", "--rdzv_id=1", "--rdzv_backend=c10d", f"--rdzv_endpoint={endpoint}"]
    launcher = [sys.executable, "-m", "torch.distributed.run", *groups, "-m", "llm4rec_cli", "train"]
    nodes = [
        subprocess.Popen([*launcher, *typed, "paths.outputs=two"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [node.communicate()[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    alone = [sys.executable, "-m", "llm4rec_cli", "train", *typed, "paths.outputs=one"]
    subprocess.run(alone, cwd=tmp_path, capture_output=True, check=True)
    (two,), (one,) = ([*(tmp_path / name).rglob("metrics.json")] for name in ("two", "one"))
    assert two.relative_to(tmp_path / "two") == one.relative_to(tmp_path / "one")
    assert read(two)["metrics"] == pytest.approx(read(one)["metrics"], abs=1e-3)


@pytest.mark.slow
def test_jobs_of_submitit_that_are_killed_are_resumed_by_the_same_command(tmp_path, cache):
    more = ["model=sasrec", *TINY, "trainer.epochs=30", "trainer.keep=last", f"paths.cache={cache / 'llm4rec'}"]
    command = [sys.executable, "-m", "llm4rec_cli", "train", "-m", "hydra/launcher=submitit_local", *more, "seed=0,1"]
    sweep = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL)
    while not any(tmp_path.rglob(f"checkpoint-*/{checkpoints.MANIFEST}")):  # only a whole one is resumed
        assert sweep.poll() is None
        time.sleep(0.05)
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.wait()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "resuming at step" in done.stderr + "".join(path.read_text() for path in tmp_path.rglob("run.log"))
    assert len([*tmp_path.glob("outputs/sasrec/demo/*/seed*/metrics.json")]) == 2


@pytest.mark.parametrize(("visible", "expected"), [("3,5", ["3", "5", "3"]), ("7", ["7"] * 3)])
def test_a_process_of_a_launcher_has_the_gpu_of_its_first_job(visible, expected, monkeypatch):
    chosen = []
    for job in range(3):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.delenv(processes.KEEPS_GPU, raising=False)
        processes.keep_one_gpu(job)
        chosen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        processes.keep_one_gpu(job + 1)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == chosen[-1]
    monkeypatch.delenv(processes.KEEPS_GPU, raising=False)
    assert chosen == expected
