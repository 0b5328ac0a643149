"""Prompt4NR's settings, and the shape of a template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import Config, ModelConfig, Precision, TaskConfig, Weights, Work, precision, weights
from llm4rec_cli.errors import DataError, Llm4RecError, UsageError


@dataclass
class TemplateConfig:
    """One template: a text with {user}, {candidate} and one {mask}; {sep} parts segments, {P:3} are three virtual
    tokens named P; and the two words that may fill the mask."""

    name: str = MISSING
    text: str = MISSING
    positive: str = MISSING
    negative: str = MISSING
    epochs: int = ranges.number(at_least=1)  # of the published training


class Loss(Enum):
    """What a click is trained against."""

    pointwise = "pointwise"  # every candidate is an example of its own: clicked or not (paper)
    listwise = "listwise"  # a click and its negatives compete for one probability


class Draw(Enum):
    """When negatives are drawn."""

    fresh = "fresh"  # anew each epoch
    fixed = "fixed"  # once for all epochs (code)


@dataclass
class WarmUpConfig:
    """Masked-language-model training on the titles of the training part, before the task: for a head without one."""

    epochs: int = ranges.number(at_least=0)  # passes over the titles; 0 = none
    batch_size: int = ranges.number(at_least=1)  # titles
    learning_rate: float = ranges.number(above=0)  # of the backbone; the head has model.new_learning_rate
    precision: Precision = precision(Work.training)


@dataclass
class Prompt4NRConfig(ModelConfig):
    """Prompt4NR (SIGIR 2023): a masked language model fills the blank of a template about a user and a title."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_impressions", "rank_candidates"})
    trainable: ClassVar[bool] = True
    needs_text: ClassVar[bool] = True

    backbone: str = weights(Weights.backbone)  # `minilm` (packaged), a hub id, or a folder
    prompts: TemplateConfig = field(default_factory=TemplateConfig)
    prompt_only: bool = False  # the backbone is frozen; the virtual tokens alone are trained
    loss: Loss = MISSING
    negatives: int = ranges.number(at_least=1)  # a click
    draw: Draw = MISSING
    titles: int = ranges.number(at_least=1)  # of a history: the latest
    title_words: int = ranges.number(at_least=1)  # of each of them: the first
    candidate_words: int = ranges.number(at_least=1)
    history_tokens: int = ranges.number(at_least=1)  # of all titles together: the latest
    max_length: int = ranges.number(at_least=16)  # tokens of a filled template: the oldest titles give way
    new_learning_rate: float = ranges.number(above=0)  # of what is not pre-trained: virtual tokens, an untrained head
    epsilon: float = ranges.number(above=0)  # Adam's
    scoring: Precision = precision(Work.reading)  # the arithmetic of validation and test
    warm_up: WarmUpConfig = field(default_factory=WarmUpConfig)

    def shown_as(self) -> str:
        """`prompt4nr` with its template, and what of it is trained if not all."""
        name = f"prompt4nr {self.prompts.name}"
        return f"{name}, virtual tokens alone" if self.prompt_only else name

    def paper_method(self, task: str) -> Mapping[str, str]:
        trained = {} if not self.prompt_only else {"trained": "virtual tokens alone"}
        return {
            "method": "prompt4nr",
            "weights": Path(self.backbone).name,
            "template": self.prompts.name,
            **trained,
        }

    def problems_of_data(self, task: TaskConfig, dataset: Any) -> Iterator[Llm4RecError]:
        """Data without titles, answer words that are none of the backbone's, templates that leave no room."""
        from llm4rec_cli.models.prompt4nr import templates

        if "title" not in dataset.items or not (dataset.items["title"].fillna("").str.strip() != "").any():
            yield DataError(
                f"model 'prompt4nr' reads titles, and dataset '{dataset.manifest['name']}' has none",
                "choose a dataset with titles: llm4rec list datasets",
            )
        yield from templates.problems_of_backbone(self)

    def labels(self, task: str) -> list[str]:
        from llm4rec_cli.models.prompt4nr import templates

        found = [] if Path(self.backbone).name == "bert-base-uncased" else ["substitute-encoder"]
        return found if templates.has_head(self.backbone) else [*found, "untrained-head"]

    def deviations(self) -> list[str]:
        from llm4rec_cli.models.prompt4nr import templates

        found = []
        if Path(self.backbone).name != "bert-base-uncased":
            found.append(f"backbone {Path(self.backbone).name} in place of bert-base-uncased")
        if not templates.has_head(self.backbone):
            found.append("the head that fills the blank is new, where the paper's point is that nothing is")
        if self.warm_up.epochs:
            found.append("a masked-language-model warm-up on the titles of the training part, one for all seeds")
        if self.loss is Loss.listwise:
            found.append("a click and its negatives compete in one softmax; in the paper each stands alone")
        if self.draw is Draw.fresh:
            found.append("negatives are drawn anew each epoch; in the code once")
        if self.prompt_only:
            found.append("the virtual tokens alone are trained; in the paper everything is")
        if (self.titles, self.title_words, self.history_tokens) != (50, 10, 450):
            found.append(
                f"histories of {self.titles} titles of {self.title_words} words, {self.history_tokens} tokens at most; "
                "the paper's: 50, 10, 450"
            )
        if self.scoring is Precision.bf16:
            found.append("bf16 arithmetic in validation and test")
        found += [
            "what does not fit is cut off the oldest titles; in the code off the end, the blank with it",
            "dropout probabilities are rounded to 1/256",
        ]
        return found

    def problems(self, config: Config) -> Iterator[UsageError]:
        from llm4rec_cli.models.prompt4nr import templates

        yield from templates.faults(self)
