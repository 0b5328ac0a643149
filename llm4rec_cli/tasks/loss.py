"""The evaluation of one training for all tasks: its loss on held-out interactions."""

from __future__ import annotations

import numpy as np

from llm4rec_cli.capabilities import Learner
from llm4rec_cli.config.schema import Config, TaskConfig
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import Split
from llm4rec_cli.tasks import base
from llm4rec_cli.tasks.base import Evaluation, example_rows, to_evaluation

examples = base.examples


def protocol(task: TaskConfig) -> str:
    return "loss"


def evaluate(model: Learner, split: Split, examples: Examples, config: Config) -> Evaluation:
    """Compute the mean loss of each kind of prompt, as `loss/<kind>`, and the mean over kinds, as `loss`."""
    losses = _losses(model, examples)
    return Evaluation({"loss": float(np.mean([*losses.values()])), **losses}, {}, {}, example_rows(split, examples))


def validation_score(model: Learner, split: Split, examples: Examples, config: Config) -> float:
    return -float(np.mean([*_losses(model, examples).values()]))


def _losses(model: Learner, examples: Examples) -> dict[str, float]:
    to_evaluation(model)
    return model.held_out_losses(examples)
