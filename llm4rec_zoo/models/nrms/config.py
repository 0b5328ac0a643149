"""Settings of NRMS on a pretrained backbone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import (
    ModelConfig,
    Precision,
    TaskConfig,
    Traits,
    Weights,
    Work,
    noted,
    precision,
    weights,
)
from llm4rec_cli.errors import Llm4RecError
from llm4rec_cli.models.shared.config import problems_without_titles


class Aggregation(Enum):
    """How the tokens of a title become its vector, and the titles of a history the user's."""

    attention = "attention"  # NRMS: additive attention over both, self-attention over titles; scores are inner products
    mean = "mean"  # the mean of each, without new layers; scores are cosines


@dataclass
class NRMSConfig(ModelConfig):
    """News recommendation with multi-head self-attention (EMNLP 2019); a fine-tuned BERT encodes the titles."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates", "rank_impressions"}), trainable=True, needs_text=True
    )

    backbone: str = weights(Weights.backbone)  # `minilm` (packaged), a hub id, or a folder
    aggregation: Aggregation = noted(MISSING, named=True)
    hidden_size: int | None = ranges.number(at_least=1, multiple_of="heads")  # of the vectors of titles and users
    heads: int | None = ranges.number(at_least=1)  # of the self-attention over titles
    query_size: int | None = ranges.number(at_least=1)  # of both additive attentions
    dropout: float | None = ranges.number(at_least=0, below=1)  # of the vectors of titles, and of the attended ones
    temperature: float | None = ranges.number(above=0)  # that divides the cosines
    negatives: int = ranges.number(at_least=1)  # per click
    titles: int = ranges.number(at_least=1)  # per history: the latest
    max_length: int = ranges.number(at_least=3)  # tokens of a title: the first
    new_learning_rate: float = ranges.number(above=0)  # of weights that are not pretrained
    scoring: Precision = precision(Work.reading)  # in validation and test

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[Llm4RecError]:
        from llm4rec_cli.text.backbone import problems_of_bert

        yield from problems_without_titles(self.name, dataset)
        yield from problems_of_bert(self.backbone, self.max_length, self.name)
