"""Settings of `external`: scores of another system, read from a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import ModelConfig, TaskConfig, Traits, noted
from llm4rec_cli.errors import Llm4RecError, UsageError, problems_raised_by

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_studies.models.external.lists import UserLists


@dataclass
class ExternalConfig(ModelConfig):
    """Scores or ranked lists of another system, whose training data are unknown."""

    traits: ClassVar[Traits] = Traits(frozenset({"rank_catalogue", "rank_candidates"}), needs_user=True)

    file: str | None = noted(ranges.path(None), named=True, input_file="")
    alias: str = noted(MISSING, named=True)  # name in tables
    # Maps of another system's ids: to raw ids, and of items to codes, which several may share.
    user_ids: str | None = noted(ranges.path(None), named=True, input_file="")
    item_ids: str | None = noted(ranges.path(None), named=True, input_file="")
    codes: str | None = noted(ranges.path(None), named=True, input_file="")
    # maximum share of evaluated users without a row
    max_missing: float = ranges.number(role=Role.machine, at_least=0, at_most=1)

    def display_name(self) -> str:
        return self.alias

    def labels(self, task: str) -> list[str]:
        return ["external"]

    def problems_with_dataset(self, task: TaskConfig, dataset: RecDataset) -> Iterator[Llm4RecError]:
        if self.file is None:
            yield UsageError("model 'external' needs a file of scores, and model.file is not set", "llm4rec score FILE")
        else:
            yield from problems_raised_by(partial(self.lists, dataset))

    def lists(self, dataset: RecDataset) -> UserLists:
        """Read the lists of all users."""
        from llm4rec_studies.models.external.lists import read_lists

        return read_lists(str(self.file), dataset, self.user_ids, self.item_ids, self.codes)
