"""Batches built by workers are those that the training process would build, also after a kill."""

import gc
import multiprocessing
import os
from dataclasses import replace

import pytest

from llm4rec_cli.run.loader import Loader, RowData, Share, Shares, tokenizers_may_be_forked
from tests.run.test_fit import (
    BATCH,
    CONFIG,
    N_ROWS,
    STEPS_AN_EPOCH,
    Points,
    Regression,
    assert_same_end,
    killed,
    trained,
)

pytestmark = pytest.mark.numeric

WORKERS = replace(CONFIG, workers=2)


@pytest.fixture(autouse=True)
def no_process_is_left(monkeypatch):
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)  # torch waits so long for each worker
    before = {*multiprocessing.active_children()}  # joblib keeps those of an earlier test
    yield
    gc.collect()  # what an exception refers to
    assert {*multiprocessing.active_children()} <= before


class Noting(Points):
    """Rows that note who built a batch, and what each process has of it."""

    shares = None

    def batch(self, epoch, indices):
        return {**super().batch(epoch, indices), "built": (os.getpid(), epoch, self.shares, indices)}


def test_workers_build_each_batch_of_every_epoch_once_and_in_order():
    loader = Loader(RowData(Noting()), Shares(N_ROWS, BATCH, seed=0), workers=2)
    builders = set()
    for epoch in (0, 1, 5):
        loader.set_epoch(epoch)
        built = [batch["built"] for (batch,) in loader]
        expected = [batch.tolist() for batch in Shares(N_ROWS, BATCH, seed=0).batches(epoch)]
        assert [indices for *_, indices in built] == expected
        assert [shares for _, _, shares, _ in built] == [[batch] for batch in expected]
        assert {number for _, number, _, _ in built} == {epoch}
        builders |= {process for process, *_ in built}
    assert len(builders) == 2  # the same ones in all epochs
    assert os.getpid() not in builders


def test_workers_change_neither_weights_nor_log(tmp_path):
    assert_same_end(trained(tmp_path / "workers", config=WORKERS), trained(tmp_path / "alone"))


@pytest.mark.parametrize(("before", "after"), [(2, 0), (0, 2)])
def test_a_run_killed_with_workers_ends_as_one_never_killed_without(before, after, tmp_path):
    class Killed(Regression):
        def forward(self, x, y):
            if len(self.losses) == STEPS_AN_EPOCH + 1:  # while workers build the batches that follow
                raise KeyboardInterrupt
            return super().forward(x, y)

    killed(tmp_path / "killed", config=replace(CONFIG, workers=before), model=Killed)
    resumed = trained(tmp_path / "killed", range(2, 7), config=replace(CONFIG, workers=after))
    assert_same_end(resumed, trained(tmp_path / "whole"))


def test_an_error_in_a_worker_ends_training(tmp_path):
    class Broken(Points):
        def batch(self, epoch, indices):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError, match="worker process"):
        trained(tmp_path, config=WORKERS, rows=Broken())


def test_micro_batches_are_of_about_equal_size_and_cover_a_share_in_order():
    rows = Noting()
    shares = [[5], [9, 4, 1, 0, 7]]
    parts = RowData(rows, micro_batch_size=3).__getitems__(Share(epoch=2, of_all=shares, rank=1, counts=True))
    assert [part["built"][1:] for part in parts] == [(2, shares, [9, 4, 1]), (2, shares, [0, 7])]
    (whole,) = RowData(rows, micro_batch_size=5).__getitems__(Share(0, shares, 1, counts=False))
    assert whole["built"][3] == [9, 4, 1, 0, 7]
    assert whole["counts"] is False


@pytest.mark.parametrize("decided", [None, "true"])
def test_tokenizers_are_told_of_forks_unless_the_user_has_decided(decided, monkeypatch):
    name = "TOKENIZERS_PARALLELISM"
    monkeypatch.delenv(name) if decided is None else monkeypatch.setenv(name, decided)
    with tokenizers_may_be_forked():
        assert os.environ[name] == (decided or "false")
    assert os.environ.get(name) == decided
