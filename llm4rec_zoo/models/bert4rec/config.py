"""Settings of BERT4Rec."""

from __future__ import annotations

from dataclasses import dataclass

from llm4rec_cli.config import ranges
from llm4rec_cli.models.shared.config import TransformerConfig


@dataclass
class Bert4RecConfig(TransformerConfig):
    """A bidirectional Transformer over item ids, trained to fill in masked items (CIKM 2019)."""

    mask_ratio: float = ranges.number(above=0, at_most=1)  # of the items of a sequence, in training
    mask_last: float = ranges.number(at_least=0, at_most=1)  # share of sequences of which only the last item is masked
