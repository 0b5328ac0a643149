"""P5's settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import (
    Candidates,
    Config,
    EncoderConfig,
    Index,
    LLMConfig,
    ModelConfig,
    ModelKind,
    PublishedWeights,
    Question,
    TaskConfig,
    Traits,
    Weights,
    added,
    weights,
)
from llm4rec_cli.errors import Llm4RecError
from llm4rec_cli.models.p5 import prompts
from llm4rec_cli.models.p5.facts import facts
from llm4rec_cli.models.p5.settings import (
    AnswerLoss,
    EvaluationPrompts,
    Explained,
    Feature,
    HistoryOrder,
    PromptConfig,
    SamplesConfig,
    Start,
    WholeWord,
)
from llm4rec_cli.models.shared.config import problems_of_stars
from llm4rec_cli.models.shared.t5_shapes import T5_SHAPES


@dataclass
class P5Config(ModelConfig):
    """P5 (RecSys 2022): every task as text, one T5, one loss."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates", "rate", "write", "all"}),
        ModelKind.paper,
        trainable=True,
        needs_user=True,
        zero_ranks_high=True,
        task_bound=True,
        published=PublishedWeights("jeykigung/P5 @1fa28ba", "p5/paper"),
    )

    backbone: str = weights(Weights.backbone, random=T5_SHAPES)  # a T5, or one of T5_SHAPES with random weights
    vocabulary: int = ranges.number(at_least=300)  # size of the tokenizer trained for T5_SHAPES; a T5 has its own
    index: Index = MISSING
    digits: int = ranges.number(at_least=1, at_most=3)  # digits of a user or item number per token
    whole_word: WholeWord = MISSING
    dropout: float = ranges.number(at_least=0, below=1)
    history: HistoryOrder = added(HistoryOrder.oldest_first)
    start: Start = added(Start.random)  # statistics: no effect unless index=independent
    loss: AnswerLoss = added(AnswerLoss.by_length)
    max_source: int = ranges.number(at_least=16)  # tokens
    max_target: int = ranges.number(at_least=4)  # tokens
    user_tokens: bool = added(False)  # each user is one token of its own, as items are with index=independent
    prompts: dict[str, PromptConfig] = MISSING  # by number, from the files in conf/prompt/p5
    train_prompts: list[str] | None = added(None)  # the prompts to train with; null = all but those held out
    explained: Explained = added(Explained.by_all)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    ask: EvaluationPrompts = field(default_factory=EvaluationPrompts, metadata={"role": Role.question})
    feature: Feature = field(default=Feature.of_review, metadata={"role": Role.question, "added": True})
    # null = exact scores of the whole catalogue
    beams: int | None = ranges.number(None, role=Role.question, at_least=1)
    encoder: EncoderConfig | None = field(default_factory=EncoderConfig)  # of item texts; for index=semantic only

    @property
    def results_version(self) -> int:
        """3 where held-out losses, by which an epoch may be kept, are without the whole words of training."""
        return 3 if self.whole_word is WholeWord.training else 2

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[Llm4RecError]:
        yield from prompts.problems_with_dataset(self, task, dataset)
        yield from problems_of_stars(self.name, dataset, 0.5, 5.5)

    def derived_settings(self, task: TaskConfig, llm: LLMConfig) -> Mapping[str, Any]:
        """Drop the encoder unless index=semantic, start=statistics for published weights and for items without a token
        of their own, and beams for candidates, which are scored exactly. They may be set with any index, backbone and
        task, so that sweeps over these work."""
        settings: dict[str, Any] = {} if self.index is Index.semantic else {"encoder": None}
        if task.question == Question.rank and task.candidates is not Candidates.full:
            settings["beams"] = None
        own_token = self.is_new and self.index is Index.independent
        return settings if own_token or not self.start.is_statistics else settings | {"start": Start.random}

    def uses_item_text(self) -> bool:
        return self.index is Index.semantic

    @property
    def is_new(self) -> bool:
        """Whether the backbone is trained from scratch."""
        return self.backbone in T5_SHAPES

    def facts(self, task: str = "", trained_on: str | None = None) -> Mapping[str, Any]:
        return facts(self, task, trained_on)

    def problems(self, config: Config) -> Iterator[Llm4RecError]:
        yield from prompts.problems(self)
        yield from prompts.problems_of_task(self, config.task)
