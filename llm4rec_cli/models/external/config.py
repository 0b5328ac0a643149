"""Settings of a file of somebody else's scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import ModelConfig, TaskConfig
from llm4rec_cli.errors import Llm4RecError, UsageError, refusals

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset


@dataclass
class ExternalConfig(ModelConfig):
    """Scores or ranked lists made elsewhere: nobody here knows what they were trained on."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates"})
    needs_user: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ("file",)

    file: str | None = ranges.path(None)
    alias: str = MISSING  # what tables call it
    max_missing: float = ranges.number(
        role=Role.machine, at_least=0, at_most=1
    )  # share of the users asked about that may have no row

    def shown_as(self) -> str:
        return self.alias

    def contents(self) -> list[str]:
        return [] if self.file is None else [self.file]

    def labels(self, task: str) -> list[str]:
        return ["external"]

    def problems_of_data(self, task: TaskConfig, dataset: RecDataset) -> Iterator[Llm4RecError]:
        """A file that is malformed, or names other users and items than the dataset's; or there is no file."""
        from llm4rec_cli.models.external import lists

        if self.file is None:
            yield UsageError("model 'external' reads its scores from a file, and none is given", "llm4rec score FILE")
        else:
            yield from refusals(partial(lists.read, Path(self.file), dataset))
