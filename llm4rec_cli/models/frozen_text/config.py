"""Settings of the frozen-text floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from llm4rec_cli.config.schema import EncoderConfig, ModelConfig


@dataclass
class FrozenTextConfig(ModelConfig):
    """Closeness of an item's text to the texts of the history, by a frozen encoder. Nothing is trained."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates", "rank_impressions"})
    floor: ClassVar[bool] = True
    needs_text: ClassVar[bool] = True

    encoder: EncoderConfig = MISSING
