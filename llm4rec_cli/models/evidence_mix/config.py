"""Settings of evidence_mix, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import Config, EncoderConfig
from llm4rec_cli.errors import UsageError
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
    """Counts, lexical neighbours and popularity, mixed by learned gates, times a sequence encoder over text and ids."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates", "rank_new_items"})
    trainable: ClassVar[bool] = True
    results_version: ClassVar[int] = 2

    named_settings: ClassVar[tuple[str, ...]] = ("parts",)

    encoder: EncoderConfig = MISSING
    parts: list[Part] = MISSING
    folds: int = ranges.number(at_least=2)  # of users, for cross-fitting
    steps: int = ranges.number(at_least=1)  # maximum distance of a transition
    neighbours: int = ranges.number(at_least=1)  # lexical neighbours of an item; more where similarities tie
    groups: list[int] = ranges.number(at_least=1)  # ascending: the distance from the target at which each group ends
    gate_learning_rate: float = ranges.number(above=0)
    # items drawn for the softmax of a training step, besides those with evidence; null = the whole catalogue, as where
    # it has no more items
    sampled_items: int | None = ranges.number(None, at_least=1, added=True)
    temperature: float = ranges.number(above=0)  # of the encoder's cosines

    def uses_item_text(self) -> bool:
        return bool({Part.text, Part.vectors} & set(self.parts))

    def problems(self, config: Config) -> Iterator[UsageError]:
        if self.groups != sorted(set(self.groups)) or not self.groups:
            yield UsageError(f"model.groups={self.groups} must be ascending distances", "model.groups=[1,3,50]")
        if Part.encoder in self.parts and not {Part.ids, Part.vectors} & set(self.parts):
            yield UsageError("the encoder has no input: model.parts names neither ids nor vectors", "add ids")

    def problems_with_new_items(self) -> Iterator[UsageError]:
        if not self.uses_item_text():
            yield UsageError(
                "model.parts has neither text nor vectors: nothing is known of a new item",
                "use or train a model with text",
            )

    def display_name(self) -> str:
        """`evidence_mix`, with the parts that are left out."""
        missing = [part.name for part in Part if part not in self.parts]
        return f"{self.name} without {', '.join(missing)}" if missing else self.name
