"""Settings of an ensemble: finished runs, and how their scores are combined."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config.schema import Config, ModelConfig, TaskConfig
from llm4rec_cli.errors import UsageError

OF_ITS_OWN = ("floor-not-beaten",)  # a label that says nothing of an ensemble with that member


class Combine(Enum):
    """What several scores of one item become."""

    sum = "sum"  # of probabilities (the authors, in an answer of theirs)
    mean = "mean"  # the same order
    rank = "rank"  # the mean place within the impression, so that no member speaks louder
    weights = "weights"  # a weighted sum, fitted on validation


@dataclass
class EnsembleConfig(ModelConfig):
    """Several finished runs that were asked about the same impressions."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_impressions"})
    files: ClassVar[tuple[str, ...]] = ("members", "judged")

    members: list[str] = field(default_factory=list)  # run folders with the answers that are combined
    judged: list[str] = field(default_factory=list)  # combine=weights: the same runs' answers about validation
    names: list[str] = field(default_factory=list)  # what tables call the members
    variants: list[str] = field(default_factory=list)  # what each of them is apart from its seed
    combine: Combine = MISSING

    def shown_as(self) -> str:
        """`ensemble by sum: A + B + C`."""
        return f"ensemble by {self.combine.name}: {' + '.join(self.names)}"

    def facts(self) -> dict[str, Any]:
        return {"members": self.members} if self.members else {}

    def contents(self) -> list[str]:
        return [str(Path(folder) / "predictions.parquet") for folder in (*self.members, *self.judged)]

    def labels(self, task: str) -> list[str]:
        found = [label for folder in self.members for label in _metrics(folder)["labels"] if label not in OF_ITS_OWN]
        return list(dict.fromkeys(found))

    def deviations(self) -> list[str]:
        found = [deviation for folder in self.members for deviation in _metrics(folder)["deviations"]]
        return list(dict.fromkeys(found))

    def problems_of_data(self, task: TaskConfig, dataset: Any) -> Iterator[UsageError]:
        if len(self.members) < 2:
            yield UsageError(
                f"an ensemble has several members, and {len(self.members)} are given",
                "llm4rec ensemble run=[RUN,RUN,…] combine=sum",
            )

    def problems(self, config: Config) -> Iterator[UsageError]:
        if self.members and self.combine is Combine.weights and len(self.judged) != len(self.members):
            yield UsageError(
                "model.combine=weights fits weights to the members' answers about validation, which are not given",
                "llm4rec ensemble run=[RUN,RUN,…] combine=weights finds them",
            )


def _metrics(folder: str) -> dict[str, Any]:
    return dict(json.loads((Path(folder) / "metrics.json").read_text()))
