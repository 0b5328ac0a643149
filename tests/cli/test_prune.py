"""`prune`: deletes what was selected, and nothing in use or outside the folder."""

import builtins
import fcntl
import os
import shutil
import sys
from functools import partial

import pytest

from llm4rec_cli.commands import prune
from llm4rec_cli.files import write_json, write_text
from tests.results.finished_runs import metrics_json
from tests.support.driver import read

PRUNE_CACHE = ("prune", "cache", "--cache", "cache", "--yes")


@pytest.fixture
def run(tmp_path):
    """run(name, status, …): a run folder of sasrec on demo under tmp_path/outputs."""

    def write(name, status="failed", model="sasrec", days=0, labels=()):
        folder = tmp_path / "outputs" / model / "demo/sequential" / name
        write_json(folder / "metrics.json", metrics_json(dataset_fingerprint="f" * 64, labels=labels))
        write_json(folder / "status.json", {"status": status, "error": None})
        _age(folder / "status.json", days)
        return folder

    return write


@pytest.fixture
def cached(tmp_path):
    """cached(name, …): a file in an entry of tmp_path/cache, last used so many days ago."""

    def write(name, days=0):
        path = tmp_path / "cache" / name
        write_text(path, "0" * 1000)
        _age(path, days)
        return path

    return write


@pytest.fixture
def left(tmp_path):
    """left(): names of the runs that are left."""
    return lambda: {path.parent.name for path in tmp_path.glob("outputs/*/*/*/*/status.json")}


@pytest.fixture
def entries(tmp_path):
    """entries(): names of the entries that are left in the cache."""
    return lambda: {path.name for path in tmp_path.glob("cache/*/*")}


def _age(path, days):
    then = path.stat().st_mtime - days * 86400
    os.utime(path, (then, then))


# --- runs


@pytest.mark.parametrize(
    ("arguments", "stay"),
    [
        ([], {"seed0-a", "seed2-c"}),  # failed and killed ones go
        (["status=done"], {"seed1-b", "seed3-d", "seed4-e"}),
        (["seed=1", "--older-than", "1h", "status=failed"], {"seed0-a", "seed2-c", "seed3-d", "seed4-e"}),
        (["--older-than", "4w"], {"seed0-a", "seed1-b", "seed2-c", "seed4-e"}),
    ],
)
def test_status_filters_and_age_choose_what_goes(run, llm4rec, left, arguments, stay):
    run("seed0-a", "done")
    run("seed1-b", "failed", days=1)
    run("seed2-c", "done", model="p5")
    run("seed3-d", "failed", days=31)
    run("seed4-e", "running")
    assert llm4rec("prune", "runs", *arguments, "--yes").code == 0
    assert left() == stay


def test_on_a_terminal_it_asks_and_elsewhere_nothing_goes(run, llm4rec, left, monkeypatch):
    (run("seed0-a") / "weights").write_bytes(b"0" * 3_000_000)
    answer = llm4rec("prune", "runs")
    assert (answer.code, "sasrec/demo/sequential/seed0-a (failed)" in answer.out) == (2, True)
    assert "3.0 MB" in answer.out and "--yes" in answer.err and left() == {"seed0-a"}
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    for typed, stay in (("n", {"seed0-a"}), ("", {"seed0-a"}), ("y", set())):
        monkeypatch.setattr(builtins, "input", lambda *_, typed=typed: typed)
        assert llm4rec("prune", "runs").code == 0
        assert left() == stay


def test_a_run_that_a_process_holds_or_takes_up_or_finishes_while_prune_asks_stays(run, llm4rec, left, monkeypatch):
    folder = run("seed0-a", "running")
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert llm4rec("prune", "runs", "--yes").out == "nothing to delete\n"
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    held = []

    def taken_up():
        held.append((folder / ".lock").open("w"))
        fcntl.flock(held[0], fcntl.LOCK_EX)
        return True

    monkeypatch.setattr(prune, "_confirmed", taken_up)
    answer = llm4rec("prune", "runs")
    held[0].close()
    assert "in use by a process" in answer.err
    assert "freed 0 bytes" in answer.out
    monkeypatch.setattr(prune, "_confirmed", lambda: bool(run("seed0-a", "done")))
    assert "changed in the meantime" in llm4rec("prune", "runs").err
    assert left() == {"seed0-a"}
    gone = run("seed1-b")
    monkeypatch.setattr(prune, "_confirmed", lambda: not shutil.rmtree(gone))
    assert llm4rec("prune", "runs").code == 0, "gone by itself"


def test_what_cannot_be_read_as_a_run_stays_unless_it_is_named_and_links_are_never_followed(run, llm4rec, tmp_path):
    elsewhere = run("seed2-c").rename(tmp_path / "elsewhere")
    sequential = tmp_path / "outputs/sasrec/demo/sequential"
    (sequential / "seed2-c").symlink_to(elsewhere)
    (run("seed1-b") / "checkpoints").symlink_to(elsewhere)
    (tmp_path / "outputs/p5").symlink_to(tmp_path / "outputs/sasrec")
    run("seed0-a")
    (run("seed3-d") / "status.json").write_text("{")
    stay = [run("seedling"), sequential / "seed3-d", tmp_path / "outputs/sasrec/too_high/seed0-a/status.json"]
    write_json(stay[-1], {"status": "failed"})
    assert llm4rec("prune", "runs", "--yes").code == 0
    assert all(path.exists() for path in (*stay, elsewhere / "status.json"))
    assert not (sequential / "seed0-a").exists() and not (sequential / "seed1-b").exists()
    assert llm4rec("prune", "runs", "status=unreadable", "--yes").code == 0
    assert not (sequential / "seed3-d").exists()


def test_a_run_is_gone_at_once_even_if_prune_is_killed_which_the_next_one_ends(
    run, llm4rec, left, tmp_path, monkeypatch
):
    run("seed0-a")

    def killed(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        assert llm4rec("prune", "runs", "--yes").code == 130
    assert left() == set()
    assert "seed0-a" not in llm4rec("list", "runs").out
    assert [path for path in tmp_path.rglob("*") if path.is_file()] != []
    run("seed1-b")
    assert llm4rec("prune", "runs", "--yes").code == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "outputs/.pruned").exists()


# --- checkpoints


def test_a_finished_run_keeps_its_numbers_and_loses_its_weights(llm4rec, trained):
    before = {path.name for path in trained.iterdir()}
    metrics = read(trained / "metrics.json")
    assert "1 finished: add status=done" in llm4rec("prune", "runs", "model=sasrec", "--yes").out
    assert list(trained.rglob("*.safetensors"))
    assert llm4rec("prune", "runs", "--checkpoints", "--yes").code == 0
    assert not list(trained.rglob("*.safetensors"))
    assert {path.name for path in trained.iterdir()} == before
    assert read(trained / "metrics.json") == metrics
    refused = llm4rec("eval", "model=sasrec", "task=direct", f"run={trained}")
    assert refused.code == 1
    assert "force=true" in refused.err


def test_the_best_checkpoint_may_stay_and_still_be_evaluated_and_where_it_is_torn_the_others_stay(llm4rec, trained):
    keep_best = partial(llm4rec, "prune", "runs", "--checkpoints", "--keep-best", "--yes")
    (best,) = (trained / "checkpoints").glob("checkpoint-*")
    shutil.copytree(best, best.with_name("checkpoint-999"))
    assert keep_best().code == 0
    assert list((trained / "checkpoints").glob("checkpoint-*")) == [best]
    answer = llm4rec("eval", "task=direct", "task.floors=[]", f"run={trained}")
    assert answer.code == 0, answer.err
    shutil.copytree(best, best.with_name("checkpoint-999"))
    (best / "model.safetensors").write_bytes(b"torn")
    assert "kept: " in keep_best().err
    assert len(list((trained / "checkpoints").glob("checkpoint-*"))) == 2


# --- the cache


def test_datasets_and_features_go_and_raw_files_only_where_they_are_named(cached, llm4rec, entries, tmp_path):
    for name in ("datasets/demo-0123456789abcdef/items.arrow", "features/a.safetensors", "raw/mine/a.txt"):
        cached(name)
    cached("llm/answers")
    linked = cached("../mine/ratings.csv")
    (tmp_path / "cache/raw/linked").symlink_to(linked.parent)
    assert llm4rec(*PRUNE_CACHE).code == 0
    assert entries() == {"mine", "linked", "answers"}
    assert llm4rec(*PRUNE_CACHE, "raw").code == 0
    assert entries() == {"answers"} and linked.exists()


def test_age_goes_by_the_last_use_of_any_file_of_an_entry(cached, llm4rec, entries):
    cached("datasets/old-0123456789abcdef/items.arrow", days=31)
    cached("datasets/used-0123456789abcdef/items.arrow", days=31)
    cached("datasets/used-0123456789abcdef/users.arrow", days=1)
    cached("features/old.safetensors", days=31)
    cached("features/new.safetensors", days=29)
    assert llm4rec(*PRUNE_CACHE, "--older-than", "30d").code == 0
    assert entries() == {"used-0123456789abcdef", "new.safetensors"}


def test_unused_are_the_datasets_of_no_run_and_all_of_the_name_of_an_unfinished_or_shuffled_one_stay(
    run, cached, llm4rec, entries
):
    run("seed0-a", "done")
    for name in ("demo-ffffffffffffffff", "demo-0123456789abcdef", "other-0123456789abcdef"):
        cached(f"datasets/{name}/a")
    cached("features/a.safetensors")
    run("seed1-b")
    stay = {"demo-ffffffffffffffff", "demo-0123456789abcdef", "a.safetensors"}
    assert llm4rec(*PRUNE_CACHE, "--unused").code == 0
    assert entries() == stay
    llm4rec("prune", "runs", "--yes")
    run("seed0-a", "done", labels=["control-shuffle_ties"])
    assert llm4rec(*PRUNE_CACHE, "--unused").code == 0
    assert entries() == stay, "its ties may have been shuffled in that one"
    run("seed0-a", "done")
    assert llm4rec(*PRUNE_CACHE, "--unused").code == 0
    assert entries() == stay - {"demo-0123456789abcdef"}


def test_what_a_process_is_writing_stays_and_what_a_killed_one_left_goes(cached, llm4rec):
    writing, torn = cached("features/.a.x1y2.part"), cached("features/.b.x1y2.part")
    with (writing.with_name(".a.lock")).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert llm4rec(*PRUNE_CACHE).code == 0
    assert writing.exists()
    assert not torn.exists()
