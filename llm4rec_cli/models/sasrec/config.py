"""SASRec's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from llm4rec_cli.models.base import ONE_PASS_DEVIATIONS
from llm4rec_cli.schema import ModelConfig


@dataclass
class SASRecConfig(ModelConfig):
    """Self-attentive sequential recommendation over item ids (ICDM 2018), with cross-entropy over the catalogue."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates"})
    trainable: ClassVar[bool] = True

    hidden_size: int = MISSING
    inner_size: int = MISSING
    layers: int = MISSING
    heads: int = MISSING
    dropout: float = MISSING  # of hidden states
    attention_dropout: float = MISSING
    max_length: int = MISSING  # items of a history, the latest kept

    def deviations(self) -> list[str]:
        return list(ONE_PASS_DEVIATIONS)
