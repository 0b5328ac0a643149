"""The values that settings of UniSRec take, and the settings of pre-training."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING

from llm4rec_cli.config import ranges


class Adaptor(Enum):
    """How text vectors become item vectors."""

    moe = "moe"  # parametric whitening, mixture of experts: the paper
    linear = "linear"  # one linear layer: a control
    two_linear = "two_linear"  # two linear layers with nothing between: ZESRec's in UniSRec's table


class Similarity(Enum):
    """How a sequence's state and an item vector are compared."""

    cosine = "cosine"  # over a temperature: the paper
    dot = "dot"  # inner product: SASRec, and so ZESRec in UniSRec's table


class AdaptorDraw(Enum):
    """How often the adaptor's dropout and gate noise are drawn in training."""

    catalogue = "catalogue"  # once per item and step, shared by inputs and targets
    position = "position"  # for each input position, as in the published code


class Freeze(Enum):
    """Weights that training leaves unchanged. Text vectors are always frozen."""

    none = "none"
    encoder = "encoder"  # positions and Transformer layers: the paper's fine-tuning
    adaptor = "adaptor"


class PretrainingLoss(Enum):
    """How pre-training contrasts a batch."""

    exact = "exact"  # records with the same target are not negatives of each other
    paper_code = "paper_code"  # the published code, including its bugs


@dataclass
class PretrainingConfig:
    """Settings used only by `task=pretrain`."""

    loss: PretrainingLoss = MISSING
    item_weight: float = ranges.number(1.0, at_least=0, added=True)  # of the sequence-item loss; 0 = an ablation
    sequence_weight: float = ranges.number(at_least=0)  # λ, weight of the sequence-sequence loss
    item_drop: float = ranges.number(at_least=0, at_most=1)  # probability of dropping items rather than words
    drop: float = ranges.number(at_least=0, below=1)  # probability that a position is augmented
    word_drop: float = ranges.number(at_least=0, below=1)  # probability of dropping a word of an item text
