"""What every test needs: one thread (two thrash beside another process), nothing fetched; and the command line."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.driver import Answer, call


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's cache folder: the demo is generated, and its texts encoded, once a session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def llm4rec(tmp_path: Path, cache: Path) -> Callable[..., Answer]:
    """llm4rec(*arguments): the command line in this process, working in tmp_path."""
    return partial(call, cwd=tmp_path, cache=cache)
