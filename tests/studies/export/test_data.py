"""An exported split has the rows, the order and the texts of ours."""

import ast
import json
import re

import pandas as pd
import pytest

from llm4rec_cli.api import load_split
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_studies import api
from llm4rec_studies.export.readme import HISTORY, RECBOLE

DAY = 1_000_000_000
ROWS = [  # in file order; ties in time keep it
    *[("007", "a", DAY + 10, 5), ("007", "b", DAY + 10, 3), ("007", "c", DAY + 10, 4), ("007", "d", DAY + 30, 1)],
    *[("u2", "b", DAY + 5, 2), ("u2", "a", DAY + 6, 2)],  # too few to be held out
    *[("u3", "d", DAY + 1, 5), ("u3", "c", DAY + 1, 5), ("u3", "a", DAY + 2, 5)],
]
TITLES = {"a": 'tab\there, "quotes"', "b": "two\nlines\rthree", "c": "NUL \0 inside", "d": "naïve — 雨"}
DATASET = """\
defaults: [_dataset, _self_]
name: mine
reader: table
raw_dir: .
licence: "mine: no redistribution"
domains: {mine: {interactions: log.csv, items: items.jsonl}}
user_core: 0
item_core: 0
"""


@pytest.fixture
def here(tmp_path, cache, monkeypatch):
    """Work in a folder with a dataset `mine`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    write(tmp_path, ROWS)
    return tmp_path


def write(folder, rows, columns=("user_id", "item_id", "timestamp", "rating")):
    (folder / "conf/dataset").mkdir(parents=True, exist_ok=True)
    (folder / "conf/dataset/mine.yaml").write_text(DATASET)
    pd.DataFrame(rows, columns=[*columns]).to_csv(folder / "log.csv", index=False)
    items = {row[1] for row in rows}
    lines = [{"item_id": item, "title": TITLES.get(item, item)} for item in sorted(items)]
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_tables_are_the_split(here):
    folder = api.export_data("dataset=mine", out="out", formats=["parquet"]) / "parquet"
    tables = {
        name: pd.read_parquet(folder / f"{name}.parquet") for name in ("train", "validation", "test", "histories")
    }
    rows = {name: table[["user_id", "item_id"]].apply(tuple, axis=1).tolist() for name, table in tables.items()}
    assert rows["train"] == [("007", "a"), ("007", "b"), ("u2", "b"), ("u2", "a"), ("u3", "d")]
    assert rows["validation"] == [("007", "c"), ("u3", "c")]
    assert rows["test"] == [("007", "d"), ("u3", "a")]
    assert tables["train"]["order"].tolist() == [0, 1, 0, 1, 0]
    assert tables["test"]["order"].tolist() == [3, 2]
    assert tables["test"]["rating"].tolist() == [1, 5]
    histories = tables["histories"].groupby(["split", "example"])["item_id"].agg("".join).to_dict()
    assert histories == {("valid", 0): "ab", ("valid", 1): "d", ("test", 0): "abc", ("test", 1): "dc"}
    assert not (folder / "candidates.parquet").exists(), "all items are ranked"
    users, items = (pd.read_parquet(folder / f"{name}.parquet") for name in ("users", "items"))
    assert dict(zip(users["user_id"], users["user"], strict=True)) == {"007": 0, "u2": 1, "u3": 2}
    assert dict(zip(items["item_id"], items["title"], strict=True)) == TITLES


def test_the_frames_of_load_split_are_exported(here):
    question = ("dataset=demo", "task=direct", "task.max_examples=50")
    loaded = load_split(*question)
    folder = api.export_data(*question, out="out", formats=["parquet"]) / "parquet"
    for part in ("train", "validation", "test"):
        shared = getattr(loaded, part).drop(columns="history", errors="ignore")
        pd.testing.assert_frame_equal(pd.read_parquet(folder / f"{part}.parquet").drop(columns="order"), shared)
    candidates = pd.read_parquet(folder / "candidates.parquet")
    assert loaded.candidates is not None
    assert candidates["item_id"].tolist() == loaded.candidates["item_id"].tolist()
    lists = candidates[candidates["split"] == "test"].groupby("example")["item_id"]
    assert lists.size().tolist() == [100] * 50
    assert lists.first().tolist() == loaded.test["item_id"].tolist(), "candidates begin with the target"
    histories = pd.read_parquet(folder / "histories.parquet")
    of_test = histories[histories["split"] == "test"].groupby("example")["item_id"].agg(list)
    assert of_test.tolist() == [list(history) for history in loaded.test["history"]]


def test_recbole_reads_our_split(here):
    folder = api.export_data("dataset=mine", out="out", formats=["recbole"]) / "recbole"
    assert (folder / "mine-pairs/mine-pairs.train.inter").read_text().splitlines() == [
        "user_id:token\titem_id:token\trating:float\ttimestamp:float",
        f"007\ta\t5.0\t{DAY + 10}",
        f"007\tb\t3.0\t{DAY + 10}",
        f"u2\tb\t2.0\t{DAY + 5}",
        f"u2\ta\t2.0\t{DAY + 6}",
        f"u3\td\t5.0\t{DAY + 1}",
    ]
    assert (folder / "mine-pairs/mine-pairs.valid.inter").read_text().splitlines()[1:] == [
        f"007\tc\t4.0\t{DAY + 10}",
        f"u3\tc\t5.0\t{DAY + 1}",
    ]
    for part, rows in (
        ("train", ["007\ta\tb", "u2\tb\ta"]),  # u3 has one training interaction: nothing to predict
        ("valid", ["007\ta b\tc", "u3\td\tc"]),
        ("test", ["007\ta b c\td", "u3\td c\ta"]),
    ):
        lines = (folder / f"mine-sequential/mine-sequential.{part}.inter").read_text().splitlines()
        assert lines == ["user_id:token\titem_id_list:token_seq\titem_id:token", *rows]
    items = (folder / "mine-pairs/mine-pairs.item").read_text().splitlines()
    assert items == ["item_id:token\ttitle:token_seq", "a\ttab here, quotes", "b\ttwo lines three", *items[3:]]
    assert items[3:] == ["c\tNUL inside", "d\tnaïve — 雨"]


def test_long_histories_are_cut_as_recbole_cuts_them(here):
    write(here, [("u", f"i{n}", DAY + n, 1) for n in range(HISTORY + 12)])
    folder = api.export_data("dataset=mine", out="out", formats=["recbole"])
    for part, target, n_lines in (("train", HISTORY + 9, HISTORY + 9), ("test", HISTORY + 11, 1)):
        lines = (folder / f"recbole/mine-sequential/mine-sequential.{part}.inter").read_text().splitlines()[1:]
        assert len(lines) == n_lines
        _, history, item = lines[-1].split("\t")
        assert history.split(" ") == [f"i{n}" for n in range(target - HISTORY, target)]
        assert item == f"i{target}"


def test_without_texts_and_times_the_place_in_the_history_is_the_time(here):
    write(here, [(user, item) for user, item, *_ in ROWS], ("user_id", "item_id"))
    (here / "conf/dataset/mine.yaml").write_text(DATASET.replace(", items: items.jsonl", ""))
    assert load_split("dataset=mine").test["item_id"].tolist() == ["d", "a"]
    folder = api.export_data("dataset=mine", out="out") / "recbole/mine-pairs"
    assert (folder / "mine-pairs.test.inter").read_text().splitlines()[1:] == ["007\td\t1.0\t3", "u3\ta\t1.0\t2"]
    assert (folder / "mine-pairs.item").read_text().splitlines()[:2] == ["item_id:token", "a"]


def test_ids_that_a_format_cannot_hold_are_refused_by_name(here):
    write(here, [(user, f"item {item}", time, rating) for user, item, time, rating in ROWS])
    with pytest.raises(DataError, match="item id 'item a' has white space") as refused:
        api.export_data("dataset=mine", out="out")
    assert refused.value.remedy == "--format parquet"
    folder = api.export_data("dataset=mine", out="out", formats=["parquet"])
    assert pd.read_parquet(folder / "parquet/test.parquet")["item_id"].tolist() == ["item d", "item a"]


def test_the_readme_states_data_split_licence_and_how_to_come_back(here):
    folder = api.export_data("dataset=mine", "task.mask_history=true", out="out")
    text = (folder / "README.md").read_text()
    assert re.search("Fingerprint of the data: `[0-9a-f]+`", text)
    assert "do not publish or pass on this folder" in text
    assert "5 training interactions, 2 validation and 2 test examples of 3 users and 4 items" in text
    assert "llm4rec score lists.csv dataset=mine task.mask_history=true" in text
    assert str(here) not in text


def test_the_lines_for_recbole_are_python_and_name_files_that_are_there(here):
    folder = api.export_data("dataset=mine", out="out", formats=["recbole"])
    for name, code in RECBOLE.items():
        ast.parse(code.format(name="mine"))
        assert f'"mine-{name}"' in code.format(name="mine")
        for end in ("train.inter", "valid.inter", "test.inter", "item"):
            assert (folder / f"recbole/mine-{name}/mine-{name}.{end}").is_file()


def test_a_folder_that_exists_is_left_alone(here):
    (here / "other").mkdir()
    (here / "other/file").touch()
    with pytest.raises(UsageError, match="other exists"):
        api.export_data("dataset=mine", out="other")
    assert [path.name for path in (here / "other").iterdir()] == ["file"]


def test_a_click_log_has_impressions_and_no_library(here):
    loaded = load_split("dataset=demo_news")
    folder = api.export_data("dataset=demo_news", out="out", formats=["parquet"]) / "parquet"
    shown, test = pd.read_parquet(folder / "shown.parquet"), pd.read_parquet(folder / "test.parquet")
    of_test = shown[shown["split"] == "test"].groupby("example")
    assert of_test["item_id"].agg(list).tolist() == [list(items) for items in loaded.test["items"]]
    assert of_test["clicked"].agg(list).tolist() == [list(clicked) for clicked in loaded.test["clicked"]]
    assert test["impression_id"].tolist() == loaded.test["impression_id"].tolist()
    with pytest.raises(UsageError, match="is a click log, which recbole has no format for"):
        api.export_data("dataset=demo_news", out="out", formats=["recbole"])


def test_rankings_under_the_split_of_reviews_are_trained_on_leave_one_out(here):
    question = ("dataset=demo", "dataset.split=p5_reviews", "task=sequential")
    folder = api.export_data(*question, out="out", formats=["parquet"])
    assert "- Split: `leave_one_out`, as for all rankings under `p5_reviews`" in (folder / "README.md").read_text()
    train, test = (pd.read_parquet(folder / f"parquet/{part}.parquet") for part in ("train", "test"))
    assert not set(zip(train["user_id"], train["order"], strict=True)) & set(
        zip(test["user_id"], test["order"], strict=True)
    )
