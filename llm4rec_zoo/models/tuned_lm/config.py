"""Settings of tuned_lm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
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
from llm4rec_cli.labels import MAY_BE_MEMORISED
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

    def unused_settings(self, task: TaskConfig) -> Mapping[str, str]:
        answer = self._answer(task)
        unused: dict[str, str] = {}
        if self.tuning is not Tuning.lora:
            unused |= {f"lora.{own.name}": "model.tuning=lora" for own in fields(LoraConfig)}
        if self.tuning is Tuning.none:
            tuned = ("loss_on", "targets", "negatives", "rows", "gradient_checkpointing")
            unused |= dict.fromkeys(tuned, "model.tuning=lora")
        if answer is not Answer.title:
            unused["score"] = "model.answer=title"
        if task.question == "like":  # which has settings of its own: history and shots
            unused |= dict.fromkeys(("titles", "rows", "negatives"), "task=sequential")
        if answer is not Answer.yes_no:
            unused["negatives"] = "model.answer=yes_no"
        else:
            unused["targets"] = "model.answer=title"
        if answer is Answer.item_head:
            unused["loss_on"] = "model.answer=title"
        return unused

    def _tuned(self) -> str:
        tuned = {Tuning.lora: f"LoRA {self.lora.rank}", Tuning.full: "all weights", Tuning.none: "untuned"}[self.tuning]
        return tuned if self.frozen_weights is Frozen.fp32 else f"{tuned} on {self.frozen_weights.name}"

    def display_name(self) -> str:
        parts = [f"{self.name} {self.answer.name.replace('_', ' ')}", self._tuned()]
        parts += ["random weights"] if self.weights is Initial.random else []
        return ", ".join(parts)

    def paper_method(self, task: str) -> Mapping[str, str]:
        random = self.weights is Initial.random
        losses = {LossOn.answer: "answers", LossOn.all: "all tokens"}
        return {
            "method": self.name,
            "answer": self.answer.name,
            "tuned": self._tuned(),
            "loss": losses.get(self.loss_on, "none"),  # without effect where nothing is tuned, and under a head
            "weights": "random" if random else self.backbone.rstrip("/").rpartition("/")[2],
        }

    def labels(self, task: str) -> list[str]:
        return [MAY_BE_MEMORISED] if self.weights is Initial.pretrained else []

    def problems(self, config: Config) -> Iterator[UsageError]:
        yield from problems_in(self.prompts)
        if self.targets is Targets.every and self._answer(config.task) is not Answer.yes_no:
            yield from asks_last(self.prompts)
        if self.answer is Answer.item_head and self.tuning is Tuning.none:
            yield UsageError(
                "model.answer=item_head is a new layer, which model.tuning=none leaves random", "model.tuning=lora"
            )
        if find_spec("peft") is None:
            yield UsageError("model 'tuned_lm' needs peft, which is not installed", "pip install 'llm4rec[zoo]'")
        if self.frozen_weights is not Frozen.fp32:
            setting = f"model.frozen_weights={self.frozen_weights.name}"
            if self.tuning is Tuning.full:
                yield UsageError(
                    f"{setting} is for frozen weights, and model.tuning=full has none", "model.tuning=lora"
                )
            if find_spec("bitsandbytes") is None:
                yield UsageError(f"{setting} needs bitsandbytes, which is not installed", "pip install 'llm4rec[bits]'")
        if self.score is TitleScore.grounded and self.tuning is Tuning.full:
            yield UsageError(
                "model.score=grounded compares titles by the untuned model, which model.tuning=full overwrites",
                "model.tuning=lora",
            )
        if config.task.question == "like" and self._answer(config.task) is not Answer.yes_no:
            yield UsageError(
                f"model.answer={self.answer.name} ranks items, and task '{config.task.name}' asks about one",
                "model.answer=auto",
            )
        if self.answer is Answer.item_head and config.task.candidates is Candidates.impression:
            yield UsageError(
                "model.answer=item_head ranks items that occur in training, and impressions show new ones",
                "model.answer=yes_no or title",
            )

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[Llm4RecError]:
        yield from problems_without_titles(self.name, dataset)
