"""Batches for training: this process's share of each, built in the training process or in workers.

A batch is a function of (seed, epoch, rows), so it does not matter who builds it, or in which order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from llm4rec_cli import processes
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.base import Rows

COUNTS = "counts"  # whether this process's share of a batch is in the loss


class Share(NamedTuple):
    """One process's share of a batch.

    Attributes:
        epoch: from 0.
        of_all: the rows of every process, at least one, in order of rank.
        rank: the process's own.
        counts: false if there are fewer rows than processes: the process then computes the first row with weight 0.
    """

    epoch: int
    of_all: list[list[int]]
    rank: int
    counts: bool

    @property
    def rows(self) -> list[int]:
        return self.of_all[self.rank]


class Shares(Sampler[Share]):
    """This process's share of each batch. Rows are permuted in each epoch, as a function of (seed, epoch)."""

    def __init__(self, n_rows: int, batch_size: int, seed: int) -> None:
        self.n_rows, self.batch_size, self.seed, self.epoch = n_rows, batch_size, seed, 0

    def __len__(self) -> int:
        return -(-self.n_rows // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the rows of each batch of an epoch."""
        order = stream(self.seed, "batches", epoch).permutation(self.n_rows)
        return [order[start : start + self.batch_size] for start in range(0, self.n_rows, self.batch_size)]

    def __iter__(self) -> Iterator[Share]:
        for batch in map(np.ndarray.tolist, self.batches(self.epoch)):
            parts = [batch[part] for part in processes.shares(len(batch))]
            of_all, rank = [part or batch[:1] for part in parts], processes.rank()
            yield Share(self.epoch, of_all, rank, counts=bool(parts[rank]))


class RowData(Dataset[Any]):
    """The training rows as a torch Dataset that returns a whole share of a batch at once, as micro-batches of at most
    `micro_batch_size` rows and about equal sizes; None = as one."""

    def __init__(self, rows: Rows, micro_batch_size: int | None = None) -> None:
        self.rows, self.micro_batch_size = rows, micro_batch_size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, share: Share) -> list[dict[str, Any]]:
        if hasattr(self.rows, "shares"):
            self.rows.shares = share.of_all
        n = 1 if self.micro_batch_size is None else -(-len(share.rows) // self.micro_batch_size)
        return [
            {**self.rows.batch(share.epoch, part.tolist()), COUNTS: share.counts}
            for part in np.array_split(share.rows, n)
        ]


class Loader(DataLoader[Any]):
    """A loader that accelerate does not shard, as the batches already are; the Trainer sets its epoch.

    Workers are forked, so that they share the memory of the rows, and last until the loader is dropped.
    """

    def __init__(self, data: RowData, shares: Shares, workers: int = 0, pin_memory: bool = False) -> None:
        super().__init__(
            data,
            batch_sampler=shares,  # type: ignore[arg-type]
            collate_fn=_as_is,
            pin_memory=pin_memory,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers else None,
            generator=torch.Generator(),  # of the workers' seeds, which nothing reads
        )

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]

    def __iter__(self) -> Any:
        torch.empty((), dtype=torch.int64).random_()  # older runs drew it here each epoch, before dropout
        return super().__iter__()


def _as_is(batch: Any) -> Any:
    return batch  # `__getitems__` made it


@contextmanager
def tokenizers_may_be_forked() -> Iterator[None]:
    """Keep the threads of `tokenizers` from being used while the block lasts, unless the user has decided: a forked
    process does not have them, and the library warns of it."""
    name = "TOKENIZERS_PARALLELISM"
    decided = os.environ.get(name)
    os.environ.setdefault(name, "false")
    try:
        yield
    finally:
        if decided is None:
            del os.environ[name]
