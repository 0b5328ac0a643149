"""P5's settings, and the shape of a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import Config, EncoderConfig, Index, LLMConfig, ModelConfig, TaskConfig, Weights, weights
from llm4rec_cli.errors import Llm4RecError, problems_raised_by
from llm4rec_cli.models.p5 import prompts
from llm4rec_cli.models.p5.families import Family, PromptConfig


class Shape(NamedTuple):
    """Of a T5 whose weights are drawn, not published."""

    layers: int
    width: int
    heads: int
    head_size: int
    inner_size: int


# By backbone; `small` is t5-small's shape.
SHAPES = {
    "tiny": Shape(2, 128, 4, 32, 512),
    "mini": Shape(4, 256, 4, 64, 1024),
    "small": Shape(6, 512, 8, 64, 2048),
}


@dataclass
class Asked:
    """Which prompt each task is asked with at evaluation."""

    rating: str = MISSING
    sequential: str = MISSING
    direct: str = MISSING
    explanation: str = MISSING
    review_summary: str = MISSING


class Targets(Enum):
    """Which training items of a user are asked for."""

    last_three = (
        "last_three"  # the code's: any of the last three, after a history that begins at one of the first three
    )
    every = "every"  # any that has a history, which is told from its beginning (OpenP5)


class Negatives(Enum):
    """What a negative may not be."""

    known = "known"  # an item of the user's training part
    whole = "whole"  # any item of the user's, the held-out ones too (code): so the test item is never a negative


class WholeWord(Enum):
    """When whole-word embeddings are added."""

    always = "always"
    training = "training"  # in training alone: the published evaluation leaves them out
    never = "never"


@dataclass
class SamplesConfig:
    """How many examples an epoch has of each kind: an interaction, or a user; each draws its prompt anew."""

    rating: int = ranges.number(at_least=0)  # an interaction
    explanation: int = ranges.number(at_least=0)  # an interaction
    review_summary: int = ranges.number(at_least=0)  # an interaction
    sequential_item: int = ranges.number(at_least=0)  # a user; the next item
    sequential_candidates: int = ranges.number(at_least=0)  # a user; the next item out of 100
    sequential_yes_no: int = ranges.number(at_least=0)  # a user; is it this one?
    direct_item: int = ranges.number(at_least=0)  # a user; an item without a history
    direct_candidates: int = ranges.number(at_least=0)  # a user; an item out of 100
    direct_yes_no: int = ranges.number(at_least=0)  # a user; is it this one?
    targets: Targets = MISSING
    negatives: Negatives = MISSING


@dataclass
class P5Config(ModelConfig):
    """P5 (RecSys 2022): every task as text, one T5, one loss."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates", "rate", "write", "all"})
    trainable: ClassVar[bool] = True
    needs_user: ClassVar[bool] = True
    task_bound: ClassVar[bool] = True

    backbone: str = weights(Weights.backbone, drawn=SHAPES)  # one of SHAPES, drawn anew; or a T5
    vocabulary: int = ranges.number(at_least=300)  # pieces of the tokenizer trained on the corpus; hub: its own
    index: Index = MISSING
    digits: int = ranges.number(at_least=1, at_most=3)  # of a user's or item's number that make one piece
    whole_word: WholeWord = MISSING
    dropout: float = ranges.number(at_least=0, below=1)
    max_source: int = ranges.number(at_least=16)  # tokens
    max_target: int = ranges.number(at_least=4)  # tokens
    prompts: dict[str, PromptConfig] = MISSING
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    ask: Asked = field(default_factory=Asked, metadata={"role": Role.question})
    beams: int | None = ranges.number(
        None, role=Role.question, at_least=1
    )  # null = the whole catalogue is scored, exactly
    encoder: EncoderConfig | None = field(default_factory=EncoderConfig)  # of item texts; read by index=semantic alone

    def problems_of_data(self, task: TaskConfig, dataset: Any) -> Iterator[Llm4RecError]:
        """Prompts that do not fit the dataset, ratings that are no stars, and data that lack what the asked prompt
        tells."""
        yield from prompts.faults_of_data(self, dataset)
        yield from self.problems_of_stars(dataset, 0.5, 5.5)
        if task.name in Family.__members__:
            yield from problems_raised_by(partial(prompts.asked, self, Family[task.name], dataset))

    def resolved(self, task: TaskConfig, llm: LLMConfig) -> Mapping[str, Any]:
        """Of another index than by texts no encoder is read; one may be typed, as indexes are swept over."""
        return {} if self.index is Index.semantic else {"encoder": None}

    def reads_text(self) -> bool:
        return self.index is Index.semantic

    def shown_as(self) -> str:
        """`p5` with what of it is compared most: its backbone and how items are numbered."""
        return f"p5 {Path(self.backbone).name}, {self.index.name} ids"

    def paper_method(self, task: str) -> Mapping[str, str]:
        """With the paper's names of prompts; stars read from the review are its task `review_preference`."""
        name, prompt = Path(self.backbone).name, getattr(self.ask, task, None)
        method = {
            "method": "p5",
            "size": "base" if name == "t5-base" else "small",
            "weights": f"{name}, from scratch" if self.backbone in SHAPES else name,
            "ids": self.index.name,
            "whole-word embeddings in evaluation": "yes" if self.whole_word is WholeWord.always else "no",
            "decoding": f"beam search of {self.beams}, item names" if self.beams else "likelihood of every item name",
            "direct samples of a user": str(self.samples.direct_candidates),
        }
        if prompt is not None:
            method["prompt"] = prompt
            if task == "rating" and "{review}" in self.prompts[prompt].source:
                method["task"] = "review_preference"
        return method

    def labels(self, task: str) -> list[str]:
        found = []
        if self.backbone in SHAPES:
            found.append("substitute-backbone")
        if self.index is Index.leaky_p5:
            found.append("leaky")
        asked = getattr(self.ask, task, None)
        if asked in self.prompts and prompts.is_oracle(self.prompts[asked]):
            found.append("oracle_input")
        if asked in self.prompts and "{like}" in self.prompts[asked].target:
            found.append("like-only")  # an error in stars means nothing then
        return found

    def deviations(self) -> list[str]:
        found = [
            "numbers are read by their digits, padded with zeros to one length; T5's tokenizer splits them as it likes"
        ]
        if self.backbone in SHAPES:
            found.append(f"the backbone `{self.backbone}` is trained from scratch, with a tokenizer of its own")
        if self.index is not Index.leaky_p5:
            found.append(f"items are numbered by index={self.index.name}; the paper's numbers leak the test items")
        if self.whole_word is WholeWord.always:
            found.append("whole-word embeddings at evaluation too; the published evaluation leaves them out")
        if self.samples.negatives is Negatives.known:
            found.append("a negative is any item unseen in training; the code never draws the user's test item")
        if self.samples.targets is Targets.every:
            found.append("any training item is a target; the code asks for the last three alone")
        if self.samples.direct_item:
            found.append("also trained to name an item from the user alone, OpenP5's task")
        decoding = f"a beam search of {self.beams}" if self.beams else "the likelihood of every item's name"
        found += [
            f"items are ranked by {decoding}, over items' names alone; the code's beam search of 20 writes anything",
            "stars are the mean of their classes by likelihood; what is said stands beside, 5.0 and whole numbers too",
            "all prompts of a dataset's candidates share the same negatives; the code draws some anew",
            f"a source beyond {self.max_source} tokens loses its oldest history; the code's, beyond 512, its end",
            "norms are not decayed, and Adam's epsilon is 1e-8; in the code all is decayed, and it is 1e-6",
        ]
        return found

    def problems(self, config: Config) -> Iterator[Llm4RecError]:
        yield from prompts.faults(self)
        yield from prompts.faults_of_asking(self, config.task)
