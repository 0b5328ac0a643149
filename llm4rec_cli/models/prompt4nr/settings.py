"""Groups and choices among Prompt4NR's settings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import Precision, Work, precision


class ClickLoss(Enum):
    pointwise = "pointwise"  # each candidate is a separate example: clicked or not (paper)
    listwise = "listwise"  # a softmax over a click and its negatives


class NegativeDraw(Enum):
    """When negatives are drawn."""

    fresh = "fresh"  # every epoch
    fixed = "fixed"  # once for all epochs (code)


class Attention(Enum):
    """What the tokens of a history attend to."""

    full = "full"  # all tokens, so that a history is computed again for each candidate (paper)
    shared = "shared"  # their own side of the template, so that all candidates of a history share its states


@dataclass
class WarmUpConfig:
    """Masked-language-model training on the titles of the training part, for backbones without a trained head."""

    epochs: int = ranges.number(at_least=0)  # passes over the texts; 0 = none
    batch_size: int = ranges.number(at_least=1)  # titles
    learning_rate: float = ranges.number(above=0)  # of the backbone; a new head: model.new_learning_rate
    precision: Precision = precision(Work.training)
