"""Settings of tuned_lm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
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
from llm4rec_zoo.models.tuned_lm.settings import (
    Answer,
    Frozen,
    Initial,
    LoraConfig,
    LossOn,
    Targets,
    TitleScore,
    Tuning,
)


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
