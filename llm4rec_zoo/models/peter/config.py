"""Settings of PETER, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import ModelConfig, TaskConfig, Traits, Written
from llm4rec_cli.errors import DataError


def text_to_learn(task: str) -> Written:
    """Return the column whose texts are learned for a task: explanations, but for `review_summary` titles."""
    return Written.review_title if task == "review_summary" else Written.explanation


@dataclass
class PeterConfig(ModelConfig):
    """A small Transformer that reads a user and an item, writes a text, and rates (ACL 2021): P5's baseline PETER."""

    traits: ClassVar[Traits] = Traits(frozenset({"write", "rate"}), trainable=True, needs_user=True, task_bound=True)
    results_version: ClassVar[int] = 2

    words: int = ranges.number(at_least=1)  # of a text: the first
    vocabulary: int = ranges.number(at_least=1)  # the most frequent words of the training texts
    hidden_size: int = ranges.number(at_least=2, multiple_of="heads")
    inner_size: int = ranges.number(at_least=1)
    layers: int = ranges.number(at_least=1)
    heads: int = ranges.number(at_least=1)
    dropout: float = ranges.number(at_least=0, below=1)
    text_weight: float = ranges.number(at_least=0)  # of the three losses
    context_weight: float = ranges.number(at_least=0)
    rating_weight: float = ranges.number(at_least=0)

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[DataError]:
        column = text_to_learn(task.name).value
        # Explanations are extracted from reviews after the split.
        found_in = {column, "review_text"} if column == Written.explanation.value else {column}
        texts = (dataset.interactions[name] for name in found_in & {*dataset.interactions})
        if not any(text.fillna("").str.strip().any() for text in texts):
            yield DataError(
                f"model '{self.name}' learns users' texts, and dataset '{dataset.manifest['name']}' has no '{column}'",
                "llm4rec list datasets; for ratings only, model=mf",
            )
