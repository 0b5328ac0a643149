"""Trackers get the results of a run once, however often it was killed, and nothing is sent over the network."""

import json
import os
import socket
import sys
from types import SimpleNamespace

import pytest

from llm4rec_cli.run import trackers
from tests.results.finished_runs import run
from tests.support.closed_network.sitecustomize import close
from tests.support.driver import TINY
from tests.support.extras import needs

FLOOR = run(0.05, model="popularity")
RUN = run(0.1, intervals={"ndcg@10": [0.08, 0.12]}, labels=["subset", "synthetic"])


@pytest.fixture
def attempts(tmp_path, monkeypatch):
    """attempts() returns the hosts that this process has tried to reach since the network was closed to it."""
    log = tmp_path / "attempts"
    close(log, monkeypatch.setattr)
    return lambda: log.read_text().split() if log.exists() else []


def train(llm4rec, tracker):
    answer = llm4rec("train", *TINY[:-1], "task.floors=[popularity]", f"trainer.report_to=[{tracker}]")
    assert answer.code == 0, answer.err
    return answer


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


def test_a_connection_beyond_this_machine_is_refused_and_seen(attempts):
    with pytest.raises(OSError, match="closed"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OSError, match="closed"):
        socket.getaddrinfo("example.org", 80)
    assert attempts() == ["192.0.2.1", "example.org"]


@needs("tensorboard")
def test_tensorboard_has_losses_and_once_the_results(llm4rec, attempts):
    """Also if the run is killed after they were written, and resumes."""
    answer = train(llm4rec, "tensorboard")
    first = answer.metrics
    (answer.folder / "metrics.json").unlink()
    status = answer.folder / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"status": "running"}))
    assert train(llm4rec, "tensorboard").metrics["metrics"] == first["metrics"]
    logged = events(answer.folder)
    assert logged.Scalars("train/loss")
    (value,) = logged.Scalars("test/ndcg@10")
    assert value.value == pytest.approx(first["metrics"]["ndcg@10"])
    (table,) = logged.Tensors("results/text_summary")
    assert "popularity" in table.tensor_proto.string_val[0].decode()
    assert attempts() == []


@needs("tensorboard")
def test_the_environment_is_restored_and_without_a_tracker_nothing_is_written(tmp_path, monkeypatch):
    with trackers.opened([], tmp_path) as report:
        report([FLOOR, RUN])
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    with trackers.opened(["tensorboard"], tmp_path / "a/b/c/d") as report:
        report([FLOOR, RUN])
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "logs")
    assert "MLFLOW_DISABLE_TELEMETRY" not in os.environ
    assert len(list((tmp_path / "logs/a/b/c/d").glob("*.results"))) == 1


class Opened(SimpleNamespace):
    """A run of a fake tracker."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True


def test_wandb_gets_results_labels_and_table_in_the_same_run_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    runs = []

    def init(**settings):
        runs.append(Opened(settings=settings, summary={}, mode=os.environ["WANDB_MODE"]))
        return runs[-1]

    fake = SimpleNamespace(init=init, Table=lambda columns, rows: [columns, *rows])
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for _ in range(2):
        with trackers.opened(["wandb"], tmp_path) as report:
            report([FLOOR, RUN])
    first, second = runs
    assert first.mode == "offline"
    assert first.settings == second.settings
    assert first.summary == second.summary
    assert first.summary["test/ndcg@10"] == 0.1
    assert (first.summary["test/ndcg@10/low"], first.summary["test/ndcg@10/high"]) == (0.08, 0.12)
    assert [row[0] for row in first.summary["results"]] == ["model", "sasrec", "popularity (floor)"]
    assert first.tags == ("subset", "synthetic")
    assert first.closed


def test_mlflow_gets_results_labels_and_table_once(tmp_path, monkeypatch):
    tags, metrics, texts, opened = {}, [], [], []

    def start_run(run_id, run_name):
        opened.append(run_id)
        return Opened(info=SimpleNamespace(run_id="r1"), data=SimpleNamespace(tags=dict(tags)))

    fake = SimpleNamespace(
        start_run=start_run,
        log_metrics=metrics.append,
        log_text=lambda text, name: texts.append(text),
        set_tag=tags.__setitem__,
    )
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    for _ in range(2):
        with trackers.opened(["mlflow"], tmp_path) as report:
            report([FLOOR, RUN])
    assert opened == [None, "r1"]
    assert metrics == [
        {"test/ndcg_10": 0.1, "test/recall_10": 0.2, "test/ndcg_10/low": 0.08, "test/ndcg_10/high": 0.12}
    ]
    assert tags == {"labels": "subset, synthetic"}
    assert "| popularity (floor) |" in texts[0]
