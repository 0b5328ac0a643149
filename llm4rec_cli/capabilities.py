"""The capabilities of models, as protocols: tasks call them, models implement them, and neither imports the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from llm4rec_cli.config.schema import Config

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from llm4rec_cli.config.schema import Written
    from llm4rec_cli.data.examples import Examples, Impressions
    from llm4rec_cli.data.split import Split
    from llm4rec_cli.ids.item_ids import ItemIds


class Ranker(Protocol):
    """Capabilities `rank_catalogue` (examples without candidates) and `rank_candidates` (with candidates)."""

    def score(self, examples: Examples) -> torch.Tensor:
        """Return float32 scores, higher is better. The caller may overwrite them.

        Returns:
            (n, n_items) where `examples.candidates` is None, otherwise (n, c), one score per candidate.
        """
        ...


@runtime_checkable
class InnerProductRanker(Ranker, Protocol):
    """A ranker whose scores of the catalogue are inner products: what ranks them may compute few rows at a time.

    Its methods may be called from several threads at the same time, after one call of `item_vectors`.
    """

    def item_vectors(self) -> torch.Tensor:
        """Return (n_items, size) the vectors of all items."""
        ...

    def queries(self, examples: Examples) -> torch.Tensor:
        """Return (n, size): `score` of the catalogue is their inner products with `item_vectors`."""
        ...


@runtime_checkable
class BlockRanker(Ranker, Protocol):
    """A ranker that scores the catalogue for a few examples at a time, after work that it does once for many."""

    def score_blocks(self, examples: Examples) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield consecutive slices of the examples, and (n, n_items) their scores, which may be overwritten."""
        ...


@runtime_checkable
class SparseRanker(Ranker, Protocol):
    """A ranker whose scores of the catalogue are the same for everyone, except for some items of each example. They are
    ranked without scoring the other items one by one."""

    def shared_scores(self) -> NDArray[np.float32]:
        """Return (n_items,) the scores of the items without an entry in `own_scores`."""
        ...

    def own_scores(self, examples: Examples) -> csr_array | None:
        """Return (n, n_items): `score` of the catalogue is the stored entry of an item, else its shared score. None =
        with these settings its scores are dense."""
        ...


@runtime_checkable
class NamesItems(Protocol):
    """A model that names items by codes."""

    @property
    def item_codes(self) -> ItemIds: ...


@runtime_checkable
class RanksNewItems(Protocol):
    """Capability `rank_new_items`: a ranker that reads item content, so it can rank items without interactions.

    Items of the catalogue keep their scores, and new items do not affect each other's scores.
    """

    def add_items(self, split: Split) -> None:
        """Append items to the model's catalogue; histories and candidates may then contain them.

        Args:
            split: the model's own split, with the new items appended to its dataset.

        Raises:
            UsageError: item texts have no effect on this model's scores.
        """
        ...


class ImpressionRanker(Protocol):
    """Capability `rank_impressions`: scores the items of an impression."""

    def score_shown(self, impressions: Impressions) -> torch.Tensor:
        """Return (total,) float32 scores of all items shown, higher is better, in the order of `impressions.shown()`.

        Only the user, time, history and items of an impression may be read, never its clicks.
        """
        ...


@dataclass(frozen=True)
class Ratings:
    """A model's ratings of n interactions, in the dataset's scale.

    Attributes:
        value: (n,) predicted ratings, never NaN.
        parsed: (n,) ratings parsed from generated text, NaN where parsing failed; None for a model that does not
            answer in text.
        parsed_as_published: (n,) the same as the published code of the method reads the text, NaN where it drops an
            answer; None where no code is known.
    """

    value: NDArray[np.floating[Any]]
    parsed: NDArray[np.floating[Any]] | None = None
    parsed_as_published: NDArray[np.floating[Any]] | None = None


class Rater(Protocol):
    """Capability `rate`: predicts how a user rates an item."""

    def rate(self, examples: Examples) -> Ratings:
        """Return (n) ratings. Only the user and item of the interaction itself may be read."""
        ...


@dataclass(frozen=True)
class Likes:
    """How much n users are predicted to like their targets.

    Attributes:
        score: (n,) higher is better, never NaN.
        probability: (n,) that the user likes the target; None for a model whose scores are not probabilities.
    """

    score: NDArray[np.floating[Any]]
    probability: NDArray[np.floating[Any]] | None = None


class Liker(Protocol):
    """Capability `like`: predicts whether a user will like an item."""

    def like(self, examples: Examples) -> Likes:
        """Return (n) predictions. Of the interaction itself only user and target may be read; of the history, which
        items it has and which of them were liked."""
        ...


class Writer(Protocol):
    """Capability `write`: writes a text about a user's interaction with an item."""

    def write(self, examples: Examples, written: Written) -> list[str]:
        """Return (n) predictions of the interactions' column `written`, which may not be read."""
        ...


class Learner(Protocol):
    """Capability `all`: trained for all tasks by one loss, which can be computed on held-out interactions."""

    def held_out_losses(self, examples: Examples) -> dict[str, float]:
        """Return the mean loss on these held-out interactions for each kind of prompt, by name."""
        ...


@dataclass(frozen=True)
class AnswerDetails:
    """How a model's answers to n examples were read.

    Attributes:
        columns: (n) rows to store with the predictions.
        metrics: name -> what is measured of the answers themselves.
        valid: (n,) whether an answer could be read.
    """

    columns: pd.DataFrame
    metrics: dict[str, float]
    valid: NDArray[np.bool_]


@runtime_checkable
class BatchAnswering(Protocol):
    """A model that needs all examples before its first answer, and reports the quality and cost of its answers."""

    def prepare_answers(self, examples: Examples) -> Examples:
        """Compute all answers; return the examples to evaluate, in which some may be repeated."""
        ...

    def answer_details(self, examples: Examples) -> AnswerDetails | None:
        """Return how the answers were read; None if there is nothing to read, as with likelihoods."""
        ...

    def usage_summary(self) -> dict[str, Any]:
        """Return the requests, tokens, seconds and cost of the answers."""
        ...


MetricValues: TypeAlias = "Callable[[Any, Examples], NDArray[np.floating[Any]]]"  # of a model: (n,), one per example


@runtime_checkable
class HasControls(Protocol):
    """A model that can answer again with one change to its input, to show what a metric depends on."""

    def controls(self, examples: Examples, seed: int, values: MetricValues) -> dict[str, Any] | None:
        """Return the entry `controls` of metrics.json; None if changed answers cannot be obtained.

        Args:
            seed: random seed of the changes.
            values: the metric.
        """
        ...

    def control_examples(self, config: Config) -> int:
        """Return the number of examples that are answered again."""
        ...

    def controls_usage(self, examples: Examples, seed: int) -> dict[str, Any] | None:
        """Show what `controls` would request, and return its requests, tokens, seconds and cost."""
        ...


@runtime_checkable
class Incomplete(Protocol):
    """A ranker whose scores may be incomplete, and which reports how that affects its metrics."""

    def gaps(self, examples: Examples, ranks: pd.DataFrame, cutoffs: Sequence[int]) -> dict[str, str]:
        """Return a warning for each label that the metrics need.

        Args:
            examples: (n) the evaluated examples.
            ranks: (n) rows with `n_better`, `n_tied` and `n_candidates` of the targets.
            cutoffs: the k of the metrics.

        Returns:
            label -> a sentence.

        Raises:
            DataError: too many scores are missing for the metrics to mean anything.
        """
        ...
