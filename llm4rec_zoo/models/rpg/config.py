"""Settings of RPG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import Traits
from llm4rec_cli.models.shared.config import EncoderSizes
from llm4rec_zoo.ids.config import SemanticIdsConfig


@dataclass
class RPGConfig(EncoderSizes, SemanticIdsConfig):
    """Long semantic ids whose codes are predicted in parallel (KDD 2025)."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates"}), trainable=True, zero_ranks_high=True, bf16_scoring=True
    )

    temperature: float = ranges.number(above=0)  # that divides cosines of states and codes
