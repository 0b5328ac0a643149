"""Prepared datasets on disk: what is damaged may be deleted, what is merely not readable now may not."""

import pytest

from llm4rec_cli.data import store
from llm4rec_cli.errors import DataError
from tests.support.builders import tiny_dataset


@pytest.fixture
def folder(tmp_path):
    store.save(tiny_dataset([[0, 1, 2]]), tmp_path)
    return tmp_path


def test_a_dataset_is_loaded_as_it_was_saved(folder):
    assert store.load(folder).sequence.tolist() == [0, 1, 2]


@pytest.mark.parametrize("file", ["items.parquet", "manifest.json"])
@pytest.mark.parametrize("content", [None, b"PAR1 cut off"])
def test_a_missing_or_torn_file_is_damage(folder, file, content):
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        store.load(folder)


def test_a_file_without_permission_is_no_damage(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(store.pd, "read_parquet", refuse)
    with pytest.raises(PermissionError):
        store.load(folder)
