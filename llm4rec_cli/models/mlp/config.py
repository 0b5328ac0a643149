"""Settings of the multilayer perceptron for ratings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import ModelConfig


@dataclass
class MlpConfig(ModelConfig):
    """A user's and an item's embedding through a multilayer perceptron, under squared error: P5's baseline MLP."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rate"})
    trainable: ClassVar[bool] = True
    needs_user: ClassVar[bool] = True

    embedding_size: int = ranges.number(at_least=1)
    hidden_sizes: list[int] = ranges.number(at_least=1)  # of the layers, from the embeddings on
    dropout: float = ranges.number(at_least=0, below=1)  # of the embeddings and of every layer
    initial_std: float = ranges.number(above=0)  # of the embeddings
