"""Settings of the transition-and-text floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import ModelConfig


@dataclass
class TransitionTextConfig(ModelConfig):
    """Item-to-item transitions and TF-IDF closeness of the latest items' text: the floor that matters."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates"})
    floor: ClassVar[bool] = True

    recent: int = ranges.number(at_least=1)  # items of the history that count, the latest kept
    steps: int = ranges.number(at_least=1)  # how far ahead a transition reaches
    text_weights: list[float] = ranges.number(at_least=0)  # the weight w of text is chosen among these on validation
    mask_history: bool = MISSING  # while w is chosen: as the task has it

    def reads_text(self) -> bool:
        return True
