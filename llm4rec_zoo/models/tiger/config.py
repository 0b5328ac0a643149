"""Settings of TIGER."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import Traits, about, added
from llm4rec_zoo.ids.config import SemanticIdsConfig, Softmax


@dataclass
class TigerConfig(SemanticIdsConfig):
    """Semantic ids generated code by code by an encoder-decoder (NeurIPS 2023)."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates"}), trainable=True, needs_user=True, zero_ranks_high=True
    )

    user_tokens: int = ranges.number(at_least=0)  # into which users are hashed; 0 = users are not read
    hidden_size: int = ranges.number(at_least=1)
    inner_size: int = ranges.number(at_least=1)
    layers: int = ranges.number(at_least=1)  # of the encoder, and of the decoder
    heads: int = ranges.number(at_least=1)
    head_size: int = ranges.number(at_least=1)
    dropout: float = ranges.number(at_least=0, below=1)
    max_length: int = ranges.number(at_least=1)  # latest items of a history
    softmax: Softmax = added(Softmax.tokens)  # of a target's codes, in training
    embedding_rate: float = ranges.number(1.0, added=True, above=0)  # times trainer.learning_rate, for embeddings
    beams: int | None = ranges.number(None, role=Role.question, at_least=1)  # null = exact scores of all items
    constrained: bool = about(Role.question, MISSING)  # to ids of items; beams of no item are misses otherwise
