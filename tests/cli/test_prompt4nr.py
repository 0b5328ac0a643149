"""Prompt4NR as a user drives it: every template trained small, several processes, a shop, and what it refuses."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from llm4rec_cli.files import write_text
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


def test_a_template_runs_small(llm4rec, small):
    answer = llm4rec("train", *small, "prompt=prompt4nr/hybrid_utility")
    assert answer.code == 0, answer.err
    metrics = answer.metrics
    assert (metrics["task"], metrics["protocol"], metrics["n_examples"]) == ("direct", "impression", 20)
    assert metrics["shown_as"] == "prompt4nr hybrid_utility"
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


def test_a_finished_run_needs_no_second_warm_up_where_the_cache_is_gone(llm4rec, small, tmp_path):
    cache = tmp_path / "cache"
    trained = llm4rec("train", *small, "trainer.epochs=1", f"paths.cache={cache}")
    assert len(list((cache / "backbones").iterdir())) == 1
    shutil.rmtree(cache / "backbones")
    again = llm4rec("eval", f"run={trained.folder}", "force=true", f"paths.cache={cache}", "task.floors=[]")
    assert again.metrics["metrics"] == trained.metrics["metrics"]
    assert not (cache / "backbones").exists()


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
