"""Settings shared by sequence models, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import (
    Deviations,
    EncoderConfig,
    ModelConfig,
    Pooling,
    TaskConfig,
    Traits,
    added,
)
from llm4rec_cli.errors import DataError

BERT = "bert-base-uncased"


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


def encodes_as_unisrec(encoder: EncoderConfig) -> bool:
    """Return whether a text encoder is UniSRec's: BERT with [CLS]."""
    return encoder.label == f"{BERT} {Pooling.cls.name}"


def backbone_deviation(backbone: str) -> Deviations:
    """Return how a trained language model deviates from BERT, which Prompt4NR and its baselines use."""
    name = Path(backbone).name
    return {"backbone": name != BERT and {"weights": name}}


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

    def unused_settings(self, task: TaskConfig) -> Mapping[str, str]:
        readers = {
            "negatives": (NextItemLoss.binary, NextItemLoss.sampled_softmax, NextItemLoss.gbce),
            **dict.fromkeys(("distribution", "logq"), (NextItemLoss.sampled_softmax,)),
            "calibration": (NextItemLoss.gbce,),
        }
        unused = {setting: losses for setting, losses in readers.items() if self.loss not in losses}
        return {setting: f"model.loss={'|'.join(loss.name for loss in losses)}" for setting, losses in unused.items()}

    def loss_in_words(self) -> str:
        """Return the loss as `paper_method` and deviations name it."""
        negatives = "one negative" if self.negatives == 1 else f"{self.negatives} negatives"
        if self.loss is NextItemLoss.binary:
            return f"binary cross-entropy with {negatives}"
        if self.loss is NextItemLoss.gbce:
            return f"gBCE with {negatives}, t = {self.calibration:g}"
        if self.loss is NextItemLoss.sampled_softmax:
            corrected = ", logQ correction" if self.logq else ""
            return f"sampled softmax with {negatives}, {self.distribution.name}{corrected}"
        return "cross-entropy over the catalogue"

    def paper_method(self, task: str) -> Mapping[str, str]:
        return {"method": self.name, "items": "ids", "loss": self.loss_in_words()}

    def deviations(self, task: TaskConfig, trained_on: str | None) -> Deviations:
        """Return how training differs from RecBole's cross-entropy, or from the published code of the other losses."""
        is_recbole = self.loss is NextItemLoss.cross_entropy
        shared = dict.fromkeys(("whole_sequences", "windows", "no_padding_item"), is_recbole)
        return {**shared, "windows_not_latest": not is_recbole}


@dataclass
class PositionedConfig(NextItemConfig):
    """Base of the configs of models that add a vector for each position."""

    positions: Positions = added(Positions.from_first)

    def position_deviation(self, published: Positions) -> Deviations:
        """Return how positions are counted, if not as in the published code."""
        here, there = (positions.name.removeprefix("from_") for positions in (self.positions, published))
        return {"positions": here != there and {"here": here, "published": there}}


@dataclass
class TransformerConfig(EncoderSizes, PositionedConfig):
    """Base of the configs of models of item ids with SASRec's encoder or a variant of it."""

    def deviations(self, task: TaskConfig, trained_on: str | None) -> Deviations:
        published = Positions.from_first if self.loss is NextItemLoss.cross_entropy else Positions.from_last
        return {**super().deviations(task, trained_on), **self.position_deviation(published)}
