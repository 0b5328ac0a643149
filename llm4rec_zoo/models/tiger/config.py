"""Settings of TIGER."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import Config, Deviations, TaskConfig, Traits, about, added
from llm4rec_cli.errors import Llm4RecError, UsageError
from llm4rec_zoo.ids.config import Collisions, SemanticIdsConfig, Softmax


@dataclass
class TigerConfig(SemanticIdsConfig):
    """Semantic ids generated code by code by an encoder-decoder (NeurIPS 2023)."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates"}), trainable=True, needs_user=True, zero_ranks_high=True
    )

    user_tokens: int = ranges.number(at_least=0)  # into which users are hashed; 0 = users are not read
    hidden_size: int = ranges.number(at_least=1)
    inner_size: int = ranges.number(at_least=1)
    layers: int = ranges.number(at_least=1)  # of the encoder, and of the decoder
    heads: int = ranges.number(at_least=1)
    head_size: int = ranges.number(at_least=1)
    dropout: float = ranges.number(at_least=0, below=1)
    max_length: int = ranges.number(at_least=1)  # latest items of a history
    softmax: Softmax = added(Softmax.tokens)  # of a target's codes, in training
    embedding_rate: float = ranges.number(1.0, added=True, above=0)  # times trainer.learning_rate, for embeddings
    beams: int | None = ranges.number(None, role=Role.question, at_least=1)  # null = exact scores of all items
    constrained: bool = about(Role.question, MISSING)  # to ids of items; beams of no item are misses otherwise

    def problems(self, config: Config) -> Iterator[Llm4RecError]:
        yield from super().problems(config)
        if not self.constrained and self.beams is None:
            yield UsageError(
                "model.constrained=false is about beams, and model.beams=null scores every item",
                "model.beams=50, or model.constrained=true",
            )
        if not self.constrained and self.softmax is Softmax.continuations:
            yield UsageError(
                "model.constrained=false chooses among all tokens, and model.softmax=continuations learns a choice "
                "among those that continue some id",
                "model.softmax=tokens, or model.constrained=true",
            )
        if not self.constrained and self.ids.kind.is_tree:
            yield UsageError(
                f"ids of model.ids.kind={self.ids.kind.name} have different lengths, and unconstrained beams one",
                "model.constrained=true",
            )

    def paper_method(self, task: str) -> Mapping[str, str]:
        beams = f"beam search of {self.beams}, {'item ids' if self.constrained else 'any code'}"
        decoding = "exact" if self.beams is None else beams
        return {**super().paper_method(task), "decoding": decoding, "layers": str(self.layers)}

    def paper_experiment(self, task: TaskConfig) -> str:
        return "tiger/paper"

    def deviations(self, task: TaskConfig, trained_on: str | None) -> Deviations:
        return {
            "no_code": True,
            "optimiser": trained_on is not None,
            "fourth_code": self.ids.collisions is Collisions.extra_code,
            "user_token": self.user_tokens > 0,
            "every_target": trained_on is not None,
            "continuations": self.softmax is Softmax.continuations,
            "embedding_rate": trained_on is not None
            and self.embedding_rate != 1
            and {"embedding_rate": f"{self.embedding_rate:g}"},
            "encoder": self.encoder is not None
            and not Path(self.encoder.name).name.startswith("sentence-t5")
            and {"label": self.encoder.label},
            "exact": self.beams is None,
            "constrained": self.beams is not None and self.constrained,
        }

    def labels(self, task: str) -> list[str]:
        is_papers = self.encoder is None or Path(self.encoder.name).name.startswith("sentence-t5")
        return [] if is_papers else ["substitute-encoder"]
