"""Items and users held out of training, through the command line: what is reported, shown, reused and refused."""

import csv
import io
import json

import pandas as pd
import pytest
from omegaconf import OmegaConf

from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.data.split import hold_out, leave_one_out
from tests.llm.tiny_llm import tiny_llm
from tests.support.driver import TINY, call, compose
from tests.support.small import QUICK, sizes

COLD = "dataset.cold_items=0.3"
FEW = "dataset.train_users=0.1"
LABELS = ("cold-items", "few-users")
NO_FLOORS = "task.floors=[]"
DEMO = ("task=sequential", "dataset=demo")
FITTED = [  # those that rank, but for two that read stored scores
    name
    for name in model_names()
    if name not in ("external", "ensemble") and "rank_catalogue" in config_class(name).traits.capabilities
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where the runs of this module lie."""
    return tmp_path_factory.mktemp("held_out")


@pytest.fixture(scope="module")
def run(home, cache):
    """run(*arguments): the command line in that folder."""

    def command(*arguments):
        answer = call(*arguments, cwd=home, cache=cache)
        assert answer.code == 0, answer.err
        return answer

    return command


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    return tiny_llm(tmp_path_factory.mktemp("llm"))


@pytest.fixture(scope="module")
def cold(run):
    """SASRec trained without some items, and a floor."""
    return run("train", *TINY, COLD, "task.floors=[popularity]")


@pytest.fixture(scope="module")
def few(run):
    """SASRec trained on some users."""
    return run("train", *TINY, FEW)


def apart(answer):
    """Each user's target, and whether it is cold."""
    rows = pd.read_parquet(answer.folder / "predictions.parquet")
    return {
        user: (target, is_cold) for user, target, is_cold in rows[["user_id", "target", "target_is_cold"]].to_numpy()
    }


@pytest.mark.parametrize("model", FITTED)
def test_every_model_is_asked_about_the_same_cold_targets(run, cache, chat_model, model):
    tiny = [f"model.backbone={chat_model}"] if model == "tuned_lm" else [f"llm.model={chat_model}"]
    answer = run("train", f"model={model}", *DEMO, *sizes(model), *QUICK, COLD, *tiny)
    metrics = answer.metrics
    dataset = prepare(OmegaConf.to_object(compose().dataset), cache / "llm4rec")
    split = hold_out(leave_one_out(dataset), 0.3, 1.0, seed=0)
    cold_ids = set(dataset.items["item_id"][split.cold])
    assert all(is_cold == (target in cold_ids) for target, is_cold in apart(answer).values())
    n = {group: means["n"] for group, means in metrics["breakdown"]["target_is_cold"].items()}
    assert n == {"cold": sum(is_cold for _, is_cold in apart(answer).values()), "warm": 20 - n["cold"]}
    assert "cold-items" in metrics["labels"]
    rows = pd.read_parquet(answer.folder / "predictions.parquet")
    assert (rows.loc[rows["target_is_cold"], "target_train_count"] == 0).all()


def test_popularity_ranks_no_cold_item_above_chance(run):
    metrics = run("train", "model=popularity", COLD, NO_FLOORS).metrics
    chance = metrics["breakdown"]["chance"]["cold"]
    for name in ("hr@1", "hr@10", "hr@50", "ndcg@10", "mrr", "auc"):
        assert metrics["metrics"][f"cold/{name}"] < chance[name]
    for name in ("hr@10", "hr@50", "ndcg@10", "mrr", "auc"):
        assert chance[name] < metrics["metrics"][f"warm/{name}"]


def test_few_users_are_trained_on_and_all_are_asked_about(few, cold):
    assert few.metrics["training"]["rows"] < cold.metrics["training"]["rows"] / 5
    assert few.metrics["n_examples"] == cold.metrics["n_examples"]
    assert "few-users" in few.metrics["labels"]
    users = [pd.read_parquet(answer.folder / "predictions.parquet")["user_id"] for answer in (few, cold)]
    assert users[0].equals(users[1])
    assert "target_is_cold" not in pd.read_parquet(few.folder / "predictions.parquet")


def test_an_evaluation_finds_what_was_held_out(run, cold):
    answer = run("eval", "model=sasrec", COLD, NO_FLOORS)
    assert apart(answer) == apart(cold)
    assert answer.metrics["metrics"] == pytest.approx(cold.metrics["metrics"], abs=1e-6)
    other = run("eval", f"run={cold.folder}", "task=direct", NO_FLOORS, "task.max_examples=100").metrics
    assert "cold-items" in other["labels"]
    assert "cold/ndcg@10" in other["metrics"]


@pytest.mark.parametrize("command", [("eval", NO_FLOORS), ("recommend", "--title", "any")])
def test_a_run_that_holds_something_out_is_asked_only_by_name(home, cache, cold, few, command):
    answer = call(command[0], "model=sasrec", *command[1:], cwd=home, cache=cache)
    assert answer.code == 1
    assert "no finished training run" in answer.err


def test_weights_are_not_asked_about_other_cold_items_than_they_were_trained_without(home, cache, cold, few):
    for typed, folder in (
        ("dataset.cold_items=0.1", cold.folder),
        (COLD, few.folder),
        ("dataset.train_users=1", few.folder),
    ):
        answer = call("eval", f"run={folder}", typed, NO_FLOORS, cwd=home, cache=cache)
        assert answer.code == 1
        assert f"was trained with {typed.partition('=')[0]}=" in answer.err


def test_a_model_trained_without_some_items_recommends(run, cold):
    user = next(iter(apart(cold)))
    answer = run("recommend", "model=sasrec", COLD, "--user", user, "--json")
    assert [json.loads(line)["rank"] for line in answer.out.splitlines()] == list(range(1, 11))


def test_reports_tell_such_runs_apart(run, cold, few):
    out = run("report", "model=sasrec", "--csv", "--metrics", "ndcg@10,cold/ndcg@10").out
    rows = {label: [r for r in csv.DictReader(io.StringIO(out)) if label in r["labels"]] for label in LABELS}
    assert all(COLD in row["variant"] for row in rows["cold-items"])
    assert f"{cold.metrics['metrics']['cold/ndcg@10']:.6f}" in [row["cold/ndcg@10"] for row in rows["cold-items"]]
    assert [FEW in row["variant"] for row in rows["few-users"]] == [True]
    assert [row["cold/ndcg@10"] for row in rows["few-users"]] == [""]
