"""Settings of evidence_mix, without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import Config, EncoderConfig, ModelKind, TaskConfig, Traits, added, noted
from llm4rec_cli.errors import DataError, Llm4RecError, UsageError
from llm4rec_cli.models.shared.config import EncoderSizes


class Part(Enum):
    """A part of the model, which an ablation can leave out."""

    encoder = "encoder"  # a Transformer over text and ids
    ids = "ids"  # a vector for each item in the encoder
    vectors = "vectors"  # text vectors in the encoder
    following = "following"  # items that followed those of the history in training
    preceding = "preceding"  # items that preceded the last one
    text = "text"  # lexical neighbours


@dataclass
class EvidenceMixConfig(EncoderSizes):
    """Counts, lexical neighbours and popularity, mixed by learned gates, times a sequence encoder and recency."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates", "rank_new_items"}),
        ModelKind.ours,
        trainable=True,
        zero_ranks_high=True,
        bf16_scoring=True,
    )
    results_version: ClassVar[int] = 2

    encoder: EncoderConfig = MISSING
    parts: list[Part] = noted(MISSING, named=True)
    recency: bool = noted(added(False), named=True)  # items that occur late in training sequences score higher
    folds: int = ranges.number(at_least=2)  # of users, for cross-fitting
    steps: int = ranges.number(at_least=1)  # maximum distance of a transition
    neighbours: int = ranges.number(at_least=1)  # lexical neighbours of an item; up to twice as many where they tie
    groups: list[int] = ranges.number(at_least=1)  # ascending: the distance from the target at which each group ends
    gate_learning_rate: float = ranges.number(above=0)
    # items drawn for the softmax of a training step, besides those with evidence; null = the whole catalogue, as where
    # it has at most twice as many
    sampled_items: int | None = ranges.number(None, at_least=1, added=True)
    temperature: float = ranges.number(above=0)  # of the encoder's cosines

    def uses_item_text(self) -> bool:
        return Part.text in self.parts or {Part.encoder, Part.vectors} <= set(self.parts)

    def problems(self, config: Config) -> Iterator[Llm4RecError]:
        yield from super().problems(config)
        if self.groups != sorted(set(self.groups)) or not self.groups:
            yield UsageError(f"model.groups={self.groups} must be ascending distances", "model.groups=[1,3,50]")
        for part, n in Counter(self.parts).items():
            if n > 1:
                yield UsageError(f"model.parts names {part.name} {n} times", "name it once")

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[DataError]:
        if Part.encoder in self.parts and Part.ids not in self.parts and len(set(dataset.texts)) == 1:
            yield DataError(
                f"the encoder reads only text vectors, and the texts of '{dataset.manifest['name']}' are all alike",
                "add ids to model.parts, or leave out encoder and vectors",
            )

    def facts(self, task: str = "", trained_on: str | None = None) -> Mapping[str, Any]:
        left_out = [part.name for part in Part if part not in self.parts] + ["recency"] * (not self.recency)
        return {"left_out": ", ".join(left_out), "reads_text": self.uses_item_text()}
