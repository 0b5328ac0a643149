"""Published weights: located, and refused where their hash is unexpected."""

from pathlib import Path

import pytest

from llm4rec_cli.errors import DataError
from llm4rec_cli.files import sha256
from llm4rec_cli.text import weights


def test_the_packaged_encoder_is_located_and_its_hash_checked():
    folder, digest = weights.locate_weights("minilm")
    assert (Path(folder) / "config.json").is_file()
    assert digest == weights.MINILM_SHA256


def test_altered_packaged_weights_are_refused(monkeypatch):
    monkeypatch.setattr(weights, "digest_of", lambda path: "0" * 64)
    with pytest.raises(DataError, match="sha256 0000") as caught:
        weights.locate_weights("minilm")
    assert "reinstall" in caught.value.remedy


def test_a_file_of_weights_is_hashed_once_unless_it_changes(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(weights, "sha256", lambda path: (read.append(path), sha256(path))[1])
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"a")
    first = weights.digest_of(file)
    assert (weights.digest_of(file), len(read)) == (first, 1)
    file.write_bytes(b"another")
    assert (weights.digest_of(file) == first, len(read)) == (False, 2)
