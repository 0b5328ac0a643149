"""Settings of the floor liked_share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config.schema import ModelConfig, ModelKind, Traits


@dataclass
class LikedShareConfig(ModelConfig):
    """The share of likes in the history, the same for all targets."""

    traits: ClassVar[Traits] = Traits(frozenset({"like"}), kind=ModelKind.floor, seeded=False)
