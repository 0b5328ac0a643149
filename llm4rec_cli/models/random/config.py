"""The random floor has no settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config.schema import ModelConfig


@dataclass
class RandomConfig(ModelConfig):
    """Uniformly random scores: chance."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates", "rank_impressions"})
    floor: ClassVar[bool] = True
    needs_user: ClassVar[bool] = True
