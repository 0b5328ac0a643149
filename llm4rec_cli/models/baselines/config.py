"""The settings of the floors and small baselines, one class a module of this package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import Config, EncoderConfig, Index, ModelConfig
from llm4rec_cli.errors import UsageError
from llm4rec_cli.models.base import ONE_PASS_DEVIATIONS


@dataclass
class RandomConfig(ModelConfig):
    """Uniformly random scores: chance."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates", "rank_impressions"})
    floor: ClassVar[bool] = True
    needs_user: ClassVar[bool] = True


@dataclass
class PopularityConfig(ModelConfig):
    """Items by how often they occur (of a click log, are clicked) in the training part, the same for everyone."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates", "rank_impressions"})
    floor: ClassVar[bool] = True


@dataclass
class CausalPopularityConfig(ModelConfig):
    """Of a click log, items by how often anyone clicked them before the moment that is asked about."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_impressions"})
    floor: ClassVar[bool] = True


@dataclass
class MajorityConfig(ModelConfig):
    """The training part's commonest rating, for everyone and everything."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rate"})
    floor: ClassVar[bool] = True


@dataclass
class MeanConfig(ModelConfig):
    """The mean rating, and how far the item's and the user's ratings lie from it."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rate"})
    floor: ClassVar[bool] = True
    needs_user: ClassVar[bool] = True

    damping: list[float] = ranges.number(at_least=0)  # ratings of nobody, equal to the mean; chosen on validation


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


@dataclass
class RetrievalConfig(ModelConfig):
    """What others wrote about the item, and how the review itself begins or ends: nothing is written anew."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"write"})
    floor: ClassVar[bool] = True

    words: list[int] = ranges.number(at_least=1)  # of a review's first or last sentence, as its heading


@dataclass
class TransitionTextConfig(ModelConfig):
    """Item-to-item transitions and TF-IDF closeness of the latest items' text: the floor that matters."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates"})
    floor: ClassVar[bool] = True

    recent: int = ranges.number(at_least=1)  # items of the history that count, the latest kept
    steps: int = ranges.number(at_least=1)  # how far ahead a transition reaches
    text_weights: list[float] = ranges.number(at_least=0)  # the weight w of text is chosen among these on validation
    mask_history: bool = MISSING  # while w is chosen: as the task has it

    def reads_text(self) -> bool:
        return True


@dataclass
class FrozenTextConfig(ModelConfig):
    """Closeness of an item's text to the texts of the history, by a frozen encoder. Nothing is trained."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates", "rank_impressions"})
    floor: ClassVar[bool] = True
    needs_text: ClassVar[bool] = True

    encoder: EncoderConfig = MISSING


@dataclass
class MfConfig(ModelConfig):
    """Biased matrix factorisation under squared error (Koren et al., Computer 2009)."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rate"})
    trainable: ClassVar[bool] = True
    needs_user: ClassVar[bool] = True

    embedding_size: int = ranges.number(at_least=1)
    initial_std: float = ranges.number(above=0)  # of the embeddings
    penalty: float = ranges.number(at_least=0)  # on the squares of what a rating is told by


@dataclass
class MlpConfig(ModelConfig):
    """A user's and an item's embedding through a multilayer perceptron, under squared error: P5's baseline MLP."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rate"})
    trainable: ClassVar[bool] = True
    needs_user: ClassVar[bool] = True

    embedding_size: int = ranges.number(at_least=1)
    hidden_sizes: list[int] = ranges.number(at_least=1)  # of the layers, from the embeddings on
    dropout: float = ranges.number(at_least=0, below=1)  # of the embeddings and of every layer
    initial_std: float = ranges.number(above=0)  # of the embeddings


@dataclass
class BprMfConfig(ModelConfig):
    """Matrix factorisation under Bayesian personalised ranking (Rendle et al., UAI 2009): who, not when."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates"})
    trainable: ClassVar[bool] = True
    needs_user: ClassVar[bool] = True

    embedding_size: int = ranges.number(at_least=1)
    initial_std: float = ranges.number(above=0)  # of the embeddings


@dataclass
class SASRecConfig(ModelConfig):
    """Self-attentive sequential recommendation over item ids (ICDM 2018), with cross-entropy over the catalogue."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates"})
    trainable: ClassVar[bool] = True

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
