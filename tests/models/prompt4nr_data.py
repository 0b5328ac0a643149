"""Prompt4NR's shipped settings and templates, and a small click log."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from llm4rec_cli.config import compose as composing
from llm4rec_cli.config.overrides import hydra_override
from llm4rec_cli.conformance.builders import resolved, tiny_log
from llm4rec_cli.data.split import Split, split_dataset
from llm4rec_cli.models import base
from llm4rec_cli.models.prompt4nr.config import Prompt4NRConfig

TEMPLATES = tuple(name.partition("/")[2] for name in composing.options("prompt") if name.startswith("prompt4nr/"))
KINDS = ("lamp", "chair", "mirror", "table", "rug")
TITLES = (*(f"{KINDS[i % 5]} of make {i}" for i in range(28)), "chair of make 1", "")  # one title twice, one empty


@cache
def composed(template: str, *overrides: str) -> Prompt4NRConfig:
    chosen = ["model=prompt4nr", "dataset=mind-small", f"prompt=prompt4nr/{template}", *overrides]
    settings: Any = resolved(*map(hydra_override, chosen)).model
    assert isinstance(settings, Prompt4NRConfig)
    return settings


def config(template: str = "discrete_utility", *overrides: str) -> Prompt4NRConfig:
    """A copy of the shipped settings with a template and overrides; the default backbone is `minilm`."""
    return copy.deepcopy(composed(template, *overrides))


@cache
def log(n_train: int = 40, n_dev: int = 12) -> Split:
    """Impressions of 2 to 8 items, at least one clicked and one not; every seventh has no history."""
    rng = np.random.default_rng(3)
    rows: list[tuple[str, int, float, list[int], str]] = []
    for number in range(n_train + n_dev):
        shown = rng.choice(len(TITLES), rng.integers(2, 9), replace=False)
        clicks = rng.permutation([1, 0, *(rng.random(len(shown) - 2) < 0.2)]).astype(int)
        history = rng.integers(0, len(TITLES), 0 if number % 7 == 0 else rng.integers(1, 12)).tolist()
        part = "train" if number < n_train else "dev"
        rows.append((part, number % 20, float(number), history, " ".join(map("{}-{}".format, shown, clicks))))
    return split_dataset(tiny_log(rows, TITLES))


def model(folder: Path, settings: Prompt4NRConfig, split: Split | None = None, seed: int = 0) -> Any:
    """A model built as the commands build it, in evaluation mode; `folder` is its cache."""
    from transformers import set_seed

    set_seed(seed)
    return base.build(base.Context(settings, split or log(), seed, folder, "cpu", "direct")).eval()
