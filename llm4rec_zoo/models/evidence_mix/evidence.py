"""Evidence for each item after a history: sparse counts and neighbours, cross-fitted by users.

Users are divided at random into folds. In training, a user's rows see only counts from the other folds: transitions,
their row sums and popularity. Nothing of the target, nor of any other interaction of that user, is
in them, so that a training row is like a row of a user who was never counted. Evaluation uses the counts of all users,
and with them recency, which no training row sees.
A user's own transitions then count for items of the history only, and these get no evidence but their repetition.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, hstack, vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.shared.transitions import training_pairs
from llm4rec_zoo.models.evidence_mix.config import EvidenceMixConfig, Part

CELLS_AT_ONCE = 1 << 22  # items × items: at most 50 MB of cosines a thread
KEYS_IN_A_TABLE = 1 << 23  # 8 MB; a table of more would grow with rows × items
ROUNDING = 1e-9  # of a difference of counts, in float64


class FoldCounts:
    """Weighted pairs of items, (n_pairs,) each, counted over all users and within each fold."""

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
        """Return (n, n_items) Σ_i items[:, i] · C_i / √ΣC_i, with C the counts of all folds but `fold` (n,), whose
        value may be the number of folds: none is left out."""
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
    """The most similar items by the cosine of TF-IDF vectors. An item is among its own neighbours.

    Args:
        texts: of the catalogue, at least one with a word.
        n: number of neighbours, itself included; up to twice as many where cosines tie. If more tie with the n-th, none
            of these is a neighbour, so that neither the order of items nor the size of the catalogue matters.

    Attributes:
        rows: (n_items, n_items) the cosines.
        least: (n_items, 1) the least cosine of a neighbour; 0 where there are fewer than n.
    """

    def __init__(self, texts: list[str], n: int) -> None:
        self.vectorizer = TfidfVectorizer(dtype=np.float32)
        self.catalogue = csr_array(self.vectorizer.fit_transform(texts))
        self.of_word = csr_array(self.catalogue.T)
        self.new = self.catalogue[:0]
        self.n = min(n, len(texts))
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # scipy's products let others run
            cosines = list(zip(*pool.map(self._nearest, self._blocks(self.catalogue)), strict=True))
        self.least = np.concatenate(cosines[0])
        self.rows = self.nearest = csr_array(vstack(cosines[1]))

    def _blocks(self, vectors: csr_array) -> Iterator[csr_array]:
        """Yield vectors, so few at once that their cosines with the catalogue fit."""
        for start in range(0, vectors.shape[0], size := max(1, CELLS_AT_ONCE // self.catalogue.shape[0])):
            yield vectors[start : start + size]

    def _nearest(self, vectors: csr_array) -> tuple[NDArray[np.float32], csr_array]:
        """Return (n_vectors, 1) the least cosine of a neighbour, and (n_vectors, n_items) the cosines of neighbours."""
        cosine = csr_array(vectors @ self.of_word)
        least = np.zeros((vectors.shape[0], 1), dtype=np.float32)
        for i, (begin, end) in enumerate(itertools.pairwise(cosine.indptr)):
            if end - begin >= self.n:
                values = cosine.data[begin:end]
                least[i] = np.partition(values, -self.n)[-self.n]
                if np.count_nonzero(values >= least[i]) > 2 * self.n:
                    least[i] = np.nextafter(least[i], np.float32(2))
        return least, _at_least(cosine, least)

    def add(self, texts: list[str]) -> None:
        """Append items. Their neighbours are the items that pass the catalogue's threshold of similarity."""
        self.new = csr_array(vstack([self.new, self.vectorizer.transform(texts)]))
        right, below = [self.nearest], []
        for vectors in self._blocks(self.new):
            least, nearest = self._nearest(vectors)
            right.append(_at_least(csr_array((vectors @ self.of_word).T), self.least))
            below.append(hstack([nearest, _at_least(csr_array(vectors @ self.new.T), least)]))
        self.rows = csr_array(vstack([hstack(right), *below]))


def _at_least(cosine: csr_array, least: NDArray[np.float32]) -> csr_array:
    """Return the entries that are not below their row's threshold, (n_rows, 1)."""
    cosine.data[cosine.data < least.repeat(np.diff(cosine.indptr))] = 0
    cosine.eliminate_zeros()
    return cosine


class Entries(NamedTuple):
    """Evidence for items after n histories: value[e] > 0 of kind[e] for item key[e] % n_items, after history key[e] //
    n_items."""

    key: Tensor
    kind: Tensor
    value: Tensor

    def of_rows(self, start: int, end: int, n_items: int) -> Entries:
        """Return the entries of some histories, whose rows then count from 0."""
        inside = (self.key >= start * n_items) & (self.key < end * n_items)
        return Entries(self.key[inside] - start * n_items, self.kind[inside], self.value[inside])


class Evidence:
    """Computes the evidence after histories, and what the gates read of the histories themselves.

    Attributes:
        kinds: names of the kinds of evidence, in order. The last is the repetition of history items.
        user_fold: (n_users,) each user's fold.
        log_counts: (n_folds + 1, n_items) log(1 + count) without each fold, and of all users. An item that is held out
            of training, or new, has the mean of the others: nothing is known of its popularity.
        recency: (n_items,) log((1 + w) / (1 + count)), where w is a count in which an interaction weighs 1/√d, d its
            distance from the end of the user's training sequence, and weights have mean 1. 0, neither early nor late,
            for an item without interactions.
    """

    def __init__(self, split: Split, config: EvidenceMixConfig, seed: int) -> None:
        flat, offsets = split.train_sequences()
        user, n_items, n_folds = np.repeat(np.arange(split.n_users), np.diff(offsets)), split.n_items, config.folds
        self.user_fold = stream(seed, "folds").permutation(split.n_users) % n_folds
        self.n_folds, self.groups = n_folds, list(config.groups)
        self.parts = set(config.parts)
        pairs = [(a, b, np.full(len(a), 1 / step), owner) for step, a, b, owner in training_pairs(split, config.steps)]
        before, after, weight, owner = map(np.concatenate, zip(*pairs, strict=True))
        before, after, fold = before.astype(np.int64), after.astype(np.int64), self.user_fold[owner]
        self.following = FoldCounts(before, after, weight, fold, n_items, n_folds)
        self.preceding = FoldCounts(after, before, weight, fold, n_items, n_folds)
        within = np.zeros((n_folds, n_items))
        np.add.at(within, (self.user_fold[user], flat), 1)
        counts = within.sum(axis=0)
        counts = np.concatenate([counts - within, counts[None]])
        self.log_counts = np.log1p(counts).astype(np.float32)
        late = 1 / np.sqrt(offsets[1:][user] - np.arange(len(flat)))
        weighted = np.bincount(flat, late / late.mean(), n_items)
        self.recency = (np.log1p(weighted) - np.log1p(within.sum(axis=0))).astype(np.float32)
        items = split.softmax_items()
        if items is not None:
            held_out = np.setdiff1d(np.arange(n_items), items)
            self.log_counts[:, held_out] = self.log_counts[:, items].mean(axis=1, keepdims=True)
        has_words = any(map(TfidfVectorizer().build_analyzer(), split.dataset.texts))
        self.text = None
        if Part.text in self.parts and has_words:
            self.text = TextNeighbours(split.dataset.texts, config.neighbours)
        used = [part for part in (Part.following, Part.preceding) if part in self.parts] + [Part.text] * bool(self.text)
        spans = ["last" if end == 1 else f"to {end}" for end in self.groups]
        self.kinds = [f"{part.name}, {span}" for part in used for span in spans] + ["repetition"]

    def add_items(self, split: Split) -> None:
        n_items = split.n_items
        texts = split.dataset.texts[self.log_counts.shape[1] :]
        for counts in (self.following, self.preceding):
            counts.resize(n_items)
        unknown = self.log_counts.mean(axis=1, keepdims=True).repeat(len(texts), axis=1)
        self.log_counts = np.concatenate([self.log_counts, unknown], axis=1)
        self.recency = np.pad(self.recency, (0, len(texts)))
        if self.text:
            self.text.add(texts)

    def all_users(self, examples: Examples) -> IntArray:
        """Return (n,) the number that leaves out no fold."""
        return np.full(len(examples), self.n_folds)

    def gate_inputs(self, examples: Examples, fold: IntArray) -> Tensor:
        """Return (n, 3) log(1 + row sum) of the last two items, and log(1 + the history's length),
        without the counts of each history's fold."""
        gate_inputs = np.zeros((len(examples), 3), dtype=np.float32)
        for back in (1, 2):
            has = np.flatnonzero(examples.history_length >= back)
            item = examples.sequence[examples.end[has] - back]
            gate_inputs[has, back - 1] = np.log1p(self.following.sums[fold[has], item])
        gate_inputs[:, 2] = np.log1p(examples.history_length)
        return torch.from_numpy(gate_inputs)

    def entries(self, examples: Examples, fold: IntArray) -> Entries:
        """Return the evidence for all items, without the counts of each history's fold. An item of the history has
        repetition at most."""
        n, n_items = len(examples), self.log_counts.shape[1]
        flat, offsets = examples.histories()
        row = np.repeat(np.arange(n), np.diff(offsets))
        distance = offsets[1:][row] - np.arange(len(flat))
        group = np.searchsorted(self.groups, distance)

        def weighted(selected: NDArray[np.bool_] | slice) -> csr_array:
            places = row[selected], flat[selected]
            return csr_array(coo_array((1 / distance[selected], places), shape=(n, n_items)))

        spans = [weighted(group == number) for number in range(len(self.groups))]
        kinds = []
        if Part.following in self.parts:
            kinds += [self.following.after(span, fold) for span in spans]
        if Part.preceding in self.parts:
            kinds += [self.preceding.after(span, fold) for span in spans]
        if self.text:
            kinds += [csr_array(span @ self.text.rows) for span in spans]
        repetition = weighted(slice(None))
        matrices = [*kinds, repetition]
        key = np.concatenate([_keys(matrix) for matrix in matrices])
        kind = np.repeat(np.arange(len(matrices)), [matrix.nnz for matrix in matrices])
        value = np.concatenate([matrix.data for matrix in matrices]).astype(np.float32)
        n_new = len(key) - repetition.nnz
        has_evidence = np.ones(len(key), dtype=bool)
        has_evidence[:n_new] = ~_contained(key[:n_new], key[n_new:], n * n_items)
        return Entries(*(torch.from_numpy(x[has_evidence]) for x in (key, kind, value)))


def _keys(matrix: csr_array) -> IntArray:
    """Return row · n_columns + column of each entry."""
    row = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return row * matrix.shape[1] + matrix.indices


def _contained(keys: IntArray, among: IntArray, n_possible: int) -> NDArray[np.bool_]:
    """Return which keys are `among` others. All are less than `n_possible`."""
    if n_possible <= KEYS_IN_A_TABLE:
        table = np.zeros(n_possible, dtype=bool)
        table[among] = True
        return table[keys]
    if len(among) == 0:
        return np.zeros(len(keys), dtype=bool)
    among = np.sort(among)
    return among[np.minimum(np.searchsorted(among, keys), len(among) - 1)] == keys
