"""Settings of the retrieval floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import ModelConfig


@dataclass
class RetrievalConfig(ModelConfig):
    """What others wrote about the item, and how the review itself begins or ends: nothing is written anew."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"write"})
    floor: ClassVar[bool] = True

    words: list[int] = ranges.number(at_least=1)  # of a review's first or last sentence, as its heading
