"""Preparation that is killed, meets a full disk, will not fit or finds one bad line leaves nothing half done."""

import gzip
import io
import json
import re
import signal
from types import SimpleNamespace

import pandas as pd
import pytest

from llm4rec_cli.data import rawfiles, reviews
from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.data.readers import mind, movielens, table
from llm4rec_cli.errors import DataError
from tests.support.driver import python

from .sources import MIND, config

N = 5000
FILES = {"reviews": "reviews.json.gz"}
KILLED = """
import os, signal
from pathlib import Path
from llm4rec_cli.config.schema import DatasetConfig
from llm4rec_cli.data import store
from llm4rec_cli.data.prepare import prepare
written = store.written
def killed(*arguments):
    written(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
store.written = killed
domains = {"shop": {"reviews": "reviews.json.gz"}}
config = DatasetConfig(name="shop", reader="amazon", domains=domains, raw_dir=".", user_core=1, item_core=1)
prepare(config, Path("cache"))
"""


def review(i):
    fields = {"reviewerID": f"u{i % 700}", "asin": f"i{i % 90}", "overall": 1 + i % 5, "reviewText": f"text {i}"}
    return json.dumps(fields | {"unixReviewTime": 1_400_000_000 + i, "summary": "s"})


@pytest.fixture
def raw(tmp_path):
    """A folder with a gzipped file of N reviews."""
    (tmp_path / FILES["reviews"]).write_bytes(gzip.compress("\n".join(map(review, range(N))).encode()))
    return tmp_path


def content(cache):
    """Return the bytes of each file of the only prepared dataset, and check that nothing else is there."""
    (folder,) = (cache / "datasets").iterdir()
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_killed_preparation_starts_again_and_ends_as_an_undisturbed_one(raw):
    assert python(KILLED, raw).returncode == -signal.SIGKILL
    left = {path.suffix for path in (raw / "cache/datasets").iterdir()}
    assert left == {".part", ".lock"}
    settings = config("shop", "amazon", raw, FILES)
    assert len(prepare(settings, raw / "cache").interactions) == N
    prepare(settings, raw / "other")
    assert content(raw / "cache") == content(raw / "other")


@pytest.mark.parametrize("n_whole", [0, 1])
def test_a_full_disk_leaves_nothing_and_the_next_preparation_succeeds(raw, n_whole, monkeypatch):
    """/dev/full refuses every byte: for the texts that the reader sets aside, and for those of the dataset."""
    opened, os_file = [], reviews.pa.OSFile

    def full(path, mode):
        opened.append(path)
        return os_file(path if len(opened) <= n_whole else "/dev/full", mode)

    settings = config("shop", "amazon", raw, FILES)
    with monkeypatch.context() as patch:
        patch.setattr(reviews.pa, "OSFile", full)
        with pytest.raises(OSError, match="No space left"):
            prepare(settings, raw / "cache")
    assert list((raw / "cache/datasets").iterdir()) == []
    assert len(prepare(settings, raw / "cache").interactions) == N


@pytest.mark.parametrize("block", [1000, rawfiles.JSON_BLOCK])
def test_a_torn_archive_and_one_bad_line_among_many_are_named_by_their_number(raw, block, monkeypatch):
    path = raw / FILES["reviews"]
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"reviews.json.gz:\d+: gzip data is truncated or damaged"):
        prepare(config("shop", "amazon", raw, FILES), raw / "cache")
    assert list((raw / "cache/datasets").iterdir()) == []
    monkeypatch.setattr(rawfiles, "JSON_BLOCK", block)
    lines = [*map(review, range(N))]
    lines[4321] = lines[4321][:-1]
    (raw / FILES["reviews"]).write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(DataError, match=r"reviews.json.gz:4322: not valid JSON"):
        prepare(config("shop", "amazon", raw, FILES), raw / "cache")
    assert list((raw / "cache/datasets").iterdir()) == []


def test_a_file_that_will_not_fit_is_refused_at_once(raw, monkeypatch):
    (raw / "plain.json").write_text("\n".join(map(review, range(N))))
    for setting, size in (("JSON_BLOCK", 10_000), ("FORECAST_AFTER", 100_000), ("_READ", 4096)):
        monkeypatch.setattr(rawfiles, setting, size)
    settings = config("shop", "amazon", raw, {"reviews": "plain.json"})
    for memory, disk, problem in (
        (100, 10**9, "GB of memory, and 0.0 GB are free"),
        (10**9, 100, "in the cache"),
        (10**9, 10**9, None),
    ):
        monkeypatch.setattr(rawfiles.processes, "memory", lambda memory=memory: (memory, memory))
        monkeypatch.setattr(rawfiles.shutil, "disk_usage", lambda folder, disk=disk: SimpleNamespace(free=disk))
        if problem is None:
            assert len(prepare(settings, raw / "cache").interactions) == N
        else:
            with pytest.raises(DataError, match=problem):
                prepare(settings, raw / "cache")
            assert list((raw / "cache/datasets").iterdir()) == []


LINES = {  # of files in several formats
    "ratings.dat": lambda i: f"{i % 97}::{i % 89}::4::{10**9 + i}",
    "log.csv": lambda i: f"u{i:06d},i{i % 89:03d},{10**9 + i}" if i else "user_id,item_id,timestamp",
    "log.jsonl": lambda i: json.dumps({"user_id": f"u{i:06d}", "item_id": "i1", "timestamp": 10**9 + i}),
    "behaviors.tsv": lambda i: f"{i:05d}\tU{i:05d}\t11/12/2019 2:14:46 PM\tN1\tN1-0 N2-1",
}


@pytest.mark.parametrize("name", [*LINES, "log.parquet"])
def test_each_format_that_is_read_in_parts_is_refused_after_the_first_ones(name, tmp_path, monkeypatch):
    path, n = tmp_path / name, 5000
    text = "\n".join(map(LINES.get(name, LINES["log.csv"]), range(n))) + "\n"
    if name.endswith(".parquet"):
        pd.read_csv(io.StringIO(text)).to_parquet(path)
    else:
        path.write_text(text)
    read = {"ratings.dat": movielens.read, "behaviors.tsv": mind.read}.get(name, table.read)
    role = {"ratings.dat": "ratings", "behaviors.tsv": "train_behaviors"}.get(name, "interactions")
    for setting in ("FORECAST_AFTER", "_BLOCK", "_READ"):
        monkeypatch.setattr(rawfiles, setting, 8192)
    monkeypatch.setattr(rawfiles.processes, "memory", lambda: (100, 100))
    with pytest.raises(DataError, match=rf"{name}: about .* and 0.0 GB are free") as error:
        read(MIND | {role: path} if read is mind.read else {role: path})
    n_rows = int(re.search(r"about ([\d,]+) rows", error.value.problem)[1].replace(",", ""))
    assert n_rows == pytest.approx(n, rel=0.15)


def test_what_is_read_ahead_meanwhile_does_not_count(tmp_path, monkeypatch):
    path = tmp_path / "log.tsv"
    path.write_bytes(bytes(100_000))
    monkeypatch.setattr(rawfiles, "FORECAST_AFTER", 5_000)
    monkeypatch.setattr(rawfiles.processes, "memory", lambda: (100, 100))
    forecast = rawfiles.Forecast(path, n_bytes=20_000, of_rows=10_000)
    forecast.n_bytes = 100_000  # by pyarrow's thread, while the first rows are parsed
    with pytest.raises(DataError, match="about 70 rows"):
        forecast.check(7, 1_000)
