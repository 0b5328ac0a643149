"""Settings of the floor like_logistic."""

from __future__ import annotations

from dataclasses import dataclass

from llm4rec_cli.config import ranges
from llm4rec_zoo.likes.config import CountedLikesConfig


@dataclass
class LikeLogisticConfig(CountedLikesConfig):
    """A logistic regression of the shares of likes of history, item and user."""

    penalty: float = ranges.number(above=0)  # L2
