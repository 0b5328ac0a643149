"""One training for all tasks: what can be told of it as a whole is its loss on what it did not see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from llm4rec_cli.capabilities import Learner
from llm4rec_cli.config.schema import Config, SplitName
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import Split
from llm4rec_cli.tasks.base import Evaluation, asked_about, limited, part_examples


def examples(split: Split, part: SplitName, config: Config, cache: Path) -> Examples:
    """The part's interactions.

    Raises:
        DataError: the part holds none.
    """
    return limited(part_examples(split, part, config), config)


def protocol(task: Any) -> str:
    """The protocol's name."""
    return "loss"


def evaluate(model: Learner, split: Split, asked: Examples, config: Config) -> Evaluation:
    """The mean over kinds of question of their mean loss, as `loss`, and each as `loss/<kind>`."""
    losses = _losses(model, asked)
    return Evaluation({"loss": float(np.mean([*losses.values()])), **losses}, {}, {}, asked_about(split, asked))


def validation_score(model: Learner, split: Split, asked: Examples, config: Config) -> float:
    """The loss, turned: higher is better."""
    return -float(np.mean([*_losses(model, asked).values()]))


def _losses(model: Learner, asked: Examples) -> dict[str, float]:
    if isinstance(model, torch.nn.Module):
        model.eval()
    return model.held_out_losses(asked)
