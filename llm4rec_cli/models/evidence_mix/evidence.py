"""Evidence for each item after a history: sparse counts and neighbours, cross-fitted by users.

Users are divided at random into folds. In training, the counts that a user's rows see are those of the other folds:
transitions, their row sums and popularity alike. Nothing of the target, nor of any other interaction of that user, is
in them, so that a training row is like a row of a user who was never counted. Evaluation uses the counts of all users.
A user's own transitions then count for items of the history only, and these get no evidence but their repetition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.evidence_mix.config import EvidenceMixConfig, Part

CELLS_AT_ONCE = 1 << 22  # items × items: 16 MB a block of cosines
ROUNDING = 1e-9  # of a difference of counts, in float64


class FoldCounts:
    """Weighted pairs of items, counted over all users and within each fold.

    Args:
        row, column, weight, fold: (n_pairs,) each.
        n_items, n_folds: their numbers.
    """

    def __init__(
        self, row: IntArray, column: IntArray, weight: NDArray[np.float64], fold: IntArray, n_items: int, n_folds: int
    ) -> None:
        self.total = csr_array(coo_array((weight, (row, column)), shape=(n_items, n_items)))
        stacked = (fold * n_items + row, column)  # row i of fold f is number f · n_items + i
        self.folds = csr_array(coo_array((weight, stacked), shape=(n_folds * n_items, n_items)))
        sums = self.total.sum(axis=1)
        within = self.folds.sum(axis=1).reshape(n_folds, n_items)
        self.sums = np.concatenate([sums - within, sums[None]])  # (n_folds + 1, n_items); the last row has all users
        self.sums[self.sums < ROUNDING] = 0

    def after(self, items: csr_array, fold: IntArray) -> csr_array:
        """Return (n, n_items) Σ_i items[:, i] · C_i / √ΣC_i, with C the counts of all folds but `fold`.

        Args:
            items: (n, n_items) weights of history items.
            fold: (n,); the number of folds = none is left out.
        """
        n_folds, n_items = len(self.sums) - 1, self.total.shape[0]
        fold = np.repeat(fold, np.diff(items.indptr))
        sums = self.sums[fold, items.indices]
        weight = np.divide(items.data, np.sqrt(sums), out=np.zeros(len(sums)), where=sums > 0)
        counted = csr_array((weight, items.indices, items.indptr), shape=items.shape)
        excluded = csr_array(
            (
                np.where(fold < n_folds, weight, 0),
                np.minimum(fold, n_folds - 1) * n_items + items.indices,
                items.indptr,
            ),
            shape=(items.shape[0], n_folds * n_items),
        )
        difference = csr_array(counted @ self.total - excluded @ self.folds)
        difference.data[difference.data < ROUNDING] = 0
        difference.eliminate_zeros()
        return difference

    def resize(self, n_items: int) -> None:
        """Append items without counts. Only evaluation may follow."""
        self.total.resize((n_items, n_items))
        self.sums = np.pad(self.sums, ((0, 0), (0, n_items - self.sums.shape[1])))
        n_folds = len(self.sums) - 1
        self.folds = csr_array((n_folds * n_items, n_items))


class TextNeighbours:
    """The most similar items by the cosine of TF-IDF vectors; an item is no neighbour of itself.

    Attributes:
        rows: (n_items, n_items) the cosines.
    """

    def __init__(self, texts: list[str], n: int) -> None:
        self.vectorizer = TfidfVectorizer(dtype=np.float32)
        self.catalogue = csr_array(self.vectorizer.fit_transform(texts))
        self.n = min(n, len(texts))
        self.least = np.empty(0, dtype=np.float32)
        self.rows = csr_array(vstack([self._nearest(start, block) for start, block in _blocks(self.catalogue)]))

    def _nearest(self, start: int, block: csr_array) -> csr_array:
        cosine = (block @ self.catalogue.T).toarray()
        cosine[np.arange(len(cosine)), np.arange(start, start + len(cosine))] = 0
        least = np.partition(cosine, -self.n, axis=1)[:, -self.n]
        self.least = np.append(self.least, least)
        return csr_array(np.where(cosine >= least[:, None], cosine, 0))

    def add(self, texts: list[str]) -> None:
        """Append items: neighbours where they are as similar as the n-th neighbour in the catalogue."""
        new = csr_array(self.vectorizer.transform(texts))
        to_catalogue = (new @ self.catalogue.T).toarray()
        least = np.partition(to_catalogue, -self.n, axis=1)[:, -self.n]
        among = (new @ new.T).toarray()
        np.fill_diagonal(among, 0)
        from_catalogue = np.where(to_catalogue.T >= self.least[:, None], to_catalogue.T, 0)
        below = np.concatenate([to_catalogue, among], axis=1)
        below[below < least[:, None]] = 0
        old = self.rows.tocoo()
        right = csr_array(from_catalogue).tocoo()
        row, column = (np.concatenate([a, b]) for a, b in zip(old.coords, right.coords, strict=True))
        column[len(old.data) :] += self.rows.shape[1]
        shape = self.rows.shape[0], below.shape[1]
        upper = csr_array((np.concatenate([old.data, right.data]), (row, column)), shape=shape)
        self.rows = csr_array(vstack([upper, csr_array(below)]))


def _blocks(rows: csr_array) -> list[tuple[int, csr_array]]:
    size = max(1, CELLS_AT_ONCE // rows.shape[0])
    return [(start, rows[start : start + size]) for start in range(0, rows.shape[0], size)]


@dataclass(frozen=True)
class Features:
    """What is known of n histories.

    Attributes:
        fold: (n,) the fold left out.
        known: (n, 4) log(1 + row sum) of the last item and of the one before, log of the history's length, and the
            cosine of the last item's nearest neighbour.
        bounds: (n + 1,) the entries of history i are bounds[i]:bounds[i + 1].
        item, kind, value: (n_entries,) evidence of each kind for an item, > 0.
    """

    fold: Tensor
    known: Tensor
    bounds: Tensor
    item: Tensor
    kind: Tensor
    value: Tensor


class Evidence:
    """Computes `Features` of histories.

    Attributes:
        kinds: names of the kinds of evidence, in order; the last is the repetition of history items.
        user_fold: (n_users,) each user's fold.
        log_counts: (n_folds + 1, n_items) log(1 + count) without each fold, and of all users.
    """

    def __init__(self, split: Split, config: EvidenceMixConfig, seed: int) -> None:
        flat, offsets = split.train_sequences()
        user, n_items, n_folds = np.repeat(np.arange(split.n_users), np.diff(offsets)), split.n_items, config.folds
        self.user_fold = stream(seed, "folds").permutation(split.n_users) % n_folds
        self.n_folds, self.groups = n_folds, list(config.groups)
        self.parts = set(config.parts)
        pairs = []
        for step in range(1, config.steps + 1):
            same = user[step:] == user[:-step]
            pairs.append((flat[:-step][same], flat[step:][same], np.full(same.sum(), 1 / step), user[step:][same]))
        before, after, weight, owner = (np.concatenate(part) for part in zip(*pairs, strict=True))
        before, after, fold = before.astype(np.int64), after.astype(np.int64), self.user_fold[owner]
        self.following = FoldCounts(before, after, weight, fold, n_items, n_folds)
        self.preceding = FoldCounts(after, before, weight, fold, n_items, n_folds)
        within = np.zeros((n_folds, n_items))
        np.add.at(within, (self.user_fold[user], flat), 1)
        counts = within.sum(axis=0)
        self.log_counts = np.log1p(np.concatenate([counts - within, counts[None]])).astype(np.float32)
        has_words = any(map(TfidfVectorizer().build_analyzer(), split.dataset.texts))
        self.text = None
        if Part.text in self.parts and has_words:
            self.text = TextNeighbours(split.dataset.texts, config.neighbours)
        spans = ["last" if end == 1 else f"to {end}" for end in self.groups]
        self.kinds = [f"following, {span}" for span in spans] if Part.following in self.parts else []
        self.kinds += ["preceding"] if Part.preceding in self.parts else []
        self.kinds += [f"text, {span}" for span in spans] if self.text else []
        self.kinds.append("repetition")

    def add_items(self, split: Split) -> None:
        n_items = split.n_items
        texts = split.dataset.texts[self.log_counts.shape[1] :]
        for counts in (self.following, self.preceding):
            counts.resize(n_items)
        self.log_counts = np.pad(self.log_counts, ((0, 0), (0, len(texts))))
        if self.text:
            self.text.add(texts)

    def features(self, examples: Examples, fold: IntArray | None = None) -> Features:
        """Return the features of the examples' histories.

        Args:
            fold: (n,) to leave out; None = none.
        """
        n = len(examples)
        n_items = self.log_counts.shape[1]
        fold = np.full(n, self.n_folds) if fold is None else fold
        flat, offsets = examples.histories(last=self.groups[-1])
        row = np.repeat(np.arange(n), np.diff(offsets))
        distance = offsets[1:][row] - np.arange(len(flat))
        group = np.searchsorted(self.groups, distance)
        spans = [self._weights(row, flat, 1 / distance, group == g, n) for g in range(len(self.groups))]
        kinds = []
        if Part.following in self.parts:
            kinds += [self.following.after(span, fold) for span in spans]
        if Part.preceding in self.parts:
            kinds.append(self.preceding.after(spans[0], fold))
        if self.text:
            kinds += [csr_array(span @ self.text.rows) for span in spans]
        every, bounds = examples.histories()
        in_row = np.repeat(np.arange(n), np.diff(bounds))
        repeated = self._weights(in_row, every, 1 / (bounds[1:][in_row] - np.arange(len(every))), slice(None), n)
        key, kind, value = _entries([*kinds, repeated])
        in_history = np.isin(key, np.unique(in_row * n_items + every))
        kept = ~in_history | (kind == len(self.kinds) - 1)
        key, kind, value = key[kept], kind[kept], value[kept]
        order = np.argsort(key // n_items, kind="stable")
        key, kind, value = key[order], kind[order], value[order]
        return Features(
            torch.from_numpy(fold),
            torch.from_numpy(self._known(examples, flat, offsets, fold)),
            torch.from_numpy(np.searchsorted(key // n_items, np.arange(n + 1))),
            torch.from_numpy(key % n_items),
            torch.from_numpy(kind),
            torch.from_numpy(value),
        )

    def _weights(
        self, row: IntArray, item: IntArray, weight: NDArray[np.float64], selected: NDArray[np.bool_] | slice, n: int
    ) -> csr_array:
        """Return (n, n_items) the summed weights of the selected history items."""
        entries = weight[selected], (row[selected], item[selected])
        return csr_array(coo_array(entries, shape=(n, self.log_counts.shape[1])))

    def _known(self, examples: Examples, flat: IntArray, offsets: IntArray, fold: IntArray) -> NDArray[np.float32]:
        known = np.zeros((len(examples), 4), dtype=np.float32)
        length = np.diff(offsets)
        for back in (1, 2):
            has = np.flatnonzero(length >= back)
            known[has, back - 1] = np.log1p(self.following.sums[fold[has], flat[offsets[1:][has] - back]])
        known[:, 2] = np.log1p(examples.history_length)
        if self.text:
            has = np.flatnonzero(length >= 1)
            last = self.text.rows[flat[offsets[1:][has] - 1]]
            known[has, 3] = last.max(axis=1).toarray().ravel()
        return known


def _entries(kinds: list[csr_array]) -> tuple[IntArray, IntArray, NDArray[np.float32]]:
    """Return the key row · n_items + item, the kind and the value of all entries."""
    keys, numbers, values = [], [], []
    for number, matrix in enumerate(kinds):
        row = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
        keys.append(row * matrix.shape[1] + matrix.indices)
        numbers.append(np.full(matrix.nnz, number))
        values.append(matrix.data.astype(np.float32))
    return np.concatenate(keys), np.concatenate(numbers), np.concatenate(values)
