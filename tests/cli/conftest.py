"""One small trained run, shared."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.driver import TINY, call


@pytest.fixture(scope="session")
def _trained_once(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    home = tmp_path_factory.mktemp("trained")
    answer = call("train", *TINY, "task.floors=[popularity,transition_text]", cwd=home, cache=cache)
    assert answer.code == 0, answer.err
    return home


@pytest.fixture
def trained(tmp_path: Path, _trained_once: Path) -> Path:
    """The folder of a finished run of TINY and two floors under tmp_path/outputs; a copy, free to change."""
    shutil.copytree(_trained_once / "outputs", tmp_path / "outputs", dirs_exist_ok=True)
    (folder,) = (tmp_path / "outputs/sasrec/demo/sequential").glob("seed0-*")
    return folder


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A folder with runs of retrieval on 60 examples each: explanations, and headings in two ways."""
    folder = tmp_path_factory.mktemp("written")
    for arguments in (["task=explanation"], ["task=review_summary"], ["task=review_summary", "model.words=[1]"]):
        answer = call("train", "model=retrieval", "task.max_examples=60", *arguments, cwd=folder, cache=cache)
        assert answer.code == 0, answer.err
    return folder
