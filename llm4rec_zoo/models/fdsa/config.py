"""Settings of FDSA."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from omegaconf import MISSING

from llm4rec_cli.config.schema import EncoderConfig, Traits
from llm4rec_cli.models.shared.config import TransformerConfig


@dataclass
class FdsaConfig(TransformerConfig):
    """Two self-attention streams, over item ids and over item texts (IJCAI 2019), as in UniSRec's table."""

    traits: ClassVar[Traits] = replace(TransformerConfig.traits, needs_text=True)

    encoder: EncoderConfig = MISSING
