"""Settings of semantic ids, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import (
    EncoderConfig,
    LLMConfig,
    ModelConfig,
    TaskConfig,
    Weights,
    WeightsField,
)
from llm4rec_cli.errors import DataError


class IdKind(Enum):
    """How items get their codes."""

    rq_kmeans = "rq_kmeans"  # residual quantisation of text vectors, level by level, by k-means
    rq_vae = "rq_vae"  # residual quantisation of what an autoencoder learns of text vectors
    opq = "opq"  # product quantisation of rotated text vectors: codes in parallel
    tree = "tree"  # hierarchical k-means of text vectors
    collaborative = "collaborative"  # the same tree, of clusters of items that co-occur in training
    random = "random"  # codes drawn uniformly: a control
    file = "file"  # codes that another system made

    @property
    def reads_text(self) -> bool:
        return self in (IdKind.rq_kmeans, IdKind.rq_vae, IdKind.opq, IdKind.tree)

    @property
    def is_tree(self) -> bool:
        return self in (IdKind.tree, IdKind.collaborative)


class Collisions(Enum):
    """What happens to items with equal codes."""

    extra_code = "extra_code"  # a last code numbers them, which makes each id unique
    shared = "shared"  # they share an id and tie, so that metrics are expectations over their order


class Softmax(Enum):
    """Among which tokens a target's code is predicted in training."""

    continuations = "continuations"  # the codes that continue some item's id: among these decoding chooses, too
    tokens = "tokens"  # all tokens of a T5; all codes of the position, where each has an output layer


@dataclass
class RqVaeConfig:
    """The autoencoder of rq_vae and its training."""

    role: ClassVar[Role] = Role.model

    layers: list[int] = ranges.number(at_least=1)  # units of the encoder's hidden layers; the decoder's are reversed
    size: int = ranges.number(at_least=1)  # of the quantised vectors
    commitment: float = ranges.number(at_least=0)  # β, weight of the loss that draws vectors to their codes
    epochs: int = ranges.number(at_least=1)
    batch_size: int = ranges.number(at_least=1)  # items
    learning_rate: float = ranges.number(above=0)  # of AdamW


@dataclass
class IdsConfig:
    """Item ids: one code per position, from a codebook of that position."""

    role: ClassVar[Role] = Role.model

    kind: IdKind = MISSING
    codes: int = ranges.number(at_least=1)  # of an item, without one that separates collisions; not of trees
    # codes to choose from at each position; of trees the children of a cluster, and the items of a leaf
    codebook: int = ranges.number(at_least=2)
    collisions: Collisions = MISSING
    seed: int = ranges.seed()  # of k-means, rq_vae and random codes
    rq_vae: RqVaeConfig = field(default_factory=RqVaeConfig)
    # kind=file: a JSON object, raw item id -> list of codes
    file: str | None = field(
        default=None, metadata={"path": "absolute", "weights": WeightsField(Weights.ids, frozenset({None}))}
    )

    def problems_with_dataset(self, dataset: Any) -> Iterator[DataError]:
        if self.kind.reads_text and len(set(dataset.texts)) == 1:
            yield DataError(
                f"model.ids.kind={self.kind.name} reads item texts, and those of '{dataset.manifest['name']}' are all "
                "alike",
                "model.ids.kind=collaborative or random, or a dataset with titles: llm4rec list datasets",
            )


@dataclass
class SemanticIdsConfig(ModelConfig):
    """Base of the configs of models that predict the codes of an item."""

    ids: IdsConfig = field(default_factory=IdsConfig)
    encoder: EncoderConfig | None = field(default_factory=EncoderConfig)  # of item texts, for ids that read them

    def uses_item_text(self) -> bool:
        return self.ids.kind.reads_text

    def derived_settings(self, task: TaskConfig, llm: LLMConfig) -> Mapping[str, Any]:
        """Drop the encoder where ids read no texts. It may be set with any kind, so that sweeps over kinds work."""
        return {} if self.ids.kind.reads_text else {"encoder": None}

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[DataError]:
        yield from self.ids.problems_with_dataset(dataset)
