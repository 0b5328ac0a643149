"""Settings of the floors and small baselines, one class per module of this package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from omegaconf import MISSING

from llm4rec_cli.config import ranges
from llm4rec_cli.config.schema import Config, EncoderConfig, Index, ModelConfig, added
from llm4rec_cli.errors import UsageError
from llm4rec_cli.models.base import ONE_PASS_DEVIATIONS


@dataclass
class RandomConfig(ModelConfig):
    """Uniformly random scores: the level of chance."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates", "rank_impressions"})
    floor: ClassVar[bool] = True
    needs_user: ClassVar[bool] = True


@dataclass
class PopularityConfig(ModelConfig):
    """Items by their number of interactions (in a click log: clicks) in the training part, the same for all users."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates", "rank_impressions"})
    floor: ClassVar[bool] = True


@dataclass
class CausalPopularityConfig(ModelConfig):
    """For click logs: items by their number of clicks before the impression."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_impressions"})
    floor: ClassVar[bool] = True


@dataclass
class MajorityConfig(ModelConfig):
    """The most common training rating, for all users and items."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rate"})
    floor: ClassVar[bool] = True


@dataclass
class MeanConfig(ModelConfig):
    """The mean rating plus the mean deviations of the item and the user."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rate"})
    floor: ClassVar[bool] = True
    needs_user: ClassVar[bool] = True

    damping: list[float] = ranges.number(at_least=0)  # pseudo-ratings equal to the mean; chosen on validation


@dataclass
class NextIdConfig(ModelConfig):
    """The item numbered after the highest in the history: tests whether item numbers leak the order of interactions."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates"})
    floor: ClassVar[bool] = True

    index: Index | None = None  # an item index of P5; null = the dataset's own numbers

    def copied_settings(self, model: ModelConfig) -> dict[str, Any]:
        """Return the index of the evaluated model, if it is one of item numbers."""
        from llm4rec_cli.data.indexing import NUMBERS

        index = getattr(model, "index", None)
        return {"index": index} if index in NUMBERS else {}

    def display_name(self) -> str:
        """`next_id`, with the index if it is not the dataset's own numbers."""
        return self.name if self.index is None else f"{self.name}, {self.index.name} numbers"

    def labels(self, task: str) -> list[str]:
        return ["leaky"] if self.index is Index.leaky_p5 else []

    def problems(self, config: Config) -> Iterator[UsageError]:
        """Yield a problem if the index does not number items."""
        from llm4rec_cli.data.indexing import NUMBERS

        if self.index is not None and self.index not in NUMBERS:
            yield UsageError(
                f"model.index={self.index.name} does not number items",
                f"model.index={'|'.join(sorted(kind.name for kind in NUMBERS))}, or null for the dataset's own",
            )


@dataclass
class NextRawIdConfig(ModelConfig):
    """The items after the history's last one in the order of raw ids: tests whether that order predicts targets."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates"})
    floor: ClassVar[bool] = True


@dataclass
class RetrievalConfig(ModelConfig):
    """Copied texts: an explanation of another user, or the review's own first or last words as its title."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"write"})
    floor: ClassVar[bool] = True

    words: list[int] = ranges.number(at_least=1)  # words of a review's first or last sentence that form its title


@dataclass
class TransitionTextConfig(ModelConfig):
    """Item-to-item transitions plus TF-IDF similarity to the latest items: the strongest ranking floor."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rank_catalogue", "rank_candidates"})
    floor: ClassVar[bool] = True

    recent: int = ranges.number(at_least=1)  # number of latest history items used
    steps: int = ranges.number(at_least=1)  # maximum distance of a transition
    text_weights: list[float] = ranges.number(at_least=0)  # candidates for the text weight w, chosen on validation
    mask_history: bool = MISSING  # when choosing w; the task's value
    symmetric: bool = added(False)  # count transitions in both directions: the order of two interactions is ignored

    named_settings: ClassVar[tuple[str, ...]] = ("symmetric",)

    def uses_item_text(self) -> bool:
        return True

    def display_name(self) -> str:
        return f"{self.name}, symmetric" if self.symmetric else self.name


@dataclass
class FrozenTextConfig(ModelConfig):
    """Similarity of an item's text to the texts of the history under a frozen encoder, without training."""

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
    penalty: float = ranges.number(at_least=0)  # L2 penalty λ on embeddings and biases


@dataclass
class MlpConfig(ModelConfig):
    """A multilayer perceptron over user and item embeddings, under squared error: P5's baseline MLP."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"rate"})
    trainable: ClassVar[bool] = True
    needs_user: ClassVar[bool] = True

    embedding_size: int = ranges.number(at_least=1)
    hidden_sizes: list[int] = ranges.number(at_least=1)  # of the layers, first to last
    dropout: float = ranges.number(at_least=0, below=1)  # of the embeddings and every layer
    initial_std: float = ranges.number(above=0)  # of the embeddings


@dataclass
class BprMfConfig(ModelConfig):
    """Matrix factorisation under Bayesian personalised ranking (Rendle et al., UAI 2009); ignores order."""

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
    max_length: int = ranges.number(at_least=1)  # latest items of a history
    tokens: bool = False  # add the mean of an item's token vectors to its id vector

    def problems(self, config: Config) -> Iterator[UsageError]:
        if self.tokens:
            yield from config.dataset.problems_without_tokens("model.tokens=true")

    def uses_item_text(self) -> bool:
        return self.tokens

    def paper_method(self, task: str) -> Mapping[str, str]:
        items = "ids + tokens" if self.tokens else "ids"
        return {"method": self.name, "items": items, "loss": "cross-entropy over the catalogue"}

    def display_name(self) -> str:
        return f"{self.name} + tokens" if self.tokens else self.name

    def deviations(self) -> list[str]:
        tokens = "the mean of its tokens' vectors is added to an item's, in input and output alike"
        return [*ONE_PASS_DEVIATIONS, *([tokens] if self.tokens else [])]
