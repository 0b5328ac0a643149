"""Settings of MLP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import ModelConfig, Traits


@dataclass
class MlpConfig(ModelConfig):
    """A multilayer perceptron over user and item embeddings, under squared error: P5's baseline MLP."""

    traits: ClassVar[Traits] = Traits(frozenset({"rate"}), trainable=True, needs_user=True)

    embedding_size: int = ranges.number(at_least=1)
    hidden_sizes: list[int] = ranges.number(at_least=1)  # of the layers, first to last
    dropout: float = ranges.number(at_least=0, below=1)  # of the embeddings and every layer
    initial_std: float = ranges.number(above=0)  # of the embeddings
