"""Prompt4NR as a user drives it: every template trained small, several processes, a shop, and what it refuses."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from llm4rec_cli.files import write_text
from tests.models.prompt4nr_data import TEMPLATES
from tests.models.tiny_bert import tiny_bert
from tests.support import forked
from tests.support.driver import read
from tests.support.small_log import small_log

SETTINGS = (
    *("model=prompt4nr", "dataset=mind-small-5k", "task.floors=[]", "model.titles=3", "model.max_length=128"),
    *("trainer.epochs=2", "trainer.batch_size=20", "trainer.valid_examples=5", "task.max_examples=20"),
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def small(tmp_path_factory, backbone):
    """Overrides that choose a click log of no size and a BERT of none."""
    return (*SETTINGS, f"dataset.raw_dir={small_log(tmp_path_factory.mktemp('log'))}", f"model.backbone={backbone}")


@pytest.mark.parametrize("template", ["discrete_relevance", "continuous_emotion", "hybrid_utility"])
def test_a_template_of_each_kind_runs_small(llm4rec, small, template):
    answer = llm4rec("train", *small, f"prompt=prompt4nr/{template}")
    assert answer.code == 0, answer.err
    metrics = answer.metrics
    assert (metrics["task"], metrics["protocol"], metrics["n_examples"]) == ("direct", "impression", 20)
    assert metrics["shown_as"] == f"prompt4nr {template}"
    assert 0 <= metrics["metrics"]["auc"] <= 1
    assert {"substitute-encoder", "subset"} <= set(metrics["labels"])
    lines = [json.loads(line) for line in (answer.folder / "train_log.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all({"positive_accuracy", "spread"} <= line.keys() for line in lines)


def test_a_sweep_over_templates_warms_one_backbone_up_and_gives_a_run_each(llm4rec, small, tmp_path):
    chosen = "prompt=prompt4nr/discrete_relevance,prompt4nr/hybrid_emotion"
    own = f"paths.cache={tmp_path / 'cache'}"
    answer = llm4rec("train", "-m", *small, chosen, own, "seed=0,1", "trainer.epochs=1")
    assert answer.code == 0, answer.err
    assert len(list((tmp_path / "outputs/prompt4nr/mind-small-5k/direct").glob("seed*"))) == 4
    assert len(list((tmp_path / "cache/backbones").glob("*.safetensors"))) == 1


def test_with_prompt_only_few_numbers_are_trained(llm4rec, small):
    answer = llm4rec("train", *small, "prompt=prompt4nr/continuous_action", "model.prompt_only=true")
    assert answer.metrics["n_trainable"] == 10 * 32
    assert answer.metrics["n_parameters"] > 20_000


def test_a_finished_run_answers_again(llm4rec, small):
    trained = llm4rec("train", *small, "trainer.epochs=1")
    evaluation = llm4rec("eval", *small, "trainer.epochs=1", "split=valid", "task.max_examples=3")
    assert trained.code == evaluation.code == 0, evaluation.err
    assert evaluation.metrics["n_examples"] == 3
    assert evaluation.metrics["trained_run"].startswith("prompt4nr/mind-small-5k/direct/seed0-")


def test_a_finished_run_needs_no_second_warm_up_where_the_cache_is_gone(llm4rec, small, tmp_path):
    few = ("model.warm_up.distillation.steps=1", "model.warm_up.distillation.histories=2", "trainer.epochs=1")
    cache = tmp_path / "cache"
    trained = llm4rec("train", *small, *few, f"paths.cache={cache}")
    assert len(list((cache / "backbones").iterdir())) == 2, "the warm-up's and the distillation's"
    shutil.rmtree(cache / "backbones")
    again = llm4rec("eval", f"run={trained.folder}", "force=true", f"paths.cache={cache}", "task.floors=[]")
    assert again.metrics["metrics"] == trained.metrics["metrics"]
    assert not (cache / "backbones").exists()


def test_a_shop_is_ranked_among_a_hundred(llm4rec, backbone):
    answer = llm4rec(
        *("train", "model=prompt4nr", "dataset=demo", "task=direct", f"model.backbone={backbone}", "model.titles=3"),
        *("dataset.train_users=0.02", "task.max_examples=5", "task.floors=[]", "trainer.epochs=1"),
        *("trainer.valid_examples=5", "model.max_length=128"),
    )
    assert answer.code == 0, answer.err
    assert (answer.metrics["protocol"], answer.metrics["n_examples"]) == ("uniform-100", 5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["listwise", "pointwise"])
def test_two_processes_find_what_one_does(llm4rec, small, tmp_path, cache, loss):
    exact = ["trainer.precision=fp32", f"model.loss={loss}", "trainer.epochs=1", "trainer.batch_size=8"]
    exact += ["task.max_examples=21", f"paths.cache={cache / 'llm4rec'}"]
    still = [*exact, "trainer.learning_rate=1e-9", "model.new_learning_rate=1e-9"]  # each process draws its own dropout
    printed = forked.run(forked.llm4rec, "train", *small, *still, "paths.outputs=two", cwd=tmp_path, n=2)
    one = llm4rec("train", *small, *still, "paths.outputs=one").folder
    two = tmp_path / printed.split("run folder: ")[1].splitlines()[0]
    assert two.relative_to(tmp_path / "two") == one.relative_to(tmp_path / "one")
    first, second = (pd.read_parquet(folder / "predictions.parquet") for folder in (one, two))
    assert first["impression_id"].tolist() == second["impression_id"].tolist()
    for own, other in zip(first["scores"], second["scores"], strict=True):
        assert own == pytest.approx(other, abs=1e-5)
    logs = [json.loads((folder / "train_log.jsonl").read_text()) for folder in (one, two)]
    assert logs[0]["valid"] == pytest.approx(logs[1]["valid"], abs=1e-6)
    assert read(one / "metrics.json")["metrics"] == pytest.approx(read(two / "metrics.json")["metrics"], abs=1e-6)


# --- templates of a user's own, and what is refused before anything is trained

MINE = """\
name: mine
text: "{user} {sep} Is {candidate} {A:2} {mask} news?"
positive: good
negative: bad
epochs: 1
"""


def test_a_template_of_ones_own_is_listed_linted_and_trained(llm4rec, small, tmp_path):
    write_text(tmp_path / "conf/prompt/prompt4nr/mine.yaml", f"# All my own.\n{MINE}")
    assert llm4rec("validate", "prompt/prompt4nr/mine").code == 0
    out = llm4rec("list", "prompts", "prompt4nr/mine").out
    assert all(word in out for word in ("All my own.", "A 2", "good / bad", "Is {candidate} {A:2} {mask} news?"))
    answer = llm4rec("train", *small, "prompt=prompt4nr/mine", "trainer.epochs=1")
    assert answer.code == 0, answer.err
    assert answer.metrics["shown_as"] == "prompt4nr mine"


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["model.prompt_only=true"], "template 'discrete_utility' has none"),
        (["prompt=prompt4nr/hybrid_utilit"], "hybrid_utilit"),
        (["task=sequential", "dataset=demo"], "cannot do task 'sequential'"),
        (["model.backbone=no/such/folder"], "cannot load model.backbone=no/such/folder"),
        (["model.max_length=513"], "model.max_length=513 exceeds"),
        (["model.max_length=60"], "leave no room for a history"),
    ],
)
def test_what_does_not_fit_is_refused(llm4rec, small, tmp_path, monkeypatch, overrides, problem):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    answer = llm4rec("train", *small, *overrides)
    assert answer.code == 2, answer.err
    assert problem in answer.err
    assert not list(tmp_path.glob("outputs/**/checkpoints"))


def test_templates_are_listed_with_their_virtual_tokens_and_answers(llm4rec):
    listed = llm4rec("list", "prompts", "--wide").out.splitlines()
    lines = {line.split()[0]: line for line in listed if line.split()}
    assert all(
        word in lines["hybrid_action"] for word in ("P 3, Q 3", "yes / no", " 5 ", "Does the user click the news?")
    )
    assert "P 3, Q 3, M 3" in lines["continuous_action"]
    assert set(TEMPLATES) <= set(lines)
