"""Ranks and best items of scores that are the same for all users, except for some items of each.

Nothing here is users × items: the shared scores are sorted once, and an example costs what its own entries cost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

IntArray = NDArray[np.integer[Any]]
FloatArray = NDArray[np.float32]

NOT_RANKED = np.float32(-np.inf)
SORTED_WHOLE = 1 << 10  # entries of a row, above which most are dropped before the rest is sorted


class SparseRanks:
    """Ranks for many examples at a time.

    Args:
        shared: (n_items,) the scores of an example's items that it has no entry for.
        outside: item numbers that are never ranked; None = none.
    """

    def __init__(self, shared: FloatArray, outside: IntArray | None = None) -> None:
        self.n_items = len(shared)
        self.shared = shared.astype(np.float32)
        inside = np.ones(self.n_items, dtype=bool)
        if outside is not None:
            inside[outside] = False
            self.shared[outside] = NOT_RANKED
        items = np.flatnonzero(inside)
        self.best_first = items[np.argsort(-self.shared[items], kind="stable")]  # ties by the lower number
        self.place = np.full(self.n_items, -1)
        self.place[self.best_first] = np.arange(len(items))
        self.ascending = self.shared[self.best_first][::-1].copy()

    def entries(
        self, own: csr_array, masked: tuple[IntArray, IntArray] | None = None, zeroed: bool = False
    ) -> tuple[IntArray, IntArray, FloatArray]:
        """Return row, item and score of all that differs from the shared scores, sorted by row and item.

        Args:
            own: (n, n_items) its stored entries replace the shared scores.
            masked: (row, item) pairs that are not ranked, or, `zeroed`, have a score of 0.
        """
        row = np.repeat(np.arange(own.shape[0]), np.diff(own.indptr))
        item, score = own.indices.astype(np.int64), own.data.astype(np.float32)
        if masked is not None:
            mask_score = np.full(len(masked[0]), 0.0 if zeroed else NOT_RANKED, dtype=np.float32)
            row, item = np.concatenate([masked[0], row]), np.concatenate([masked[1], item])
            score = np.concatenate([mask_score, score])
        inside = self.place[item] >= 0
        row, item, score = row[inside], item[inside], score[inside]
        key = row * self.n_items + item
        order = np.argsort(key, kind="stable")  # a masked item is before its own entry
        order = order[np.diff(key[order], prepend=-1) > 0]
        return row[order], item[order], score[order]

    def ranks(
        self, entries: tuple[IntArray, IntArray, FloatArray], target: IntArray
    ) -> tuple[IntArray, IntArray, IntArray]:
        """Return (n,) how many items score above each target, how many share its score, and how many are ranked. Of a
        target that is not ranked all others are above it, and none shares its score."""
        row, item, score = entries
        n = len(target)
        key, wanted = row * self.n_items + item, np.arange(n) * self.n_items + target
        found = np.searchsorted(key, wanted)
        has_entry = np.zeros(n, dtype=bool)
        within = found < len(key)
        has_entry[within] = key[found[within]] == wanted[within]
        of_target = self.shared[target]
        of_target[has_entry] = score[found[has_entry]]

        at_most = np.searchsorted(self.ascending, of_target, side="right")
        below = np.searchsorted(self.ascending, of_target, side="left")
        replaced, compared = self.shared[item], of_target[row]

        def change(is_counted: Any) -> IntArray:
            gained = is_counted(score, compared).astype(np.int64) - is_counted(replaced, compared)
            return np.bincount(row, gained, minlength=n).astype(np.int64)

        n_better = len(self.ascending) - at_most + change(np.greater)
        n_tied = at_most - below + change(np.equal)
        n_ranked = len(self.ascending) - np.bincount(row[score == NOT_RANKED], minlength=n)
        is_unranked = of_target == NOT_RANKED
        return np.where(is_unranked, n_ranked - 1, n_better), np.where(is_unranked, 0, n_tied), n_ranked

    def best(self, entries: tuple[IntArray, IntArray, FloatArray], n: int, k: int) -> tuple[IntArray, FloatArray]:
        """Return (n, k) the items with the highest scores, best first, ties by the lower number, and their scores;
        -inf where fewer are ranked."""
        k = min(k, self.n_items)
        if k == 0:
            return np.zeros((n, 0), dtype=np.int64), np.zeros((n, 0), dtype=np.float32)
        item, score = self._best_shared(entries, n, k)
        own_item, own_score = _first_of_rows(*_likely(entries, k), n, k)
        item, score = np.concatenate([item, own_item], axis=1), np.concatenate([score, own_score], axis=1)
        order = np.lexsort((item, -score))[:, :k]
        return np.take_along_axis(item, order, axis=1), np.take_along_axis(score, order, axis=1)

    def _best_shared(
        self, entries: tuple[IntArray, IntArray, FloatArray], n: int, k: int
    ) -> tuple[IntArray, FloatArray]:
        """Return the same of the items without an entry.

        With an example's entries at the sorted places p_0, p_1, … of the shared order, p_i - i places before the i-th
        have none, so that the j-th place without an entry is j plus the number of i with p_i - i <= j.
        """
        row, item, _ = entries
        n_places = len(self.best_first)
        key = np.sort(row * n_places + self.place[item])
        first = np.searchsorted(key, np.arange(n) * n_places)
        n_without = key - (np.arange(len(key)) - first[key // n_places])
        j = np.arange(min(k, n_places))
        wanted = (np.arange(n) * n_places)[:, None] + j
        place = j + np.searchsorted(n_without, wanted, side="right") - first[:, None]
        exists = place < n_places
        best = self.best_first[np.minimum(place, n_places - 1)]
        return best, np.where(exists, self.shared[best], NOT_RANKED)


def _likely(entries: tuple[IntArray, IntArray, FloatArray], k: int) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the entries without most of those that are not among their row's k best, where a row has many."""
    row, item, score = entries
    bounds = np.concatenate([[0], np.cumsum(np.bincount(row))])
    is_kept = np.ones(len(row), dtype=bool)
    for long in np.flatnonzero(np.diff(bounds) > max(k, SORTED_WHOLE)):
        part = slice(bounds[long], bounds[long + 1])
        is_kept[part] = score[part] >= np.partition(score[part], -k)[-k]
    return row[is_kept], item[is_kept], score[is_kept]


def _first_of_rows(row: IntArray, item: IntArray, score: FloatArray, n: int, k: int) -> tuple[IntArray, FloatArray]:
    """Return (n, k) the k best entries of each row, filled up with -inf."""
    order = np.lexsort((item, -score, row))
    row, item, score = row[order], item[order], score[order]
    nth = np.arange(len(row)) - np.searchsorted(row, row)
    is_first = nth < k
    items, scores = np.zeros((n, k), dtype=np.int64), np.full((n, k), NOT_RANKED)
    items[row[is_first], nth[is_first]] = item[is_first]
    scores[row[is_first], nth[is_first]] = score[is_first]
    return items, scores
