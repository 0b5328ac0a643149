"""Groups and choices among tuned_lm's settings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING

from llm4rec_cli.config import ranges


class Initial(Enum):
    """The weights that tuning starts from."""

    pretrained = "pretrained"
    random = "random"  # of the backbone's shape: the control of pre-training


class Tuning(Enum):
    lora = "lora"
    full = "full"  # all weights
    none = "none"  # the model as it is: a floor


class Frozen(Enum):
    """How weights that are not trained are stored."""

    fp32 = "fp32"
    int8 = "int8"  # LLM.int8() (arXiv 2208.07339)
    nf4 = "nf4"  # 4 bits, scales in 8, computed in the precision of the input (QLoRA, arXiv 2305.14314)


class Answer(Enum):
    """How the language model answers."""

    auto = "auto"  # yes_no for likes and impressions, title for other rankings
    title = "title"  # the likelihood of an item's title as the next line
    item_head = "item_head"  # a linear layer over all items, on the last token's state
    yes_no = "yes_no"  # the log-odds of yes against no, for each item


class TitleScore(Enum):
    """The score of a title, from the probabilities of its tokens unless it is grounded."""

    renormalised = "renormalised"  # over the tokens that continue a title of the catalogue, summed: forced ones add 0
    sum = "sum"  # over the vocabulary, summed
    mean = "mean"  # that divided by the number of tokens
    grounded = "grounded"  # minus the distance to the title that the model writes (BIGRec)


class LossOn(Enum):
    answer = "answer"
    all = "all"  # the prompt's tokens, too (TALLRec)


class Targets(Enum):
    """Which items of a training history are answers."""

    every = "every"  # each after the first, all in one pass
    last = "last"  # the last; each interaction ends a row of its own


@dataclass
class LoraConfig:
    """Low-rank adapters (arXiv 2106.09685)."""

    rank: int = ranges.number(at_least=1)
    alpha: int = ranges.number(at_least=1)  # adapters are scaled by alpha / rank
    dropout: float = ranges.number(at_least=0, below=1)  # of their inputs
    modules: list[str] = MISSING  # linear layers that get one, by the end of their names
