"""Settings of BSARec."""

from __future__ import annotations

from dataclasses import dataclass

from llm4rec_cli.config import ranges
from llm4rec_cli.models.shared.config import TransformerConfig


@dataclass
class BSARecConfig(TransformerConfig):
    """SASRec with a frequency filter parallel to each self-attention (AAAI 2024)."""

    components: int = ranges.number(at_least=1)  # c: lowest frequency components that pass the filter unscaled
    filter_weight: float = ranges.number(at_least=0, at_most=1)  # α, of the filter; 1 - α of self-attention
