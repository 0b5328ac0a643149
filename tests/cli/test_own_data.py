"""A stranger's own data: what `prepare` says of them, which mask and sizes fit, and trainings that failed."""

import csv
import json
import logging

import numpy as np
import pytest

from llm4rec_cli import api
from llm4rec_cli.config.folders import options
from llm4rec_cli.data import store
from llm4rec_cli.run.job import with_override
from tests.support.driver import compose, job_of, read

DATASET = """\
# What our readers took.
defaults: [_dataset, _self_]
name: mine
reader: table
raw_dir: .
domains: {mine: {interactions: log.csv, items: items.csv}}
user_core: 0
item_core: 0
"""
SASREC = ("model=sasrec", "model.hidden_size=16", "model.inner_size=16", "model.layers=1", "trainer.batch_size=64")


def write(folder, rows, items, encoding="utf-8", **settings):
    """Write a table dataset `mine` into the working directory."""
    (folder / "conf/dataset").mkdir(parents=True, exist_ok=True)
    more = "".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items())
    (folder / "conf/dataset/mine.yaml").write_text(DATASET + more)
    for name, table in (("log.csv", rows), ("items.csv", items)):
        with (folder / name).open("w", newline="", encoding=encoding) as file:
            csv.writer(file).writerows(table)


def chain(users=60, items=40, length=8):
    """Rows in which each item is followed by the next one, so that a model can learn more than popularity."""
    rng = np.random.default_rng(0)
    starts = rng.integers(items, size=users)
    rows = [
        (f"u{u}", f"i{(start + n) % items}", 1_600_000_000 + n) for u, start in enumerate(starts) for n in range(length)
    ]
    return [("user_id", "item_id", "timestamp"), *rows], [
        ("item_id", "title"),
        *((f"i{i}", f"Title {i}") for i in range(items)),
    ]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, *chain())
    return tmp_path


def test_prepare_says_how_dense_the_data_are_who_is_tested_and_which_mask_fits(llm4rec, mine):
    answer = llm4rec("prepare", "dataset=mine")
    said = " ".join(answer.out.split())
    assert "8.0 interactions a user (median 8, 8 to 8), 12.0 an item; 20 % of all pairs" in said
    assert "the split leaves 60 users for test, which is too few to compare models" in said
    assert (
        "0.0 % of the interactions in training and validation repeat an item of their user: task.mask_history=true"
        in said
    )
    assert "llm4rec train dataset=mine trainer=small" in said
    assert "paper" not in answer.out


def test_items_that_the_item_file_lacks_are_told_with_an_example(llm4rec, mine):
    rows, items = chain()
    write(mine, rows, items[:21])
    answer = llm4rec("prepare", "dataset=mine")
    dropped = sum(item not in {i for i, _ in items[:21]} for _, item, _ in rows[1:])
    said = " ".join(answer.out.split())
    assert f"mine: {dropped} of 480 interactions are of 20 items that the item file lacks, such as 'i" in said
    write(mine, rows, [("item_id", "title"), *((f"{i}.0", "t") for i in range(40))])
    as_numbers = [(u, str(item).removeprefix("i"), t) for u, item, t in rows[1:]]
    write(mine, [rows[0], *as_numbers], [("item_id", "title"), *((f"{i}.0", "t") for i in range(40))])
    answer = llm4rec("prepare", "dataset=mine")
    assert answer.code == 1
    assert "480 of 480 interactions are of 40 items that the item file lacks, such as '" in answer.err
    assert ".0')" in answer.err, "what the item file has instead"
    assert "write the ids alike in both files" in answer.err


def test_ratings_duplicates_and_categories_have_settings(llm4rec, mine):
    rows = [("user_id", "item_id", "timestamp", "rating")]
    rows += [(f"u{u}", f"i{n}", n, 1 + n % 5) for u in range(5) for n in range(10)]
    rows += rows[1:6]
    items = [("item_id", "title", "categories"), *((f"i{n}", f"T{n}", "Adventure|Animation") for n in range(10))]
    write(mine, rows, items, min_rating=4.0, drop_duplicates=True, category_separator="|", text="attributes")
    answer = llm4rec("prepare", "dataset=mine")
    assert answer.code == 0, answer.err
    steps = [line.split() for line in answer.out.splitlines() if line.startswith("mine ")]
    assert [int(step[-1]) for step in steps] == [55, 22, 20, 20, 20]
    folder = answer.out.split("dataset folder: ")[1].splitlines()[0]
    assert set(store.load(mine / folder).items["categories"]) == {"Adventure Animation"}
    write(mine, *chain(), min_rating=4.0)
    assert "dataset.min_rating=4: dataset 'mine' has no ratings" in llm4rec("prepare", "dataset=mine").err


def test_another_encoding_is_a_setting_that_the_error_names(llm4rec, mine):
    rows, items = chain()
    items[1] = ("i0", "Amélie")
    write(mine, rows, items, encoding="latin-1")
    answer = llm4rec("prepare", "dataset=mine")
    assert answer.code == 1
    assert "items.csv:2: not UTF-8" in answer.err
    assert "dataset.encoding=latin-1" in answer.err
    answer = llm4rec("prepare", "dataset=mine", "dataset.encoding=latin-1")
    assert answer.code == 0, answer.err
    assert "did you mean 'latin-1'" in llm4rec("prepare", "dataset=mine", "dataset.encoding=latin1").err
    assert "is not utf-16" in llm4rec("prepare", "dataset=mine", "dataset.encoding=utf-16").err


def test_auto_masks_the_history_where_nobody_takes_an_item_twice_and_shares_the_run(llm4rec, mine, caplog):
    caplog.set_level(logging.INFO)
    train = ("train", "model=popularity", "dataset=mine", "task.floors=[]")
    auto = llm4rec(*train, "task.mask_history=auto")
    assert auto.metrics["mask_history"] is True
    assert "task.mask_history=auto is true: 0.0 % of the interactions" in auto.err
    assert "task.mask_history=true" in read(auto.folder / "status.json")["overrides"]
    assert llm4rec(*train, "task.mask_history=true").folder == auto.folder
    rows, items = chain()
    write(mine, [*rows, *((u, item, t + 100) for u, item, t in rows[1:])], items)
    assert llm4rec(*train, "task.mask_history=auto").metrics["mask_history"] is False


def test_the_mask_is_advised_where_it_is_not_typed(llm4rec, mine):
    train = ("train", "model=popularity", "dataset=mine", "task.floors=[]")
    assert "task.mask_history=true ranks only what a user does not have yet" in llm4rec(*train).err
    assert "mask_history" not in llm4rec(*train, "task.mask_history=false", "force=true").err.replace(str(mine), "")
    searched = llm4rec(
        "tune", *SASREC[:1], "dataset=mine", "task.mask_history=auto", "trainer.epochs=1", "--trials", "1"
    )
    assert searched.code == 0, searched.err
    assert "task.mask_history=auto is true" in searched.err
    refused = llm4rec("inspect", "data", "dataset=mine", "task.mask_history=auto")
    assert "task.mask_history=auto is for train, eval and tune" in refused.err


def test_an_evaluation_follows_the_mask_as_well(llm4rec, mine):
    trained = llm4rec("train", *SASREC, "trainer.epochs=1", "dataset=mine", "task.floors=[]")
    answer = llm4rec("eval", f"run={trained.folder}", "task.mask_history=auto", "task.floors=[]")
    assert answer.code == 0, answer.err
    assert answer.metrics["mask_history"] is True
    assert answer.metrics["trained_run"] in trained.folder.as_posix()


def test_an_override_replaces_another_of_its_key():
    job = job_of("model=popularity", "task.mask_history=null", "seed=3")
    changed = with_override(job, "task.mask_history=true")
    assert changed.typed == ("model=popularity", "seed=3", "task.mask_history=true")
    assert changed.task.mask_history is True


def test_a_training_that_is_not_above_popularity_says_so_everywhere(llm4rec, mine):
    train = ("train", *SASREC, "dataset=mine", "task.floors=[popularity]", "task.mask_history=true")
    failed = llm4rec(*train, "trainer.epochs=1", "trainer.learning_rate=1e-9")
    assert "not-above-popularity" in failed.metrics["labels"]
    said = " ".join(failed.out.split())
    assert "training probably failed: on validation, ndcg@10 is 0." in said
    assert "learns: llm4rec tune model=sasrec dataset=mine task.mask_history=true" in said
    assert "sasrec is not compared with popularity: its training probably failed" in said
    learnt = llm4rec(*train, "trainer.epochs=40", "trainer.learning_rate=1e-2")
    assert "not-above-popularity" not in learnt.metrics["labels"]
    assert learnt.metrics["training"]["gain_low"] > 0
    evaluated = llm4rec("eval", f"run={failed.folder}", "split=valid")
    assert "not-above-popularity" in evaluated.metrics["labels"]
    assert "training probably failed" in evaluated.out
    report = " ".join(llm4rec("report", "dataset=mine").out.split())
    assert "not-above-popularity, so that training probably failed, and no model is called better: sasrec" in report
    compared = llm4rec("compare", str(failed.folder), str(learnt.folder)).out
    assert "A: training probably failed (not-above-popularity)" in compared
    with pytest.warns(UserWarning, match="sasrec: training probably failed"):
        api.train(*train[1:], "trainer.epochs=1", "trainer.learning_rate=1e-9", paths={"cache": str(failed.cwd / "c")})


def test_small_data_have_sizes_of_each_model_which_are_suggested(llm4rec, mine):
    for option in options("size"):
        model, _, trainer = option.partition("-")
        chosen, usual = compose(f"model={model}", f"trainer={trainer}"), compose(f"model={model}", "trainer=default")
        assert chosen.model != usual.model or chosen.trainer != usual.trainer
        assert compose(f"model={model}", f"trainer={trainer}", "trainer.epochs=3").trainer.epochs == 3
    answer = llm4rec("train", *SASREC[:-1], "trainer.epochs=1", "dataset=mine", "task.floors=[]")
    assert "an epoch has few steps, as there are 60 users: trainer=small is for such data" in answer.err
    typed = llm4rec("train", *SASREC[:-1], "trainer=small", "trainer.epochs=1", "dataset=mine", "task.floors=[]")
    assert "trainer=small is for such data" not in typed.err
    assert "conf/size/sasrec-small.yaml" in typed.err
