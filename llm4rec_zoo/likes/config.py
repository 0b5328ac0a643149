"""What the settings of floors that count likes share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import ModelConfig, ModelKind, SplitRule, TaskConfig, Traits
from llm4rec_cli.errors import DataError


@dataclass
class CountedLikesConfig(ModelConfig):
    """Base of the floors that count likes in training rows."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"like"}), kind=ModelKind.floor, needs_user=True
    )  # task.shots draws rows

    smoothing: float = ranges.number(above=0)  # λ, interactions with the mean of all that are added to each mean

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[DataError]:
        is_given = dataset.manifest["split"]["rule"] == SplitRule.given.value
        if is_given and "train" not in set(dataset.interactions["part"]):
            yield DataError(
                f"model '{self.name}' counts likes of training rows, and the files of '{dataset.manifest['name']}' "
                "have none",
                "name a file of them as role `train` in dataset.domains, or model=liked_share",
            )
