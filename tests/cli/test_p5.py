"""P5 through the command line: one training for all tasks, an evaluation of each, and refusals."""

from __future__ import annotations

import pandas as pd
import pytest

from llm4rec_cli.data.prepare import prepare
from tests.support.driver import Answer, call, job_of, read

# One small P5: two users of a hundred are trained on.
SMALL = ("model=p5", "dataset.train_users=0.02", "model.samples.sequential_candidates=0", "task.floors=[]")
SMALL += ("model.samples.direct_candidates=0", "trainer.epochs=1", "trainer.valid_examples=20", "task.max_examples=20")
TASKS = ("rating", "sequential", "direct", "explanation", "review_summary")


@pytest.fixture(scope="module")
def everything(tmp_path_factory, cache) -> Answer:
    """A finished training for all tasks."""
    answer = call("train", *SMALL, "task=all", cwd=tmp_path_factory.mktemp("p5"), cache=cache)
    assert answer.code == 0, answer.err
    return answer


def test_one_training_ends_with_a_table_of_each_task(everything):
    for task in TASKS:
        assert f"demo · {task} · test" in everything.out
        of_task = everything.out.split(f"demo · {task} · test")[1]
        metrics = read(everything.cwd / of_task.split("run folder: ")[1].splitlines()[0] / "metrics.json")
        assert metrics["trained_run"].startswith("p5/demo/all/seed0-")
        assert {"synthetic", "substitute-backbone", "few-users"} <= set(metrics["labels"])
    (trained,) = (everything.cwd / "outputs/p5/demo/all").glob("seed0-*")
    assert read(trained / "metrics.json")["metrics"]["loss"] > 0
    assert (trained / "item_index.json").exists()
    assert (trained / "tokenizer.json").exists()


def test_the_same_command_again_computes_nothing(everything, cache):
    again = call("train", *SMALL, "task=all", cwd=everything.cwd, cache=cache)
    assert again.code == 0, again.err
    assert "epoch 1" not in again.err
    reused = [line for line in again.err.splitlines() if "finished run found" in line and "p5/demo/" in line]
    assert len([line for line in reused if "p5/demo/all/" not in line]) == len(TASKS)


def test_it_is_asked_with_another_prompt_and_the_address_tells(everything, cache):
    answer = call("eval", *SMALL, "task=rating", "model.ask.rating=1-10", cwd=everything.cwd, cache=cache)
    assert answer.code == 0, answer.err
    usual = call("eval", *SMALL, "task=rating", cwd=everything.cwd, cache=cache)
    assert answer.folder != usual.folder
    assert answer.metrics["trained_run"].startswith("p5/demo/all/")


def test_inputs_of_the_asked_review_are_marked(everything, cache):
    for feature, is_oracle in (("of_review", True), ("of_item", False)):
        typed = ("task=explanation", "model.ask.explanation=3-9", f"model.feature={feature}")
        answer = call("eval", *SMALL, *typed, cwd=everything.cwd, cache=cache)
        assert ("oracle_input" in answer.metrics["labels"]) is is_oracle


def test_every_beam_is_an_item(everything, cache):
    answer = call("eval", *SMALL, "task=sequential", "model.beams=3", cwd=everything.cwd, cache=cache)
    assert answer.code == 0, answer.err
    demo = prepare(job_of("dataset=demo").config.dataset, cache / "llm4rec")
    tops = pd.read_parquet(answer.folder / "predictions.parquet")["top_items"]
    assert tops.map(len).eq(10).all()  # three of the search, and the ties below them
    assert {item for top in tops for item in top} <= {*demo.items["item_id"]}


def test_one_trained_for_a_single_task_answers_no_other(tmp_path, cache):
    single = call("train", *SMALL, "task=rating", cwd=tmp_path, cache=cache)
    assert single.code == 0, single.err
    assert "said/coverage" in single.metrics["metrics"]
    other = call("eval", *SMALL, "task=sequential", cwd=tmp_path, cache=cache)
    assert other.code == 1
    assert "no finished training run" in other.err
    named = call("eval", f"run={single.folder}", "task=sequential", cwd=tmp_path, cache=cache)
    assert named.code == 2
    assert "trained for task 'rating'" in named.err


def test_other_numbers_of_items_than_those_trained_with_are_refused(everything, cache, tmp_path):
    (trained,) = (everything.cwd / "outputs/p5/demo/all").glob("seed0-*")
    index = trained / "item_index.json"
    kept = index.read_text()
    try:
        index.write_text(kept.replace('"independent"', '"random"'))
        answer = call("eval", *SMALL, "task=rating", "model.ask.rating=1-7", cwd=everything.cwd, cache=cache)
    finally:
        index.write_text(kept)
    assert answer.code == 1
    assert "item_index.json" in answer.err and "do not fit it" in answer.err
