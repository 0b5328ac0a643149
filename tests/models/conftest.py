"""Fixtures shared by the tests of models."""

from __future__ import annotations

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
