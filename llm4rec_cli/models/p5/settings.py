"""The values that settings of P5 take, and the settings of its prompts and training examples."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import added

if TYPE_CHECKING:
    from llm4rec_cli.models.shared.usual_features import FeatureOwner


class PromptFamily(Enum):
    """P5's five prompt families. Each is one of our tasks, or the same task on other data (`transfer`)."""

    rating = "rating"
    sequential = "sequential"
    direct = "direct"
    explanation = "explanation"
    review_summary = "review_summary"


class Explained(Enum):
    """The prompts of explanations that are trained with."""

    by_all = "by_all"  # paper
    by_feature = "by_feature"  # those that show a feature, if there are any


@dataclass
class PromptConfig:
    """One prompt: the templates of its source and target, with fields in braces."""

    family: PromptFamily = MISSING
    source: str = MISSING
    target: str = MISSING
    trained: bool = True  # false = held out, used at evaluation only


@dataclass
class EvaluationPrompts:
    """The name of the prompt that each task is evaluated with; for a ranking also several, 2-4+2-5: the mean score."""

    rating: str = MISSING
    sequential: str = MISSING
    direct: str = MISSING
    explanation: str = MISSING
    review_summary: str = MISSING


class Targets(Enum):
    """Which training items of a user are targets."""

    last_three = "last_three"  # code: one of the last three; its history begins at one of the first three
    every = "every"  # any item with a history, which is shown from its beginning (OpenP5)


class Negatives(Enum):
    """Which items may not be drawn as negatives."""

    known = "known"  # items of the user's training part
    whole = "whole"  # all the user's items, held-out ones included (code): so the test item is never a negative


class PerUnit(Enum):
    """What the examples of an epoch are counted by, of a ranking."""

    user = "user"  # code: each example draws its target from the user's items, so some are drawn twice and some never
    interaction = "interaction"  # each possible target of a user equally often; of direct, the paper's appendix


class AnswerLoss(Enum):
    """How the cross-entropy of an answer's tokens is summed up."""

    by_length = "by_length"  # divided by the number of tokens: each answer counts alike
    by_length_twice = "by_length_twice"  # code: divided by it again, so that a long answer counts less


class Start(Enum):
    """What the embeddings of item codes start from."""

    random = "random"  # as T5 draws its embeddings
    statistics = "statistics"  # factors of which item follows which, mean stars; attention carries them to the output
    # the same, and the digits that begin an answer in stars start from their value
    statistics_and_stars = "statistics_and_stars"

    @property
    def is_statistics(self) -> bool:
        return self in (Start.statistics, Start.statistics_and_stars)


class Feature(Enum):
    """The feature that an evaluation prompt shows."""

    of_review = "of_review"  # paper: the feature of the review to be written (oracle input)
    of_user = "of_user"  # the most frequent one of the user's training reviews
    of_item = "of_item"  # the most frequent one of the item's training reviews

    @property
    def owner(self) -> FeatureOwner | None:
        """Whose usual feature is shown; None for the review's own."""
        owners: dict[Feature, FeatureOwner] = {Feature.of_user: "user", Feature.of_item: "item"}
        return owners.get(self)


class HistoryOrder(Enum):
    """The order of the items of a history in a prompt."""

    oldest_first = "oldest_first"  # paper
    newest_first = "newest_first"  # the latest item is always the same word of a prompt, so its position is known


class WholeWord(Enum):
    """When whole-word embeddings are added."""

    always = "always"
    training = "training"  # in training only: the published evaluation omits them
    never = "never"


@dataclass
class SamplesConfig:
    """Training examples per epoch and kind, per interaction or per user; each example draws its own prompt."""

    rating: int = ranges.number(at_least=0)  # per interaction
    explanation: int = ranges.number(at_least=0)  # per interaction
    review_summary: int = ranges.number(at_least=0)  # per interaction
    sequential_item: int = ranges.number(at_least=0)  # per `sequential_per`; the next item
    sequential_candidates: int = ranges.number(at_least=0)  # per `sequential_per`; the next item out of 100
    sequential_yes_no: int = ranges.number(at_least=0)  # per `sequential_per`; whether an item comes next
    direct_item: int = ranges.number(at_least=0)  # per `direct_per`; an item, without a history
    direct_candidates: int = ranges.number(at_least=0)  # per `direct_per`; an item out of 100
    direct_yes_no: int = ranges.number(at_least=0)  # per `direct_per`; whether the user likes an item
    targets: Targets = MISSING
    negatives: Negatives = MISSING
    sequential_per: PerUnit = added(PerUnit.user)
    direct_per: PerUnit = added(PerUnit.user)
