"""Settings of the floor transition_graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import EncoderConfig, ModelConfig, ModelKind, Traits


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
