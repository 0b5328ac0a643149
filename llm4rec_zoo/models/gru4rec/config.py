"""Settings of GRU4Rec."""

from __future__ import annotations

from dataclasses import dataclass

from llm4rec_cli.config import ranges
from llm4rec_cli.models.shared.config import NextItemConfig


@dataclass
class Gru4RecConfig(NextItemConfig):
    """A GRU over item ids (Hidasi et al., ICLR 2016), in RecBole's form (Tan et al., DLRS 2016)."""

    embedding_size: int = ranges.number(at_least=1)
    hidden_size: int = ranges.number(at_least=1)  # of the GRU's state
    layers: int = ranges.number(at_least=1)
    dropout: float = ranges.number(at_least=0, below=1)  # of the GRU's input
