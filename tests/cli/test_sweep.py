"""`-m`: sweeps of jobs, with and without failures; finished runs are skipped when repeated."""

import os
import re
import shlex
from pathlib import Path

import pytest

from llm4rec_cli import sweep
from llm4rec_cli.config.registry import config_class
from tests.support import forked
from tests.support.closed_network import sitecustomize
from tests.support.driver import TINY, read
from tests.support.extras import needs

FLOORS = ("-m", "seed=0,1", "task.floors=[]", "task.max_examples=50")


def states(answer):
    """How each job ended, as the last table has it."""
    return re.findall(r"(?<!probably )\b(done|skipped|failed)\b", answer.out.rsplit("sweep", 1)[1])


def test_every_combination_is_run_recorded_as_typed_and_skipped_the_second_time(llm4rec, tmp_path):
    outputs, address = f"{tmp_path}/out (1)=~x", "llm.base_url=http://127.0.0.1:1/v1"
    command = ("train", *FLOORS, "model=random,popularity", f"paths.outputs={outputs}", address)
    answer = llm4rec(*command)
    assert answer.code == 0, answer.err
    assert states(answer) == ["done", "done", "done", "skipped"]  # a rule has one run, whatever the seed
    runs = {(path.parts[-5], path.parts[-2].split("-")[0]): read(path) for path in tmp_path.rglob("metrics.json")}
    assert runs.keys() == {("random", "seed0"), ("random", "seed1"), ("popularity", "seed0")}
    assert all(address in metrics["overrides"] for metrics in runs.values())
    again = llm4rec(*command)
    assert again.code == 0
    assert states(again) == ["skipped"] * 4


def test_settings_that_the_default_model_does_not_have_go_to_each_model_swept(llm4rec, tmp_path):
    of_both = ("model.embedding_size=4", "trainer.epochs=1", "task.max_examples=50", "task.floors=[]")
    answer = llm4rec("train", "-m", "model=mf,mlp", "task=rating", *of_both)
    assert answer.code == 0, answer.err
    runs = {path.parts[-5]: read(path)["overrides"] for path in tmp_path.rglob("metrics.json")}
    assert {model for model, typed in runs.items() if "model.embedding_size=4" in typed} == {"mf", "mlp"}


def test_a_job_that_fails_stops_no_other_and_is_named_before_the_first_where_its_settings_say_so(llm4rec):
    answer = llm4rec("train", "-m", "model=popularity", "dataset.user_core=100000,5", *FLOORS[2:])
    assert (answer.code, states(answer)) == (1, ["failed", "done"])
    assert "is empty after the 100000/5-core" in " ".join(answer.out.split())
    answer = llm4rec("train", "-m", "model=popularity,mean", "task=sequential", "dataset.user_core=5,-1", *FLOORS[2:])
    assert states(answer) == ["skipped", "failed", "failed", "failed"]
    warnings, jobs = answer.err.split("popularity: dataset=demo", 1)
    assert "2 of 4 jobs will fail, such as model=popularity task=sequential dataset.user_core=-1" in warnings
    assert "1 of 4 jobs will fail, such as model=mean task=sequential dataset.user_core=5" in warnings
    assert "user_core=-1 is out of range" in jobs


def test_a_bug_in_one_job_or_its_check_stops_no_other(llm4rec, monkeypatch):
    from llm4rec_cli.models.baselines import random as model

    def broken(*_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(model, "build", broken)
    answer = llm4rec("train", *FLOORS, "model=random,popularity")
    assert answer.code == 1
    assert sorted(states(answer)) == ["done", "failed", "failed", "skipped"]
    assert "ZeroDivisionError" in answer.out
    monkeypatch.setattr(config_class("random"), "problems", broken)
    answer = llm4rec("train", "-m", "model=random,next_id", *FLOORS[2:])
    assert states(answer) == ["failed", "done"]
    assert "ZeroDivisionError" in answer.out


def test_a_sweep_ends_with_one_table_of_all_jobs_each_floor_once_and_the_next_command(llm4rec, tmp_path):
    typed = ("task.floors=[popularity]", "task.max_examples=50")
    answer = llm4rec("train", "-m", "model=random,transition_text", "seed=0,1", *typed)
    table = answer.out.rsplit("all jobs:", 1)[1]
    rows = [
        line.replace(" (floor)", "").split()[:2]
        for line in table.splitlines()
        if line.startswith(("popularity", "random", "transition"))
    ]
    assert rows == [["popularity", "1"], ["random", "2"], ["transition_text", "1"]]
    assert answer.out.count("ndcg@10 95 %") == 1, "the table of each job is left out"
    command = shlex.split(answer.out.splitlines()[-1].partition(": ")[2])
    assert command[:2] == ["llm4rec", "compare"] and command[4] == "--seeds"
    assert llm4rec(*command[1:]).code == 0


@needs("hydra-joblib-launcher")
@pytest.mark.slow
def test_parallel_jobs_give_the_same_runs_as_sequential_ones(llm4rec, tmp_path, monkeypatch):
    """In processes that joblib keeps for a second sweep: a failure survives, runs are the same, and are skipped again.

    No process opens a connection beyond this machine.
    """
    paths = [str(Path(sitecustomize.__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv(sitecustomize.LOG, str(tmp_path / "attempts"))
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    swept = llm4rec("train", "-m", *joblib, *TINY, "model.heads=2,3", "trainer.report_to=[]")
    assert (swept.code, states(swept)) == (1, ["done", "failed"]), swept.err
    (run,) = tmp_path.glob("outputs/*/demo/sequential/seed0-*/metrics.json")
    assert states(llm4rec("train", "-m", *TINY, "model.heads=2")) == ["skipped"]
    alone = llm4rec("train", *TINY, "model.heads=2", "paths.outputs=alone")
    assert alone.metrics["metrics"] == read(run)["metrics"]
    again = llm4rec("train", "-m", *joblib, "model=random", "seed=2,3", *TINY[-2:])
    assert states(again) == ["done"] * 2, again.err
    assert not (tmp_path / "attempts").exists()


@needs("hydra-submitit-launcher")
@pytest.mark.slow
def test_jobs_of_submitit_fail_alone(llm4rec):
    floor = ("model=popularity", "dataset.user_core=5,100000", *TINY[-2:])
    swept = llm4rec("train", "-m", "hydra/launcher=submitit_local", *floor)
    assert (swept.code, states(swept)) == (1, ["done", "failed"]), swept.err


@needs("hydra-joblib-launcher")
def test_parallel_jobs_use_one_thread_each(llm4rec, monkeypatch):
    seen = []
    monkeypatch.setattr(sweep, "_summarise", lambda _: seen.append(os.environ.get("OMP_NUM_THREADS")) or 0)
    for launcher in (["hydra/launcher=joblib"], ["hydra/launcher=basic"]):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        llm4rec("train", "-m", "model=popularity", "dataset.user_core=100000", *launcher)
    assert seen == ["1", None]


def test_a_launcher_that_is_killed_still_leaves_the_table_of_what_was_done(llm4rec, monkeypatch):
    done = sweep._run_job

    def killed(*arguments):
        done(*arguments)
        raise MemoryError  # as a launcher does whose worker is gone

    monkeypatch.setattr(sweep, "_run_job", killed)
    answer = llm4rec("train", *FLOORS, "model=random")
    assert answer.code == 1
    assert states(answer) == ["done", "done"]
    assert "the sweep ended early: a job's process was lost" in answer.err
    assert "finished runs are skipped" in answer.err


def into_a_closed_pipe(*typed):
    out, end = os.pipe()
    os.close(out)  # every write fails
    os.dup2(end, 1)
    return forked.llm4rec(*typed)


def test_a_reader_of_the_output_that_ends_does_not_end_the_sweep(tmp_path, cache):
    swept = ("model=random,popularity", "task.floors=[]", "task.max_examples=50", f"paths.cache={cache / 'llm4rec'}")
    forked.run(into_a_closed_pipe, "train", "-m", *swept, cwd=tmp_path)
    assert {path.parts[-5] for path in tmp_path.rglob("metrics.json")} == {"random", "popularity"}
    assert "Traceback" not in (tmp_path / forked.ERRORS.format(0)).read_text()
