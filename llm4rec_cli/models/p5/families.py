"""P5's families of prompts, and the shape of a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING


class Family(Enum):
    """P5's five families of prompts; each is one of our tasks, or the same task on other data (`transfer`)."""

    rating = "rating"
    sequential = "sequential"
    direct = "direct"
    explanation = "explanation"
    review_summary = "review_summary"


@dataclass
class PromptConfig:
    """One prompt: what is asked, and what shall be answered. Fields stand in braces."""

    family: Family = MISSING
    source: str = MISSING
    target: str = MISSING
    trained: bool = True  # false = held out, asked at evaluation alone
