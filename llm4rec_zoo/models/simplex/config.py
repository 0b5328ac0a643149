"""Settings of SimpleX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import ModelConfig, Traits


@dataclass
class SimpleXConfig(ModelConfig):
    """Cosine of an item with a mix of the user's vector and the history's mean, against many negatives (CIKM 2021)."""

    traits: ClassVar[Traits] = Traits(frozenset({"rank_catalogue", "rank_candidates"}), trainable=True, needs_user=True)

    embedding_size: int = ranges.number(at_least=1)
    max_length: int = ranges.number(at_least=1)  # latest items of a history
    user_weight: float = ranges.number(at_least=0, at_most=1)  # g, of the user's own vector; 1 - g of the history
    negatives: int = ranges.number(at_least=1)  # per interaction
    margin: float = ranges.number(at_least=-1, at_most=1)  # m: a negative of a lower cosine costs nothing
    negative_weight: float = ranges.number(at_least=0)  # w, of the mean over the negatives
    dropout: float = ranges.number(at_least=0, below=1)  # of the mixed vector
