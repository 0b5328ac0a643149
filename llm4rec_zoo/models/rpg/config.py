"""Settings of RPG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import Config, Deviations, TaskConfig, Traits
from llm4rec_cli.errors import Llm4RecError, UsageError
from llm4rec_cli.models.shared.config import EncoderSizes
from llm4rec_zoo.ids.config import IdKind, SemanticIdsConfig


@dataclass
class RPGConfig(EncoderSizes, SemanticIdsConfig):
    """Long semantic ids whose codes are predicted in parallel (KDD 2025)."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates"}), trainable=True, zero_ranks_high=True, bf16_scoring=True
    )

    temperature: float = ranges.number(above=0)  # that divides cosines of states and codes

    def problems(self, config: Config) -> Iterator[Llm4RecError]:
        yield from super().problems(config)
        if self.ids.kind.is_tree:
            yield UsageError(
                f"model '{self.name}' predicts all codes of an item at once, and ids of "
                f"model.ids.kind={self.ids.kind.name} are paths of different lengths",
                "model.ids.kind=opq, rq_kmeans, rq_vae or random",
            )

    def paper_method(self, task: str) -> Mapping[str, str]:
        return {**super().paper_method(task), "decoding": "exact"}

    def paper_experiment(self, task: TaskConfig) -> str:
        return "rpg/paper"

    def deviations(self, task: TaskConfig, trained_on: str | None) -> Deviations:
        is_opq = self.ids.kind is IdKind.opq
        whitens = self.encoder is not None and self.encoder.whiten
        return {"exact": True, "windows": True, "not_whitened": is_opq and not whitens, "fitted_to_catalogue": is_opq}
