"""Prepared datasets on disk: what is damaged may be deleted, what is merely not readable now may not."""

import os
from dataclasses import replace

import pandas as pd
import pyarrow
import pytest

from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data import store
from llm4rec_cli.errors import DataError


@pytest.fixture
def folder(tmp_path):
    store.save(tiny_dataset([[0, 1, 2]]), None, tmp_path)
    return tmp_path


def test_a_dataset_is_loaded_as_it_was_saved_and_texts_stay_on_disk_until_they_are_read(folder, tmp_path):
    assert store.load(folder).sequence.tolist() == [0, 1, 2]
    reviews = ["good " * 100_000, None, "x"]
    reviewed = store.load(folder).interactions.assign(review_text=reviews)
    store.save(replace(tiny_dataset([[0, 1, 2]]), interactions=reviewed), None, tmp_path)
    before = pyarrow.total_allocated_bytes()
    loaded = store.load(tmp_path).interactions
    assert pyarrow.total_allocated_bytes() - before < 10_000
    assert loaded["review_text"].fillna("").tolist() == ["good " * 100_000, "", "x"]


@pytest.mark.parametrize("file", ["items.arrow", "manifest.json"])
@pytest.mark.parametrize("content", [None, b"ARROW1 cut off"])
def test_a_missing_or_torn_file_is_damage(folder, file, content):
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        store.load(folder)


def test_flipped_bits_never_crash_the_process(folder):
    """Of a table whose offsets are wrong, reading a text would."""
    whole = (folder / "items.arrow").read_bytes()
    text = store.load(folder).items["text"].iloc[0].encode()
    n_damaged = 0
    for place in range(whole.index(text) - 64, whole.index(text)):
        (folder / "items.arrow").write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        try:
            store.load(folder).items["text"].tolist()
        except DataError as error:
            n_damaged += "is damaged" in error.problem
    assert n_damaged


def test_a_large_file_is_checked_once_and_again_when_it_has_changed(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "LARGE", 1)
    checked, checked_once = [], store.checked_once

    def spy(path, notes, check):
        checked_once(path, notes, lambda path: checked.append(path.name) or check(path))

    monkeypatch.setattr(store, "checked_once", spy)
    for file in folder.glob("*.arrow"):
        os.utime(file, (1, 1))  # not just now
    names = sorted(file.name for file in folder.glob("*.arrow"))
    for _ in range(2):
        store.load(folder, notes=tmp_path / "notes")
    assert sorted(checked) == names
    os.utime(folder / "items.arrow", (2, 2))
    store.load(folder, notes=tmp_path / "notes")
    assert checked.count("items.arrow") == 2


def test_a_file_without_permission_is_no_damage(folder, monkeypatch):
    def refuse(path, memory_map):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(store.pyarrow.feather, "read_table", refuse)
    with pytest.raises(PermissionError):
        store.load(folder)


def test_a_torn_or_foreign_table_of_the_cache_is_made_anew_and_one_of_another_length_too(tmp_path):
    made, file = [], tmp_path / "texts/tiny.arrow"

    def kept(n=1000):
        table = pd.DataFrame({"text": ["tent"] * n})
        pd.testing.assert_frame_equal(store.kept(tmp_path, "texts/tiny", n, lambda: made.append(n) or table), table)
        return len(made)

    assert [kept(), kept()] == [1, 1]
    for n, damaged in enumerate((file.read_bytes()[:500], b"", b"x" * 99), start=2):
        file.write_bytes(damaged)
        assert [kept(), kept()] == [n, n]
    assert [kept(999), kept(999)] == [5, 5]
