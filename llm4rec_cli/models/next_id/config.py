"""The setting of the next-id floor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from llm4rec_cli.config.schema import Config, Index, ModelConfig
from llm4rec_cli.errors import UsageError


@dataclass
class NextIdConfig(ModelConfig):
    """The item numbered after the highest of the history: shows whether item numbers leak the order of interactions."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates"})
    floor: ClassVar[bool] = True

    index: Index | None = None  # whose numbers; null = the dataset's own

    def taken_over(self, model: ModelConfig) -> dict[str, Any]:
        """The numbers that a model writes items by, if it does so with numbers."""
        from llm4rec_cli.data.indexing import NUMBERS

        index = getattr(model, "index", None)
        return {"index": index} if index in NUMBERS else {}

    def shown_as(self) -> str:
        """`next_id`, and the numbers that it looks at where they are not the dataset's own."""
        return self.name if self.index is None else f"{self.name}, {self.index.name} numbers"

    def labels(self, task: str) -> list[str]:
        return ["leaky"] if self.index is Index.leaky_p5 else []

    def problems(self, config: Config) -> Iterator[UsageError]:
        """An index that has no numbers."""
        from llm4rec_cli.data.indexing import NUMBERS

        if self.index is not None and self.index not in NUMBERS:
            yield UsageError(
                f"model.index={self.index.name} gives items no numbers that could follow one another",
                f"model.index={'|'.join(sorted(kind.name for kind in NUMBERS))}, or null for the dataset's own",
            )
