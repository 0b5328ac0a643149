"""Prompt4NR's settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import (
    Config,
    Deviations,
    ModelConfig,
    ModelKind,
    Precision,
    PublishedWeights,
    TaskConfig,
    Traits,
    Weights,
    Work,
    added,
    noted,
    precision,
    weights,
)
from llm4rec_cli.errors import Llm4RecError, UsageError
from llm4rec_cli.models.prompt4nr import templates
from llm4rec_cli.models.prompt4nr.templates import TemplateConfig
from llm4rec_cli.models.shared.config import backbone_deviation, problems_without_titles


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
class DistillationConfig:
    """Training to order candidates as frozen text does, before the clicks; for a head that is new."""

    steps: int = ranges.number(0, at_least=0, added=True)  # 0 = none
    histories: int = ranges.number(8, at_least=1, added=True)  # per step
    candidates: int = ranges.number(16, at_least=2, added=True)  # per history
    learning_rate: float = ranges.number(2e-4, above=0, added=True)  # of the backbone; new weights: new_learning_rate
    temperature: float = ranges.number(0.05, above=0, added=True)  # of the softmax over the candidates' similarities
    centred: bool = added(True)  # of frozen_text, the teacher: its model.centred
    history_temperature: float | None = ranges.number(0.2, above=0, added=True)  # its model.temperature
    seed: int = ranges.number(0, at_least=0, added=True)  # of its draws; that of the training on clicks is another


@dataclass
class WarmUpConfig:
    """Masked-language-model training on the titles of the training part, for backbones without a trained head."""

    epochs: int = ranges.number(at_least=0)  # passes over the texts; 0 = none
    batch_size: int = ranges.number(at_least=1)  # titles
    learning_rate: float = ranges.number(above=0)  # of the backbone; a new head: model.new_learning_rate
    precision: Precision = precision(Work.training)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)


@dataclass
class Prompt4NRConfig(ModelConfig):
    """Prompt4NR (SIGIR 2023): a masked language model fills in the answer word of a template."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_impressions", "rank_candidates"}),
        ModelKind.paper,
        trainable=True,
        needs_text=True,
        published=PublishedWeights("resistzzz/Prompt4NR @1db7199", "prompt4nr/paper"),
    )
    results_version: ClassVar[int] = 3

    backbone: str = weights(Weights.backbone)  # `minilm` (packaged), a hub id, or a folder
    prompts: TemplateConfig = noted(field(default_factory=TemplateConfig), named=True, names_member=True)
    prompt_only: bool = False  # train the virtual tokens only; the backbone is frozen
    attention: Attention = added(Attention.full)
    loss: ClickLoss = MISSING
    negatives: int = ranges.number(at_least=1)  # per click
    draw: NegativeDraw = MISSING
    titles: int = ranges.number(at_least=1)  # per history: the latest
    title_words: int = ranges.number(at_least=1)  # per title of the history: the first
    candidate_words: int = ranges.number(at_least=1)
    history_tokens: int = ranges.number(at_least=1)  # of all titles: the latest
    max_length: int = ranges.number(at_least=16)  # tokens of a filled template; the oldest titles are cut off
    new_learning_rate: float = ranges.number(above=0)  # of weights not pre-trained: virtual tokens, an untrained head
    epsilon: float = ranges.number(above=0)  # Adam's
    scoring: Precision = precision(Work.reading)  # in validation and test
    warm_up: WarmUpConfig = field(default_factory=WarmUpConfig)

    @property
    def shares_histories(self) -> bool:
        """Whether the candidates of a history share its states."""
        return self.attention is Attention.shared

    def unused_settings(self, task: TaskConfig) -> Mapping[str, str]:
        unused: dict[str, str] = {}
        if not (self.warm_up.epochs or self.warm_up.distillation.steps):
            unused["warm_up.precision"] = "model.warm_up.epochs=1 or model.warm_up.distillation.steps=600"
        if not self.warm_up.epochs:
            names = ["warm_up.batch_size", "warm_up.learning_rate"]
            unused |= dict.fromkeys(names, "model.warm_up.epochs=1")
        if not self.warm_up.distillation.steps:
            names = [setting.name for setting in fields(DistillationConfig) if setting.name != "steps"]
            unused |= {f"warm_up.distillation.{name}": "model.warm_up.distillation.steps=600" for name in names}
        return unused

    def display_name(self) -> str:
        """Return `prompt4nr` with its template, and what makes it another method than the paper's."""
        return ", ".join([f"prompt4nr {self.prompts.name}", *self._departures()])

    def _departures(self) -> list[str]:
        parts = ["shared histories"] if self.shares_histories else []
        parts += ["distilled"] if self.warm_up.distillation.steps else []
        return parts + (["virtual tokens alone"] if self.prompt_only else [])

    def paper_experiment(self, task: TaskConfig) -> str:
        return "prompt4nr/paper"

    def paper_method(self, task: str) -> Mapping[str, str]:
        method = ", ".join(["prompt4nr", *self._departures()])
        return {"method": method, "weights": Path(self.backbone).name, "template": self.prompts.name}

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[Llm4RecError]:
        yield from problems_without_titles(self.name, dataset)
        yield from self.problems_of_backbone()

    def labels(self, task: str) -> list[str]:
        labels = ["substitute-encoder"] if any(backbone_deviation(self.backbone).values()) else []
        return labels if templates.has_head(self.backbone) else [*labels, "untrained-head"]

    def deviations(self, task: TaskConfig, trained_on: str | None) -> Deviations:
        warm_up, shares = self.warm_up, self.shares_histories
        of_training: Deviations = {
            **backbone_deviation(self.backbone),
            "new_head": not templates.has_head(self.backbone),
            "warm_up": warm_up.epochs > 0,
            "distillation": warm_up.distillation.steps > 0,
            "listwise": self.loss is ClickLoss.listwise,
            **dict.fromkeys(("shared_states", "short_candidates"), shares),
            "history_position": shares and not templates.history_comes_first(self.prompts.text),
            "fresh_negatives": self.draw is NegativeDraw.fresh,
            "prompt_only": self.prompt_only,
        }
        return {
            **(of_training if trained_on else {}),
            "history_size": (self.titles, self.title_words, self.history_tokens) != (50, 10, 450),
            "bf16_scoring": self.scoring is Precision.bf16,
            "cut_off": True,
        }

    def problems(self, config: Config) -> Iterator[Llm4RecError]:
        yield from templates.problems(self.prompts, self.backbone, self.shares_histories, self.prompt_only)
        if self.prompt_only and self.warm_up.distillation.steps:
            yield UsageError(
                "model.prompt_only=true trains only virtual tokens, and model.warm_up.distillation.steps="
                f"{self.warm_up.distillation.steps} trains the backbone, too",
                "model.warm_up.distillation.steps=0",
            )

    def problems_of_backbone(self) -> Iterator[Llm4RecError]:
        yield from templates.problems_of_backbone(self.prompts, self.backbone, self.max_length, self.candidate_words)
