"""Settings of the floor like_text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config.schema import ModelConfig, ModelKind, Traits


@dataclass
class LikeTextConfig(ModelConfig):
    """Likeness of the target's title to liked titles of the history, minus that to disliked ones."""

    traits: ClassVar[Traits] = Traits(frozenset({"like"}), kind=ModelKind.floor, seeded=False, needs_text=True)
