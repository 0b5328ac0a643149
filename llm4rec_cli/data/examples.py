"""`Examples` and `Impressions`: the inputs of a task. Histories are slices of a flat array, never lists of lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]


class Histories:
    """n users, each with a history: what `Examples` and `Impressions` share.

    Attributes:
        sequence: flat item numbers that histories point into.
        start, end: (n,) the history of example i is sequence[start[i]:end[i]], oldest first.
    """

    user: IntArray
    sequence: IntArray
    start: IntArray
    end: IntArray
    ROWS: ClassVar[Sequence[str]]  # the attributes with one entry for each of the n
    OF_ITEMS: ClassVar[Sequence[str]] = ("sequence",)  # the attributes with one entry for each item of `sequence`

    def __len__(self) -> int:
        return len(self.user)

    def __getitem__(self, index: slice | IntArray) -> Self:
        """Return a selection of the n."""
        entries = {name: getattr(self, name) for name in self.ROWS}
        selected = {name: values[index] for name, values in entries.items() if values is not None}
        return replace(self, **selected)  # type: ignore[type-var]

    @property
    def history_length(self) -> IntArray:
        return self.end - self.start

    def histories(self, last: int | None = None) -> tuple[IntArray, IntArray]:
        """Return all histories concatenated, each cut to its `last` items.

        Returns:
            flat (total,) item numbers, and offsets (n + 1,): history i is flat[offsets[i]:offsets[i + 1]].
        """
        length = self.history_length if last is None else np.minimum(self.history_length, last)
        return slices(self.sequence, self.end - length, self.end)

    def reordered(self, order: IntArray) -> Self:
        """Return the n with the items of their concatenated histories in another order. Lengths stay."""
        offsets = np.concatenate([[0], np.cumsum(self.history_length)])
        entries = {name: getattr(self, name) for name in self.OF_ITEMS}
        moved = {name: slices(v, self.start, self.end)[0][order] for name, v in entries.items() if v is not None}
        return replace(self, **moved, start=offsets[:-1], end=offsets[1:])  # type: ignore[type-var]


@dataclass(frozen=True)
class Examples(Histories):
    """n examples with one target each.

    Attributes:
        user, sequence, start, end: the histories, as in `Histories`.
        target: (n,) item numbers.
        row: (n,) the interaction's row in `RecDataset.interactions` (rating, review and so on are looked up there).
        candidates: (n, c) item numbers, the target first; None = the whole catalogue.
        mask_history: whether items of the history are excluded from the ranking, the target too if it is one of them.
        outside: item numbers that are never ranked, as those of another domain; None = none.
        turn: (n,) the repetition that an example is, counted from 0; None = no example is repeated.
        liked: flat, whether the user liked each item of `sequence`; None for all tasks but `like`.
    """

    user: IntArray
    target: IntArray
    sequence: IntArray
    start: IntArray
    end: IntArray
    row: IntArray
    candidates: IntArray | None = None
    mask_history: bool = False
    outside: IntArray | None = None
    turn: IntArray | None = None
    liked: NDArray[np.bool_] | None = None
    ROWS = ("user", "target", "start", "end", "row", "candidates", "turn")
    OF_ITEMS = ("sequence", "liked")

    def repeated(self, times: int) -> Examples:
        """Return each example `times` times, one after another."""
        turn = np.tile(np.arange(times), len(self))
        return replace(self[np.repeat(np.arange(len(self)), times)], turn=turn)

    def liked_in_history(self) -> NDArray[np.bool_]:
        """Return (total,) whether each item of `histories()` was liked."""
        assert self.liked is not None
        return slices(self.liked, self.start, self.end)[0]

    def masked_items(self) -> tuple[IntArray, IntArray] | None:
        """Return the (example, item) pairs that are excluded from the ranking; None if there are none."""
        if not self.mask_history or self.candidates is not None:
            return None
        flat, offsets = self.histories()
        return np.repeat(np.arange(len(self)), np.diff(offsets)), flat.astype(np.int64)

    def masked_targets(self) -> NDArray[np.bool_]:
        """Return (n,) whether the target is excluded from the ranking, which makes it a miss."""
        masked = np.zeros(len(self), dtype=bool)
        if (pairs := self.masked_items()) is not None:
            row, item = pairs
            masked[row[item == self.target[row]]] = True
        return masked


def single_example(user: int, sequence: IntArray, start: int, end: int, target: int = 0, row: int = -1) -> Examples:
    """Return one example with the history sequence[start:end], by default without a target or row of its own."""
    users, targets, starts, ends, rows = (np.array([number]) for number in (user, target, start, end, row))
    return Examples(users, targets, sequence, start=starts, end=ends, row=rows)


@dataclass(frozen=True)
class Impressions(Histories):
    """n lists of items that were shown to a user, and which of them were clicked.

    Attributes:
        id: (n,) raw ids.
        time: (n,) seconds.
        user, sequence, start, end: the histories, as in `Histories`.
        listed: flat item numbers that lists point into, in the order of the log.
        listed_clicks: flat, whether each was clicked.
        first, last: (n,) list i is listed[first[i]:last[i]].
    """

    id: NDArray[np.object_]
    user: IntArray
    time: NDArray[np.floating[Any]]
    sequence: IntArray
    start: IntArray
    end: IntArray
    listed: IntArray
    listed_clicks: NDArray[np.bool_]
    first: IntArray
    last: IntArray
    ROWS = ("id", "user", "time", "start", "end", "first", "last")

    @property
    def n_shown(self) -> IntArray:
        return self.last - self.first

    @property
    def n_clicks(self) -> IntArray:
        places = np.flatnonzero(self.listed_clicks)
        return np.searchsorted(places, self.last) - np.searchsorted(places, self.first)

    @property
    def rankable(self) -> NDArray[np.bool_]:
        """(n,) which have both a clicked item and one that was not clicked."""
        return (self.n_clicks > 0) & (self.n_clicks < self.n_shown)

    def shown(self) -> tuple[IntArray, IntArray]:
        """Return all lists concatenated, as `histories` does."""
        return slices(self.listed, self.first, self.last)

    def clicked(self) -> NDArray[np.bool_]:
        """Return (total,) which of the items shown were clicked."""
        return slices(self.listed_clicks, self.first, self.last)[0]


def slices(flat: NDArray[Any], start: IntArray, end: IntArray) -> tuple[NDArray[Any], IntArray]:
    """Return flat[start[0]:end[0]], flat[start[1]:end[1]], … concatenated, and the offsets (n + 1,) of each."""
    offsets = np.zeros(len(start) + 1, dtype=np.int64)
    np.cumsum(end - start, out=offsets[1:])
    shift = np.repeat(end - offsets[1:], end - start)
    return flat[np.arange(offsets[-1]) + shift], offsets
