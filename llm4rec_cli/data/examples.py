"""`Examples`: what a task asks about. Histories are slices of one flat array, never lists of lists."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Examples:
    """n questions about n targets.

    Attributes:
        user: (n,) user numbers.
        target: (n,) item numbers.
        sequence: flat item numbers that histories point into.
        start, end: (n,) the history of example i is sequence[start[i]:end[i]], oldest first.
        row: (n,) the interaction's row in `RecDataset.interactions` (rating, review and so on are looked up there).
        candidates: (n, c) item numbers, the target first; None = the whole catalogue.
        mask_history: whether items of the history cannot be the answer, but for the target.
        turn: (n,) which time a question is asked, of several; None = each is asked once.
    """

    user: IntArray
    target: IntArray
    sequence: IntArray
    start: IntArray
    end: IntArray
    row: IntArray
    candidates: IntArray | None = None
    mask_history: bool = False
    turn: IntArray | None = None

    def __len__(self) -> int:
        return len(self.user)

    def __getitem__(self, index: slice | IntArray) -> Examples:
        """Those examples only."""
        return replace(
            self,
            user=self.user[index],
            target=self.target[index],
            start=self.start[index],
            end=self.end[index],
            row=self.row[index],
            candidates=None if self.candidates is None else self.candidates[index],
            turn=None if self.turn is None else self.turn[index],
        )

    def repeated(self, times: int) -> Examples:
        """Each example so many times, one after another."""
        turn = np.tile(np.arange(times), len(self))
        return replace(self[np.repeat(np.arange(len(self)), times)], turn=turn)

    @property
    def history_length(self) -> IntArray:
        return self.end - self.start

    def histories(self, last: int | None = None) -> tuple[IntArray, IntArray]:
        """All histories behind one another, cut to their `last` items.

        Returns:
            flat (total,) item numbers, and offsets (n + 1,): history i is flat[offsets[i]:offsets[i + 1]].
        """
        length = self.history_length if last is None else np.minimum(self.history_length, last)
        offsets = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(length, out=offsets[1:])
        shift = np.repeat(self.end - offsets[1:], length)
        return self.sequence[np.arange(offsets[-1]) + shift], offsets

    def ruled_out(self) -> tuple[IntArray, IntArray] | None:
        """Example and item of all that cannot be the answer; None where nothing is masked."""
        if not self.mask_history or self.candidates is not None:
            return None
        flat, offsets = self.histories()
        row = np.repeat(np.arange(len(self)), np.diff(offsets))
        other = flat != self.target[row]
        return row[other], flat[other].astype(np.int64)
