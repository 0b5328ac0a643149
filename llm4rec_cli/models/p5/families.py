"""P5's prompt families, and the config of a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING


class PromptFamily(Enum):
    """P5's five prompt families; each is one of our tasks, or the same task on other data (`transfer`)."""

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
