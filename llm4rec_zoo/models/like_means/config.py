"""Settings of the floor like_means."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING

from llm4rec_cli.config.schema import noted
from llm4rec_zoo.likes.config import CountedLikesConfig


class Means(Enum):
    """Whose likes are counted."""

    item = "item"
    user = "user"
    both = "both"


@dataclass
class LikeMeansConfig(CountedLikesConfig):
    """Smoothed shares of likes of the item and the user in training."""

    means: Means = noted(MISSING, named=True)
