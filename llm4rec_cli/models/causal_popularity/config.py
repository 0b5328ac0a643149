"""The causal popularity floor has no settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config.schema import ModelConfig


@dataclass
class CausalPopularityConfig(ModelConfig):
    """Of a click log, items by how often anyone clicked them before the moment that is asked about."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_impressions"})
    floor: ClassVar[bool] = True
