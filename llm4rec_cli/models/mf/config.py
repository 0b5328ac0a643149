"""Settings of matrix factorisation for ratings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import ModelConfig


@dataclass
class MfConfig(ModelConfig):
    """Biased matrix factorisation under squared error (Koren et al., Computer 2009)."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rate"})
    trainable: ClassVar[bool] = True
    needs_user: ClassVar[bool] = True

    embedding_size: int = ranges.number(at_least=1)
    initial_std: float = ranges.number(above=0)  # of the embeddings
    penalty: float = ranges.number(at_least=0)  # on the squares of what a rating is told by
