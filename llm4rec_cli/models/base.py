"""The interface between models, tasks and the trainer.

A model is a package `models/<name>/`: `config.py` (its dataclass, without torch) and `model.py` with
`build(context)`; a small one is a module of `models/baselines/`. Names come from listing the folders, and from
installed packages: `config.plugins`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

from llm4rec_cli.config.registry import load_module
from llm4rec_cli.config.schema import Precision
from llm4rec_cli.errors import Llm4RecError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from llm4rec_cli.capabilities import Ranker
    from llm4rec_cli.data.split import Split
    from llm4rec_cli.ids.item_ids import ItemIds


@dataclass(frozen=True)
class Context:
    """Everything a model may use when it is built.

    Attributes:
        config: the model's own dataclass.
        split: the data. A model trains on its train part and may choose a setting by `split.examples(SplitName.valid)`.
        seed: seed of the model's own randomness (`streams.stream(seed, name, …)`).
        cache: folder for what is computed once, e.g. text features.
        device: `cpu`, `cuda`, …
        task: the name of the task that the model is trained or evaluated on; `all` for all tasks.
        llm: an LLMConfig, for a model that queries a chat model.
        rows: what the task has a model learn from, where its module defines `training_rows`: on `like`, LabelledRows.
        is_loaded: whether a run's weights are loaded afterwards, so no initial weights need training.
        scoring: `trainer.scoring`, for a model with the trait `bf16_scoring`.
    """

    config: Any
    split: Split
    seed: int
    cache: Path
    device: str
    task: str = "sequential"
    llm: Any = None
    is_loaded: bool = False
    rows: Any = None
    scoring: Precision = Precision.fp32


# Arguments of a model's forward. Tensors are copied to its device; arrays stay, for shapes and lengths: reading these
# from a GPU would make the training step wait for it.
Batch: TypeAlias = "dict[str, torch.Tensor | NDArray[Any]]"


class Rows(Protocol):
    """Training rows of a model with weights. A batch is a function of (epoch, indices).

    If it also depends on what other processes have of it, the rows have an attribute `shares`, which is set before
    `batch` to the rows of each process's share, in order of rank.
    """

    def __len__(self) -> int: ...

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Return the keyword arguments of the model's forward for these rows."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """A torch module that the trainer fits: forward(**rows.batch(…)) gives {"loss": mean of n terms, "n_terms": n}."""

    def training_rows(self) -> Rows: ...


@runtime_checkable
class LogsEpochMetrics(Protocol):
    """A trainable model with more to log than its loss and validation metric.

    Its forward may also return "sums": name -> (2,) a sum over terms and their number. The quotient over an epoch is
    logged.
    """

    def epoch_metrics(self, means: Mapping[str, float]) -> Mapping[str, object]:
        """Return values to log by name, computed from the weights at the end of an epoch, in evaluation mode.

        It runs after the epoch's validation, and before the weights are saved: it may set a buffer of theirs. `means`
        are the epoch's means of the "sums", over all processes.
        """
        ...


class ReferenceLosses(NamedTuple):
    """What the loss of a model that generates items would be if it read no history: with all items equally likely, and
    as likely as they are targets in training."""

    uniform: float
    popularity: float


@runtime_checkable
class HasReferenceLosses(Protocol):
    """A trainable model whose loss is the negative log-likelihood of target items."""

    def reference_losses(self) -> ReferenceLosses: ...


@runtime_checkable
class HasParameterGroups(Protocol):
    """A trainable model with separate learning rates for some of its weights, and Adam's epsilon."""

    @property
    def epsilon(self) -> float: ...

    def learning_rate_of(self, name: str, usual: float) -> float:
        """Return the learning rate of the parameter `name`; `usual` is `trainer.learning_rate`."""
        ...


@runtime_checkable
class ChoosesOnValidation(Protocol):
    """A model that is not trained and chooses settings on validation when it is built."""

    def chosen(self) -> dict[str, Any]:
        """Return setting -> chosen value."""
        ...


@runtime_checkable
class HasArtifacts(Protocol):
    """A model whose weights are only meaningful together with other files, which its run folder keeps."""

    def artifacts(self) -> dict[str, str]:
        """Return file name -> content."""
        ...


class PublishedMapping(Protocol):
    """The module `models/NAME/published.py` of a method whose traits have `published`.

    Attributes:
        LEFT_OUT: names of tensors of the published code that our model computes or does not need.
    """

    LEFT_OUT: frozenset[str]

    def problems(self, config: Any) -> Iterable[Llm4RecError]:
        """Yield why the published weights do not fit these settings."""
        ...

    def shapes(self, config: Any) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of each tensor that the published code writes with these settings."""
        ...

    def imported_state(self, config: Any, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return our model's weights by name.

        Args:
            tensors: float32, with the names and shapes of `shapes`.

        Raises:
            DataError: two tensors that are copies of one another in the published model differ.
        """
        ...


def published_mapping(name: str) -> PublishedMapping:
    return cast(PublishedMapping, load_module(name, "published"))


def codes_of(context: Context, seed: int | None = None) -> ItemIds | None:
    """Return the ids of all items, by another seed than that of the settings if there is one; None for a model that
    does not name items by codes."""
    if not names_items_by_codes(context.config.name):
        return None
    return cast("ItemIds", load_module(context.config.name, "model").codes_of(context, seed))


def names_items_by_codes(name: str) -> bool:
    """Return whether a model's module has `codes_of`."""
    return hasattr(load_module(name, "model"), "codes_of")


def build(context: Context) -> Ranker:
    return cast("Ranker", load_module(context.config.name, "model").build(context))
