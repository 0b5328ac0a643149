"""The next-id floor has no settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.schema import ModelConfig


@dataclass
class NextIdConfig(ModelConfig):
    """The item numbered after the highest of the history: shows whether item numbers leak the order of interactions."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates"})
    floor: ClassVar[bool] = True
