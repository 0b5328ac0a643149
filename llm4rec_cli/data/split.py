"""Splits: which interaction is train, valid or test; and the examples that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.schema import Part

TRAIN, VALID, TEST = 0, 1, 2
_CODE = {Part.valid: VALID, Part.test: TEST}


@dataclass(frozen=True)
class Split:
    """A dataset divided.

    Attributes:
        dataset: the whole dataset.
        part: (n_interactions,) TRAIN, VALID or TEST.
    """

    dataset: RecDataset
    part: NDArray[np.int8]

    @property
    def n_items(self) -> int:
        return self.dataset.n_items

    @property
    def n_users(self) -> int:
        return self.dataset.n_users

    def train_sequences(self) -> tuple[IntArray, IntArray]:
        """The training part of each user's sequence, oldest first: flat item numbers and offsets (n_users + 1,)."""
        kept = self.part == TRAIN
        before = np.concatenate([[0], np.cumsum(kept)])
        return self.dataset.sequence[kept], before[self.dataset.offsets]

    def train_counts(self) -> IntArray:
        """(n_items,) how often each item occurs in the training part."""
        return np.bincount(self.dataset.sequence[self.part == TRAIN], minlength=self.n_items)

    def examples(self, part: Part) -> Examples:
        """One example an interaction of that part; its history is all that precedes it in the user's sequence."""
        row = np.flatnonzero(self.part == _CODE[part])
        user = self.dataset.interactions["user"].to_numpy()[row]
        return Examples(
            user=user,
            target=self.dataset.sequence[row],
            sequence=self.dataset.sequence,
            start=self.dataset.offsets[user],
            end=row,
            row=row,
        )


def leave_one_out(dataset: RecDataset) -> Split:
    """A user's last interaction is test, the one before validation, the rest train.

    Users with fewer than three interactions stay in train whole: they have no history to ask about.
    """
    part = np.zeros(len(dataset.interactions), dtype=np.int8)
    last = dataset.offsets[1:][np.diff(dataset.offsets) >= 3] - 1
    part[last] = TEST
    part[last - 1] = VALID
    return Split(dataset, part)
