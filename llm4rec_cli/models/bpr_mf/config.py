"""BPR-MF's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from llm4rec_cli.schema import ModelConfig


@dataclass
class BprMfConfig(ModelConfig):
    """Matrix factorisation under Bayesian personalised ranking (Rendle et al., UAI 2009): who, not when."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates"})
    trainable: ClassVar[bool] = True

    embedding_size: int = MISSING
    initial_std: float = MISSING  # of the embeddings
