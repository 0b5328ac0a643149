"""Settings of the floor transition_graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import Deviations, EncoderConfig, ModelConfig, ModelKind, TaskConfig, Traits


@dataclass
class TransitionGraphConfig(ModelConfig):
    """Items a few steps from the last one in the graph of transitions, by similarity of their texts."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates"}),
        kind=ModelKind.floor,
        seeded=False,
        needs_text=True,
        zero_ranks_high=True,
    )

    encoder: EncoderConfig = MISSING
    budgets: list[int] = ranges.number(at_least=0)  # items taken from the rings at one, two, … steps
    edge_weight: float = ranges.number(at_least=0, at_most=1)  # w, of the number of transitions

    def labels(self, task: str) -> list[str]:
        return ["substitute-encoder"] if Path(self.encoder.name).name != "flan-t5-xl" else []

    def deviations(self, task: TaskConfig, trained_on: str | None) -> Deviations:
        name = Path(self.encoder.name).name
        return {"own_ring": True, "no_ring": True, "encoder": name != "flan-t5-xl" and {"weights": name}}
