"""Settings of sid_gpt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import Traits
from llm4rec_cli.models.shared.config import EncoderSizes
from llm4rec_zoo.ids.config import SemanticIdsConfig


@dataclass
class SidGPTConfig(EncoderSizes, SemanticIdsConfig):
    """Semantic ids generated code by code by a causal Transformer, with every target in one pass."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates"}), trainable=True, zero_ranks_high=True
    )

    beams: int | None = ranges.number(None, role=Role.question, at_least=1)  # null = exact scores of all items
