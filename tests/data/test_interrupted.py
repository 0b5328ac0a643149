"""Preparation that is killed, meets a full disk, or finds one bad line among many, leaves nothing half done."""

import gzip
import json
import signal

import pytest

from llm4rec_cli.data import reviews
from llm4rec_cli.data.prepare import prepare
from llm4rec_cli.errors import DataError
from tests.support.driver import python

from .sources import config

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
    fields = {
        "reviewerID": f"u{i % 700}",
        "asin": f"i{i % 90}",
        "overall": 1 + i % 5,
        "unixReviewTime": 1_400_000_000 + i,
    }
    return json.dumps(fields | {"reviewText": f"text {i}", "summary": "s"})


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


@pytest.mark.parametrize("rows", [100, reviews.ROWS])
def test_one_bad_line_among_many_is_named_by_its_number(raw, rows, monkeypatch):
    monkeypatch.setattr(reviews, "ROWS", rows)
    lines = [*map(review, range(N))]
    lines[4321] = lines[4321][:-1]
    (raw / FILES["reviews"]).write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(DataError, match=r"reviews.json.gz:4322: not valid JSON"):
        prepare(config("shop", "amazon", raw, FILES), raw / "cache")
    assert list((raw / "cache/datasets").iterdir()) == []


def test_a_torn_archive_is_named_with_the_line_that_it_lacks(raw):
    path = raw / FILES["reviews"]
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"reviews.json.gz:\d+: gzip data is truncated or damaged"):
        prepare(config("shop", "amazon", raw, FILES), raw / "cache")
    assert list((raw / "cache/datasets").iterdir()) == []
