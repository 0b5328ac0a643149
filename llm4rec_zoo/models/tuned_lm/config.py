"""Settings of tuned_lm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from importlib.util import find_spec
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import (
    Candidates,
    Config,
    LLMConfig,
    ModelConfig,
    Precision,
    TaskConfig,
    Traits,
    Weights,
    Work,
    added,
    precision,
)
from llm4rec_cli.config.schema import weights as names_weights
from llm4rec_cli.errors import Llm4RecError, UsageError
from llm4rec_cli.models.shared.config import problems_without_titles
from llm4rec_zoo.models.tuned_lm.prompts import Prompts, asks_last, problems_in


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


@dataclass
class TunedLmConfig(ModelConfig):
    """A causal language model, tuned on prompts."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates", "rank_impressions", "like"}),
        trainable=True,
        zero_ranks_high=True,
    )

    backbone: str = names_weights(Weights.causal)  # `smollm2` (packaged), a hub id, a folder or a GGUF file
    weights: Initial = MISSING
    tuning: Tuning = MISSING
    lora: LoraConfig = field(default_factory=LoraConfig)
    frozen_weights: Frozen = added(Frozen.fp32)  # of linear layers
    answer: Answer = MISSING
    score: TitleScore = MISSING
    loss_on: LossOn = MISSING
    targets: Targets = MISSING
    titles: int = ranges.number(at_least=1)  # of a history: the latest
    title_tokens: int = ranges.number(at_least=2)  # of a title: the first
    negatives: int = ranges.number(at_least=1)  # for each click, asked about as well; yes_no
    rows: int | None = ranges.number(None, at_least=1)  # training rows, drawn by `seed`; null = all
    scoring: Precision = precision(Work.reading)  # in validation and test
    gradient_checkpointing: bool = False  # computes activations twice, to store fewer
    prompts: Prompts = field(default_factory=Prompts)

    def __post_init__(self) -> None:
        if self.tuning is Tuning.none:
            self.traits = replace(type(self).traits, trainable=False)  # type: ignore[misc]

    def derived_settings(self, task: TaskConfig, llm: LLMConfig) -> Mapping[str, Any]:
        return {"answer": self._answer(task)}

    def _answer(self, task: TaskConfig) -> Answer:
        if self.answer is not Answer.auto:
            return self.answer
        decides = task.question == "like" or task.candidates is Candidates.impression
        return Answer.yes_no if decides else Answer.title

    @property
    def tuned(self) -> str:
        """What is tuned, in words."""
        tuned = {Tuning.lora: f"LoRA {self.lora.rank}", Tuning.full: "all weights", Tuning.none: "untuned"}[self.tuning]
        return tuned if self.frozen_weights is Frozen.fp32 else f"{tuned} on {self.frozen_weights.name}"

    def problems(self, config: Config) -> Iterator[Llm4RecError]:
        yield from super().problems(config)
        yield from problems_in(self.prompts)
        if self.targets is Targets.every and self._answer(config.task) is not Answer.yes_no:
            yield from asks_last(self.prompts)
        if find_spec("peft") is None:
            yield UsageError("model 'tuned_lm' needs peft, which is not installed", "pip install 'llm4rec[zoo]'")
        if self.frozen_weights is not Frozen.fp32 and find_spec("bitsandbytes") is None:
            yield UsageError(
                f"model.frozen_weights={self.frozen_weights.name} needs bitsandbytes, which is not installed",
                "pip install 'llm4rec[bits]'",
            )

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[Llm4RecError]:
        yield from problems_without_titles(self.name, dataset)
