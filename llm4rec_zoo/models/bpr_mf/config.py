"""Settings of BPR-MF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import ModelConfig, Traits


@dataclass
class BprMfConfig(ModelConfig):
    """Matrix factorisation under Bayesian personalised ranking (Rendle et al., UAI 2009); ignores order."""

    traits: ClassVar[Traits] = Traits(frozenset({"rank_catalogue", "rank_candidates"}), trainable=True, needs_user=True)

    embedding_size: int = ranges.number(at_least=1)
    initial_std: float = ranges.number(above=0)  # of the embeddings
