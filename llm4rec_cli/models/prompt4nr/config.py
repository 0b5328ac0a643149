"""Prompt4NR's settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import (
    Config,
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
from llm4rec_cli.errors import Llm4RecError
from llm4rec_cli.models.prompt4nr import templates
from llm4rec_cli.models.prompt4nr.settings import Attention, ClickLoss, NegativeDraw, WarmUpConfig
from llm4rec_cli.models.prompt4nr.templates import TemplateConfig
from llm4rec_cli.models.shared.config import problems_without_titles


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

    @property
    def has_head(self) -> bool:
        return templates.has_head(self.backbone)

    @property
    def history_comes_first(self) -> bool:
        return templates.history_comes_first(self.prompts.text)

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[Llm4RecError]:
        yield from problems_without_titles(self.name, dataset)
        yield from self.problems_of_backbone()

    def problems(self, config: Config) -> Iterator[Llm4RecError]:
        yield from templates.problems(self.prompts, self.backbone, self.shares_histories, self.prompt_only)
        yield from super().problems(config)

    def problems_of_backbone(self) -> Iterator[Llm4RecError]:
        yield from templates.problems_of_backbone(self.prompts, self.backbone, self.max_length, self.candidate_words)
