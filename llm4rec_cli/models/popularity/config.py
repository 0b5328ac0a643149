"""The popularity floor has no settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config.schema import ModelConfig


@dataclass
class PopularityConfig(ModelConfig):
    """Items by how often they occur (of a click log, are clicked) in the training part, the same for everyone."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates", "rank_impressions"})
    floor: ClassVar[bool] = True
