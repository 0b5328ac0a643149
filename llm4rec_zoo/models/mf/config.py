"""Settings of MF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import ModelConfig, Traits


@dataclass
class MfConfig(ModelConfig):
    """Biased matrix factorisation under squared error (Koren et al., Computer 2009)."""

    traits: ClassVar[Traits] = Traits(frozenset({"rate"}), trainable=True, needs_user=True)

    embedding_size: int = ranges.number(at_least=1)
    initial_std: float = ranges.number(above=0)  # of the embeddings
    penalty: float = ranges.number(at_least=0)  # L2 penalty λ on embeddings and biases
