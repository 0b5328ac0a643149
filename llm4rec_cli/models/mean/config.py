"""Settings of the floor of means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import ModelConfig


@dataclass
class MeanConfig(ModelConfig):
    """The mean rating, and how far the item's and the user's ratings lie from it."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rate"})
    floor: ClassVar[bool] = True
    needs_user: ClassVar[bool] = True

    damping: list[float] = ranges.number(at_least=0)  # ratings of nobody, equal to the mean; chosen on validation
