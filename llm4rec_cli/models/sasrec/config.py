"""SASRec's settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import Config, ModelConfig
from llm4rec_cli.errors import UsageError
from llm4rec_cli.models.base import ONE_PASS_DEVIATIONS


@dataclass
class SASRecConfig(ModelConfig):
    """Self-attentive sequential recommendation over item ids (ICDM 2018), with cross-entropy over the catalogue."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates"})
    trainable: ClassVar[bool] = True
    later: ClassVar[Mapping[str, Any]] = {"tokens": False}

    hidden_size: int = ranges.number(at_least=1, multiple_of="heads")
    inner_size: int = ranges.number(at_least=1)
    layers: int = ranges.number(at_least=1)
    heads: int = ranges.number(at_least=1)
    dropout: float = ranges.number(at_least=0, below=1)  # of hidden states
    attention_dropout: float = ranges.number(at_least=0, below=1)
    max_length: int = ranges.number(at_least=1)  # items of a history, the latest kept
    tokens: bool = False  # an item's vector is that of its number and the mean of its tokens'

    def problems(self, config: Config) -> Iterator[UsageError]:
        if self.tokens:
            yield from config.dataset.without_tokens("model.tokens=true")

    def reads_text(self) -> bool:
        return self.tokens

    def shown_as(self) -> str:
        return f"{self.name} + tokens" if self.tokens else self.name

    def deviations(self) -> list[str]:
        found = list(ONE_PASS_DEVIATIONS)
        if self.tokens:
            found.append("the mean of its tokens' vectors is added to an item's, in input and output alike")
        return found
