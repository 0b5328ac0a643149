"""`protocols`: ordinary runs under three protocols, in one table."""

import json

import numpy as np
import pytest

from llm4rec_cli.files import write_text

CONFIG = """\
defaults: [_dataset, _self_]
name: shop
reader: table
domains: {shop: {interactions: log.csv}}
user_core: 0
item_core: 0
"""
ARGUMENTS = ("protocols", "dataset=shop", "dataset.raw_dir=.", "model=transition_text", "task.floors=[popularity]")
DAY = 86_400


@pytest.fixture
def shop(llm4rec, tmp_path):
    """shop(*options): the command on 40 users with 8 interactions each, on four random days out of 20."""
    generator = np.random.default_rng(0)
    rows = ["user_id,item_id,timestamp"]
    for user in range(40):
        days = (20_000 + np.repeat(np.sort(generator.choice(20, size=4, replace=False)), 2)) * DAY
        rows += [f"u{user},i{item},{day}" for item, day in zip(generator.permutation(30)[:8], days, strict=True)]
    write_text(tmp_path / "log.csv", "\n".join(rows))
    write_text(tmp_path / "conf/dataset/shop.yaml", CONFIG)
    return lambda *more: llm4rec(*ARGUMENTS, *more)


def states(folder):
    return {path: path.stat().st_mtime_ns for path in (folder / "outputs").rglob("status.json")}


def test_the_table_has_ordinary_runs_that_are_reused(shop, llm4rec, tmp_path):
    answer = shop("--draws", "2", "--metrics", "hr@10,mrr", "--json")
    assert answer.code == 0, answer.err
    shown = json.loads(answer.out)
    assert list(shown["models"]) == ["popularity", "transition_text"]
    assert shown["skipped"] == {}
    seeds = {name: protocol["dataset_seeds"] for name, protocol in shown["protocols"].items()}
    assert seeds == {"leave_one_out": [0], "shuffle_ties": [0, 1], "temporal": [0]}
    assert shown["protocols"]["leave_one_out"]["n_examples"]["same_day"] == 40
    before = states(tmp_path)
    assert len(before) == 8

    assert "Kendall's τ" in shop("--draws", "2", "--metrics", "hr@10,mrr").out
    train = ("train", *ARGUMENTS[1:], "dataset.control=shuffle_ties", "dataset.seed=1")
    metrics = llm4rec(*train).metrics
    assert states(tmp_path) == before, "nothing is run twice"
    ours = shown["models"]["transition_text"]["shuffle_ties"]
    assert [ours[name]["by_draw"][1] for name in ("hr@10", "mrr")] == [metrics["metrics"][n] for n in ("hr@10", "mrr")]
    assert "control-shuffle_ties" in metrics["labels"]


def test_models_and_seeds_are_swept(shop):
    answer = shop("model=transition_text", "model.steps=1,2", "seed=0,1", "--only", "leave_one_out", "--csv")
    header, *rows = answer.out.splitlines()
    assert header.startswith("model,protocol,dataset_seed,seed,metric,slice,n_examples,value")
    everywhere = [row.split(",") for row in rows if row.split(",")[5] == "all"]
    assert sorted((row[0], row[3]) for row in everywhere) == [  # a rule has one run whatever the seeds
        ("popularity", "0"),
        *((f"transition_text model.steps={steps}", "0") for steps in "12"),
    ]


def test_without_times_only_leave_one_out_is_left_and_the_reason_is_said(shop, tmp_path):
    lines = (tmp_path / "log.csv").read_text().splitlines()
    write_text(tmp_path / "log.csv", "\n".join(line.rpartition(",")[0] for line in lines))
    answer = shop()
    assert answer.code == 0, answer.err
    text = " ".join(answer.out.split())
    assert "without shuffle_ties: dataset.control=shuffle_ties shuffles interactions at one time" in text
    assert "without temporal: dataset.split=temporal cuts at one moment, and dataset 'shop' has no times" in text
    answer = shop("--only", "temporal")
    assert (answer.code, "has no times" in answer.err) == (1, True)


def test_the_models_of_experiments_are_named_after_them(shop, tmp_path):
    for steps, name in enumerate(("first", "second"), start=1):
        write_text(tmp_path / f"conf/experiment/{name}.yaml", f"# @package _global_\nmodel: {{steps: {steps}}}\n")
    answer = shop("--only", "leave_one_out", "--json", "+experiment=first,second")
    assert answer.code == 0, answer.err
    assert list(json.loads(answer.out)["models"]) == [
        *("popularity", "transition_text first", "transition_text second")
    ]
