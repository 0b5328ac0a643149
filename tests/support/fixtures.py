"""Fixtures of several folders: small finished runs, and small models."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm4rec_cli.config.registry import config_class
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.split import split_dataset
from llm4rec_cli.models import base
from tests.llm.tiny_llm import tiny_llm
from tests.models.tiny_bert import tiny_bert
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


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Any]:
    """build(name, dataset, seed=0, task="sequential", **settings): a model under the dataset's split."""

    def build_model(name: str, dataset: RecDataset, seed: int = 0, task: str = "sequential", **settings: Any) -> Any:
        config = config_class(name)(name=name, **settings)
        return base.build(base.Context(config, split_dataset(dataset), seed, tmp_path, "cpu", task))

    return build_model


@pytest.fixture(scope="session")
def headless(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny BERT without a masked-language-model head."""
    return str(tiny_bert(tmp_path_factory.mktemp("bert"), head=False))


@pytest.fixture(scope="session")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny causal language model."""
    return tiny_llm(tmp_path_factory.mktemp("causal") / "llm")
