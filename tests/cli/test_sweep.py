"""`-m`: many jobs, one failing or not; again, and what is done is skipped."""

import re

from tests.driver import TINY

FLOORS = ("-m", "seed=0,1", "task.floors=[]", "task.max_examples=50")


def states(answer):
    """How each job ended, as the last table has it."""
    return re.findall(r"\b(done|skipped|failed)\b", answer.out.rsplit("sweep", 1)[1])


def test_every_combination_is_run_and_skipped_the_second_time(llm4rec, tmp_path):
    answer = llm4rec("train", *FLOORS, "model=random,popularity")
    assert answer.code == 0, answer.err
    assert states(answer) == ["done"] * 4
    runs = {(path.parts[-5], path.parts[-2].split("-")[0]) for path in tmp_path.rglob("metrics.json")}
    assert runs == {(model, seed) for model in ("random", "popularity") for seed in ("seed0", "seed1")}
    again = llm4rec("train", *FLOORS, "model=random,popularity")
    assert again.code == 0
    assert states(again) == ["skipped"] * 4


def test_one_failing_job_stops_no_other_and_the_sweep_exits_1(llm4rec, tmp_path):
    answer = llm4rec(
        "train",
        "-m",
        "model=popularity",
        "dataset=amazon2014-beauty,demo",
        f"dataset.raw_dir={tmp_path}",
        "task.floors=[]",
        "task.max_examples=50",
    )
    assert answer.code == 1
    assert states(answer) == ["failed", "done"]
    assert "sequential_data.txt" in answer.out


def test_a_diverging_model_is_a_failed_job_and_is_tried_again(llm4rec, tmp_path):
    asked = ("train", "-m", *TINY, "trainer.learning_rate=1e30,1e-3")
    answer = llm4rec(*asked)
    assert answer.code == 1
    assert states(answer) == ["failed", "done"]
    assert "diverged" in answer.out
    assert len(list(tmp_path.rglob("metrics.json"))) == 1
    assert states(llm4rec(*asked)) == ["failed", "skipped"]


def test_a_bug_in_one_job_stops_no_other(llm4rec, monkeypatch):
    from llm4rec_cli.models.random import model

    def broken(_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(model, "build", broken)
    answer = llm4rec("train", *FLOORS, "model=random,popularity")
    assert answer.code == 1
    assert sorted(states(answer)) == ["done", "done", "failed", "failed"]
    assert "ZeroDivisionError" in answer.out


def test_evaluations_can_be_swept(llm4rec, trained):
    answer = llm4rec(
        "eval", "-m", "task=direct", "task.candidates=uniform,popularity", "task.max_examples=50", "task.floors=[]"
    )
    assert answer.code == 0, answer.err
    assert states(answer) == ["done", "done"]


def test_outputs_of_a_sweep_may_have_any_name(llm4rec, tmp_path):
    answer = llm4rec("train", *FLOORS, "model=popularity", f"paths.outputs={tmp_path}/out (1)=~x")
    assert answer.code == 0, answer.err
    assert len(list((tmp_path / "out (1)=~x").glob("*/*/*/seed*/metrics.json"))) == 2


def test_a_wrong_override_ends_a_sweep_before_it_begins(llm4rec, tmp_path):
    answer = llm4rec("train", "-m", "model=unisrc,sasrec")
    assert answer.code == 2
    assert "did you mean 'unisrec'?" in answer.err
