"""Settings of eSASRec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.models.shared.config import PositionedConfig


@dataclass
class ESASRecConfig(PositionedConfig):
    """SASRec with LiGR layers and sampled softmax (arXiv 2508.06450)."""

    results_version: ClassVar[int] = 2

    hidden_size: int = ranges.number(at_least=1, multiple_of="heads")
    inner_factor: int = ranges.number(at_least=1)  # units of SwiGLU, in multiples of hidden_size
    layers: int = ranges.number(at_least=1)
    heads: int = ranges.number(at_least=1)
    dropout: float = ranges.number(at_least=0, below=1)  # of item vectors, hidden states and attention
