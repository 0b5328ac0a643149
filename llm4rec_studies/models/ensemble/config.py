"""Settings of an ensemble: its member runs, and how their scores are combined."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config.schema import Config, ModelConfig, TaskConfig, Traits, noted
from llm4rec_cli.errors import UsageError
from llm4rec_cli.labels import FLOOR_NOT_BEATEN


class Combine(Enum):
    """How the members' scores of an item are combined."""

    sum = "sum"  # of probabilities (the authors, by their own reply); of other scores and of lists, standardised
    # the mean rank within the impression, so that all members weigh the same; of lists, the sum of 1 / (60 + rank)
    rank = "rank"
    grid = "grid"  # of two lists, the weights among nine with the best NDCG@10 on validation


PREDICTIONS = "predictions.parquet"


@dataclass
class EnsembleConfig(ModelConfig):
    """Several finished runs, evaluated on the same examples."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_impressions", "rank_catalogue", "rank_candidates"}),
        needs_user=True,  # lists are looked up by user
    )

    # run folders with the predictions to combine
    members: list[str] = noted([], named=True, input_file=PREDICTIONS, members=True)
    # combine=grid: the same for the validation split
    judged: list[str] = noted([], named=True, input_file=PREDICTIONS)
    names: list[str] = noted([], named=True)  # the members' names in tables
    variants: list[str] = noted([], named=True)  # the members' variants: their hashes without the seed
    combine: Combine = noted(MISSING, named=True)

    def display_name(self) -> str:
        return f"ensemble by {self.combine.name}: {' + '.join(self.names)}"

    @property
    def results_version(self) -> int:
        return 1 if self.combine is Combine.grid else 2

    def labels(self, task: str) -> list[str]:
        labels = [label for folder in self.members for label in _metrics(folder)["labels"]]
        return [label for label in dict.fromkeys(labels) if label != FLOOR_NOT_BEATEN]

    def deviations(self, task: TaskConfig, trained_on: str | None) -> Mapping[str, str]:
        return {sentence: sentence for folder in self.members for sentence in _metrics(folder)["deviations"]}

    def members_file(self, weights: Sequence[float] | None = None) -> dict[str, str]:
        """Return members.json: run folder, name, variant and weight (null without a grid) of each member."""
        values: Sequence[float | None] = weights or [None] * len(self.members)
        columns = zip(self.members, self.names, self.variants, values, strict=True)
        members = [dict(zip(("run", "name", "variant", "weight"), row, strict=True)) for row in columns]
        return {"members.json": json.dumps(members, indent=1) + "\n"}

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[UsageError]:
        if len(self.members) < 2:
            yield UsageError(
                f"an ensemble needs at least two members, not {len(self.members)}",
                "llm4rec ensemble run=[RUN,RUN,…] combine=sum",
            )

    def problems(self, config: Config) -> Iterator[UsageError]:
        if self.combine is not Combine.grid:
            return
        if self.members and len(self.judged) != len(self.members):
            yield UsageError(
                "model.combine=grid needs the members' validation runs, and model.judged does not list them",
                "use llm4rec ensemble run=[RUN,RUN] combine=grid, which fills it in",
            )
        if len(self.members) > 2 or config.dataset.split.splits_impressions:
            yield UsageError(
                "model.combine=grid blends exactly two runs of ranked lists, not of impressions", "combine=sum"
            )


def _metrics(folder: str) -> dict[str, Any]:
    return dict(json.loads((Path(folder) / "metrics.json").read_text()))
