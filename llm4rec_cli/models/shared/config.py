"""Settings shared by sequence models, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import ModelConfig, Traits, added
from llm4rec_cli.errors import DataError


class NextItemLoss(Enum):
    cross_entropy = "cross_entropy"  # softmax over the catalogue
    binary = "binary"  # the target against sampled items, each by itself
    sampled_softmax = "sampled_softmax"  # softmax over the target and sampled items
    gbce = "gbce"  # binary, calibrated for sampling


class Distribution(Enum):
    """How negatives are drawn."""

    uniform = "uniform"
    popularity = "popularity"  # in proportion to training counts


class Positions(Enum):
    """From which end of a sequence its positions are counted, which follows from how code pads.

    The last item of a history is then always at the same position. In a training row it is the last input, and the
    states before it are at other positions.
    """

    from_first = "from_first"  # padded at the right: RecBole
    from_last = "from_last"  # padded at the left: S3-Rec, RecTools, BSARec


def problems_of_stars(model: str, dataset: Any, least: float, below: float) -> Iterator[DataError]:
    """Yield a problem, for a model that uses 1 to 5 stars, if ratings are not in [least, below)."""
    ratings = dataset.interactions.get("rating")
    if ratings is not None and not ratings.dropna().between(least, below, inclusive="left").all():
        yield DataError(
            f"model '{model}' uses 1 to 5 stars, but dataset '{dataset.manifest['name']}' has ratings "
            f"from {ratings.min():g} to {ratings.max():g}",
            "convert them to that scale in your table",
        )


def problems_without_titles(model: str, dataset: Any) -> Iterator[DataError]:
    """Yield a problem, for a model that reads titles, if no item has one."""
    if "title" not in dataset.items or not (dataset.items["title"].fillna("").str.strip() != "").any():
        yield DataError(
            f"model '{model}' needs item titles, and dataset '{dataset.manifest['name']}' has none",
            "choose a dataset with titles: llm4rec list datasets",
        )


@dataclass
class EncoderSizes(ModelConfig):
    """The sizes of SASRec's encoder, for the configs of models that have it."""

    hidden_size: int = ranges.number(at_least=1, multiple_of="heads")
    inner_size: int = ranges.number(at_least=1)
    layers: int = ranges.number(at_least=1)
    heads: int = ranges.number(at_least=1)
    dropout: float = ranges.number(at_least=0, below=1)  # of hidden states
    attention_dropout: float = ranges.number(at_least=0, below=1)
    max_length: int = ranges.number(at_least=1)  # latest items of a history


@dataclass
class NextItemConfig(ModelConfig):
    """Base of the configs of these models: the loss, its negatives, and how much of a history is read."""

    traits: ClassVar[Traits] = Traits(
        frozenset({"rank_catalogue", "rank_candidates"}), trainable=True, bf16_scoring=True
    )

    max_length: int = ranges.number(at_least=1)  # latest items of a history
    loss: NextItemLoss = NextItemLoss.cross_entropy
    negatives: int = ranges.number(1, at_least=1)  # drawn for each target
    distribution: Distribution = Distribution.uniform  # of sampled_softmax's negatives; other losses draw uniformly
    logq: bool = True  # correct sampled_softmax for how its negatives are drawn
    calibration: float = ranges.number(0.75, at_least=0, at_most=1)  # t of gBCE; 0 = binary

    @property
    def drawn(self) -> str:
        """The negatives of a target, in words."""
        return "one negative" if self.negatives == 1 else f"{self.negatives} negatives"


@dataclass
class PositionedConfig(NextItemConfig):
    """Base of the configs of models that add a vector for each position."""

    positions: Positions = added(Positions.from_first)


@dataclass
class TransformerConfig(EncoderSizes, PositionedConfig):
    """Base of the configs of models of item ids with SASRec's encoder or a variant of it."""
