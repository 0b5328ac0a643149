"""ItemKNN (Deshpande and Karypis, TOIS 2004; with shrinkage as in RecBole): items that users had together.

    score(j) = Σ_i sim(i, j) over the history's items i,  sim(i, j) = n_ij / (√(n_i n_j) + shrinkage)

n_i users have item i in training, and n_ij users have both. Only similarities to an item's nearest neighbours are kept.
The others are 0. Nothing is trained, and the order of the history has no effect.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from torch import Tensor

from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import Split
from llm4rec_cli.models.base import Context

ITEMS_AT_ONCE = 1024  # rows of similarities before all but the nearest are dropped


class ItemKnn:
    """Scores by sums of similarities, (n_items, n_items): row i has the similarities of item i to items it supports."""

    def __init__(self, similarity: csr_array) -> None:
        self.similarity = similarity

    def score(self, examples: Examples) -> Tensor:
        flat, offsets = examples.histories()
        shape = len(examples), self.similarity.shape[0]
        histories = csr_array((np.ones(len(flat), dtype=np.float32), flat, offsets), shape=shape)
        scores = (histories @ self.similarity).toarray()
        if examples.candidates is not None:
            scores = np.take_along_axis(scores, examples.candidates, axis=1)
        return torch.from_numpy(scores)


def similarities(split: Split, neighbours: int, shrinkage: float) -> csr_array:
    """Return (n_items, n_items) float32: column j has the similarities of item j to its nearest, and to their ties."""
    flat, offsets = split.train_sequences()
    users = np.repeat(np.arange(split.n_users), np.diff(offsets))
    pairs = np.unique(users.astype(np.int64) * split.n_items + flat)  # a repeated item counts once
    user, item = np.divmod(pairs, split.n_items)
    had = csr_array((np.ones(len(pairs), dtype=np.float32), (item, user)), shape=(split.n_items, split.n_users))
    root, by_user = np.sqrt(had.sum(axis=1)), csr_array(had.T)
    blocks = []
    for start in range(0, split.n_items, ITEMS_AT_ONCE):
        block = (had[start : start + ITEMS_AT_ONCE] @ by_user).tocoo()
        row, column = block.coords
        other = row + start != column
        row, column, together = row[other], column[other], block.data[other]
        value = together / (root[row + start] * root[column] + shrinkage)
        blocks.append(_nearest(csr_array((value, (row, column)), shape=block.shape), neighbours))
    return csr_array(vstack(blocks).T).astype(np.float32)


def _nearest(rows: csr_array, n: int) -> csr_array:
    """Return the rows without values below their n-th largest."""
    lengths = np.diff(rows.indptr)
    row = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((-rows.data, row))
    least = np.full(len(lengths), -np.inf, dtype=rows.dtype)
    full = lengths >= n
    least[full] = rows.data[order][rows.indptr[:-1][full] + n - 1]
    is_near = rows.data >= least[row]
    return csr_array((rows.data[is_near], (row[is_near], rows.indices[is_near])), shape=rows.shape)


def build(context: Context) -> ItemKnn:
    return ItemKnn(similarities(context.split, context.config.neighbours, context.config.shrinkage))
