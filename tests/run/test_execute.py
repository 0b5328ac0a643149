"""When floors run: before a training on a CPU, and after it on an accelerator."""

import pytest

from llm4rec_cli.run import execute
from tests.support.driver import TINY, read


@pytest.mark.parametrize("waits", [False, True])
def test_floors_wait_for_training_on_an_accelerator(llm4rec, monkeypatch, waits):
    order = []
    for name in ("_fit", "run_floors"):
        done = getattr(execute, name)
        monkeypatch.setattr(execute, name, lambda *args, done=done, name=name: order.append(name) or done(*args))
    monkeypatch.setattr(execute, "_trains_first", lambda job: waits and job.model.traits.trainable)
    answer = llm4rec("train", *TINY[:-1], "task.floors=[popularity]")
    assert answer.code == 0, answer.err
    assert order == (["_fit", "run_floors"] if waits else ["run_floors", "_fit"])
    metrics = read(answer.folder / "metrics.json")
    phases = ["build", "train", "floors"] if waits else ["floors", "build", "train"]
    assert list(metrics["seconds"]) == ["prepare", *phases, "evaluate"]
    assert "popularity" in answer.out
    again = llm4rec("train", *TINY[:-1], "task.floors=[popularity]")
    assert "popularity" in again.out
