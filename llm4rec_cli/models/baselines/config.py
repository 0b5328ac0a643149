"""Settings of the floors and of SASRec, one class per module of this package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import (
    Config,
    EncoderConfig,
    Index,
    ModelConfig,
    ModelKind,
    TaskConfig,
    Traits,
    added,
    noted,
)
from llm4rec_cli.errors import DataError, Llm4RecError
from llm4rec_cli.models.shared.config import TransformerConfig

RANKS = frozenset({"rank_catalogue", "rank_candidates"})
_floor = partial(Traits, kind=ModelKind.floor, seeded=False)  # a simple rule, which draws nothing


@dataclass
class RandomConfig(ModelConfig):
    """Uniformly random scores: the level of chance."""

    traits: ClassVar[Traits] = _floor(RANKS | {"rank_impressions"}, seeded=True, needs_user=True)


@dataclass
class PopularityConfig(ModelConfig):
    """Items by their number of interactions (in a click log: clicks) in the training part, the same for all users."""

    traits: ClassVar[Traits] = _floor(RANKS | {"rank_impressions"})


@dataclass
class CausalPopularityConfig(ModelConfig):
    """For click logs: items by their number of clicks before the impression."""

    traits: ClassVar[Traits] = _floor(frozenset({"rank_impressions"}))


@dataclass
class MajorityConfig(ModelConfig):
    """The most common training rating or text, for all users and items."""

    traits: ClassVar[Traits] = _floor(frozenset({"rate", "write"}))


@dataclass
class MeanConfig(ModelConfig):
    """The mean rating plus the mean deviations of the item and the user."""

    traits: ClassVar[Traits] = _floor(frozenset({"rate"}), needs_user=True)

    damping: list[float] = ranges.number(at_least=0)  # pseudo-ratings equal to the mean; chosen on validation


@dataclass
class NextIdConfig(ModelConfig):
    """The item numbered after the highest in the history: tests whether item numbers leak the order of interactions."""

    traits: ClassVar[Traits] = _floor(RANKS)

    # an item index of P5, by default that of the evaluated model if it is one of item numbers; null = the dataset's own
    index: Index | None = noted(None, copied_if=lambda index: index.is_number)


@dataclass
class NextRawIdConfig(ModelConfig):
    """The items after the history's last one in the order of raw ids: tests whether that order predicts targets."""

    traits: ClassVar[Traits] = _floor(RANKS)


@dataclass
class RetrievalConfig(ModelConfig):
    """Copied texts: an explanation of another user, or the review's own first or last words as its title."""

    traits: ClassVar[Traits] = _floor(frozenset({"write"}))

    words: list[int] = ranges.number(at_least=1)  # words of a review's first or last sentence that form its title


@dataclass
class UsualFeatureConfig(ModelConfig):
    """The most typical training text about the feature that the user's training reviews mention most."""

    traits: ClassVar[Traits] = _floor(frozenset({"write"}), needs_user=True)

    compared: int = ranges.number(at_least=2)  # maximum number of a feature's texts among which one is chosen

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[DataError]:
        columns = [name for name in ("feature", "explanation", "review_text") if name in dataset.interactions]
        filled = {name for name in columns if dataset.interactions[name].fillna("").ne("").any()}
        if "feature" not in filled and ("explanation" in filled or "review_text" not in filled):
            yield DataError(
                f"model '{self.name}' reads features of reviews, and dataset '{dataset.manifest['name']}' has none",
                "model=retrieval, which reads only explanations",
            )


class TextSimilarity(Enum):
    """By what transition_text compares texts."""

    words = "words"  # TF-IDF
    vectors = "vectors"  # of an encoder


@dataclass
class TransitionTextConfig(ModelConfig):
    """Item-to-item transitions plus TF-IDF similarity to the latest items: the strongest ranking floor."""

    traits: ClassVar[Traits] = _floor(RANKS | {"rank_new_items"})

    recent: int = ranges.number(at_least=1)  # number of latest history items used
    steps: int = ranges.number(at_least=1)  # maximum distance of a transition
    text_weights: list[float] = ranges.number(at_least=0)  # candidates for the text weight w, chosen on validation
    mask_history: bool | None = MISSING  # when choosing w; the task's value
    # count transitions in both directions: the order of two interactions is ignored
    symmetric: bool = noted(added(False), named=True)
    text: TextSimilarity = noted(added(TextSimilarity.words), named=True)
    encoder: EncoderConfig | None = added(None)  # of text=vectors

    def uses_item_text(self) -> bool:
        return True


@dataclass
class FrozenTextConfig(ModelConfig):
    """Similarity of an item's text to the texts of the history under a frozen encoder, without training."""

    traits: ClassVar[Traits] = _floor(RANKS | {"rank_new_items", "rank_impressions"}, needs_text=True)

    encoder: EncoderConfig = MISSING
    centred: bool = added(False)  # subtract the mean of the training items' vectors
    temperature: float | None = ranges.number(None, above=0, added=True)  # of the history's weights; null = equal ones

    @property
    def results_version(self) -> int:
        return 1 if self.temperature is None else 2


@dataclass
class ItemKnnConfig(ModelConfig):
    """Item-based nearest neighbours: shrunk cosine similarity of co-occurrence with the history's items."""

    traits: ClassVar[Traits] = _floor(RANKS)

    neighbours: int = ranges.number(at_least=1)  # per item; more where similarities tie
    shrinkage: float = ranges.number(at_least=0)  # added to the denominator of the cosine


class ItemVectors(Enum):
    """Where SASRec's item vectors come from."""

    learned = "learned"  # they start at random
    initial = "initial"  # they start as text vectors, and are trained
    frozen = "frozen"  # text vectors
    adapted = "adapted"  # frozen text vectors through a trained linear layer


@dataclass
class SASRecConfig(TransformerConfig):
    """Self-attentive sequential recommendation over item ids (ICDM 2018)."""

    tokens: bool = noted(False, named=True)  # add the mean of an item's token vectors to its vector
    vectors: ItemVectors = noted(added(ItemVectors.learned), named=True)  # where item vectors come from
    encoder: EncoderConfig | None = added(None)  # of text vectors; reduced to hidden_size unless adapted

    @property
    def reads_vectors(self) -> bool:
        return self.vectors is not ItemVectors.learned

    def problems(self, config: Config) -> Iterator[Llm4RecError]:
        yield from super().problems(config)
        if self.tokens:
            yield from config.dataset.problems_without_tokens("model.tokens=true")

    def problems_with_dataset(self, task: TaskConfig, dataset: Any) -> Iterator[DataError]:
        if self.reads_vectors and len(set(dataset.texts)) == 1:
            yield DataError(
                f"model.vectors={self.vectors.name} reads item texts, and those of '{dataset.manifest['name']}' are "
                "all alike",
                "model.vectors=learned, or a dataset with titles: llm4rec list datasets",
            )

    def uses_item_text(self) -> bool:
        return self.tokens or self.reads_vectors
