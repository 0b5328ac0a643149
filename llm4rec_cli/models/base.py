"""What a model of this house looks like to the tasks and the trainer.

A model is a package `models/<name>/`: `config.py` (its dataclass, free of torch) and `model.py` with
`build(context) -> Ranker`. Names come from listing the folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from llm4rec_cli.config.registry import model_module

if TYPE_CHECKING:
    import torch

    from llm4rec_cli.capabilities import Ranker
    from llm4rec_cli.data.split import Split


# Of models trained by `sequences.SequenceRows`, against RecBole's prefix rows.
ONE_PASS_DEVIATIONS = (
    "a step takes whole sequences of users, where the published code shuffles prefix rows",
    "sequences over max_length are covered by half-overlapping windows, each target once",
    "the padding item takes no part in the training softmax (the published code has it there)",
    "dropout probabilities are rounded to 1/256",
)


@dataclass(frozen=True)
class Context:
    """All that a model may know when it is built.

    Attributes:
        config: the model's own dataclass, as composed (attribute access).
        split: the data; a model trains on its train part and may choose a setting by `split.examples(SplitName.valid)`.
        seed: of the model's own randomness (`streams.stream(seed, name, …)`).
        cache: folder for what is computed once, e.g. text features.
        device: `cpu`, `cuda`, …
        task: the name of the task that it is trained for or asked; `all` for every one.
        llm: an LLMConfig, for a model that asks a chat model.
    """

    config: Any
    split: Split
    seed: int
    cache: Path
    device: str
    task: str = "sequential"
    llm: Any = None


class Rows(Protocol):
    """Training rows of a model with weights. A row's batch is a function of (epoch, indices) alone."""

    def __len__(self) -> int: ...

    def batch(self, epoch: int, indices: list[int]) -> dict[str, torch.Tensor]:
        """The keyword arguments of the model's forward for these rows."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """A torch module that the trainer fits: forward(**rows.batch(…)) gives {"loss": mean of n terms, "n_terms": n}."""

    def training_rows(self) -> Rows: ...


@runtime_checkable
class Watched(Protocol):
    """A trainable model that its log tells more of than loss and validation metric.

    Its forward may also give "sums": name -> (2,) a sum over terms and their number, whose quotient over an epoch is
    logged.
    """

    def facts(self, means: Mapping[str, float]) -> dict[str, Any]:
        """Numbers by name, of the weights as they are after an epoch; in evaluation mode.

        Args:
            means: the epoch's, of the sums; over all processes.
        """
        ...


@runtime_checkable
class Paced(Protocol):
    """A trainable model some of whose weights learn at a rate of their own.

    Attributes:
        epsilon: Adam's.
    """

    @property
    def epsilon(self) -> float: ...

    def learning_rate_of(self, name: str, usual: float) -> float:
        """Of the weights of that name.

        Args:
            usual: `trainer.learning_rate`.
        """
        ...


@runtime_checkable
class Kept(Protocol):
    """A model whose weights mean nothing without something beside them, which a run keeps."""

    def artefacts(self) -> dict[str, str]:
        """Names of files in the run folder, and what stands in them."""
        ...


def build(context: Context) -> Ranker:
    """The model that `context.config.name` names."""
    module = importlib.import_module(model_module(context.config.name))
    ranker: Ranker = module.build(context)
    return ranker
