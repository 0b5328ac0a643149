"""The Transition-Graph Heuristic TGH-1 (Han et al., arXiv 2605.07125, and its code): items a few steps from the last.

The graph has an edge i → j for each pair of successive items in training, n_ij times. Ring h of an item are the items
at exactly h steps, never the item itself (the published code: in ring 1, if it followed itself). With i the history's
last item and v frozen text vectors of length 1, a ring is ordered by

    s(j) = cos(v_i, v_j) + w · log(1 + n_ij) / max_k log(1 + n_ik)               the second term in ring 1 only

The list takes b_h items of ring h, ring by ring. What a ring lacks is taken from the unused items of earlier rings,
before its own. Then come the items left over, ring by ring, and last all others, which tie: the published code draws
them at random, and our metrics are the expectation over that draw. Nothing is trained.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.transitions import transition_counts
from llm4rec_cli.text.features import encode_texts

CELLS_AT_ONCE = 1 << 22  # examples × items: 32 MB a matrix
DECIMALS = 5  # of a similarity
SPREAD = 4.0  # between the similarities of two rings, which are in [-1, 1 + w]


class TransitionGraph:
    """Scores an item by its place in the list, negated, of counts n_ij and vectors of length 1, with budgets b_1, b_2,
    … and edge weight w."""

    def __init__(self, counts: csr_array, vectors: NDArray[np.float32], budgets: list[int], edge_weight: float) -> None:
        self.edges = (counts > 0).astype(np.float32)
        self.weights = counts.log1p()
        most = self.weights.max(axis=1).toarray()
        self.weights.data *= edge_weight / np.repeat(most, np.diff(self.weights.indptr))
        self.vectors, self.budgets = vectors, budgets

    def score(self, examples: Examples) -> Tensor:
        rows = max(1, CELLS_AT_ONCE // len(self.vectors))
        parts = [self._scores(examples[slice(start, start + rows)]) for start in range(0, len(examples), rows)]
        return torch.from_numpy(np.concatenate(parts))

    def _scores(self, examples: Examples) -> NDArray[np.float32]:
        flat, offsets = examples.histories(last=1)
        scores = np.zeros((len(examples), len(self.vectors)), dtype=np.float32)
        scores[np.diff(offsets) > 0] = -self._places(flat)
        return scores if examples.candidates is None else np.take_along_axis(scores, examples.candidates, axis=1)

    def _rings(self, last: IntArray) -> IntArray:
        """Return (n, n_items): the ring of each item around each of the items `last`, from 0; len(budgets) = none."""
        index = np.arange(len(last))
        step = csr_array((np.ones(len(last), dtype=np.float32), (index, last)), shape=(len(last), len(self.vectors)))
        rings = np.full(step.shape, len(self.budgets))
        for ring in range(len(self.budgets)):
            row, item = (step @ self.edges).nonzero()
            new = (rings[row, item] == len(self.budgets)) & (item != last[row])
            row, item = row[new], item[new]
            rings[row, item] = ring
            step = csr_array((np.ones(len(row), dtype=np.float32), (row, item)), shape=step.shape)
        return rings

    def _places(self, last: IntArray) -> IntArray:
        """Return (n, n_items) the place of each item in the list after an item of `last`: ascending, equal for ties."""
        n_rings, n_items = len(self.budgets), len(self.vectors)
        ring, rows = self._rings(last), np.arange(len(last))[:, None]
        similarity = (self.vectors[last] @ self.vectors.T).astype(np.float64)
        similarity += np.where(ring == 0, self.weights[last].toarray(), 0)
        # Rounded, so that no order depends on rounding errors, which depend on the batch. Items in no ring tie.
        key = ring * SPREAD - np.where(ring < n_rings, similarity.round(DECIMALS), 0)
        order = np.argsort(key, axis=1, kind="stable")
        ascending = np.take_along_axis(key, order, axis=1)
        fresh = np.diff(ascending, axis=1, prepend=-np.inf) > 10**-DECIMALS / 2
        better = np.empty_like(ring)
        np.put_along_axis(better, order, np.maximum.accumulate(np.where(fresh, np.arange(n_items), 0), axis=1), axis=1)
        size = np.stack([(ring == h).sum(axis=1) for h in range(n_rings)], axis=1)
        first = np.column_stack([np.zeros(len(last), dtype=np.int64), np.cumsum(size, axis=1)])
        index = better - first[rows, ring]  # within the ring: the number of more similar items
        # Part h of the list has, in this order, unused items of each earlier ring and then the picks of ring h; a last
        # part has what remains, and then the items in no ring. The block says in which of them an item is.
        budgets = np.array([*self.budgets, n_items])
        unused = index - budgets[ring]
        block = np.where(unused < 0, ring * (n_rings + 1) + n_rings, n_rings * (n_rings + 1) + ring)
        left, taken = np.maximum(size - budgets[:-1], 0), np.zeros_like(size)
        for part in range(1, n_rings):
            lacking = np.maximum(budgets[part] - size[:, part], 0)
            for earlier in range(part):
                take = np.minimum(left[:, earlier], lacking)
                begin = taken[:, earlier].copy()
                end = begin + take
                is_taken = (ring == earlier) & (unused >= begin[:, None]) & (unused < end[:, None])
                block[is_taken] = part * (n_rings + 1) + earlier
                taken[:, earlier], left[:, earlier], lacking = end, left[:, earlier] - take, lacking - take
        return block * n_items + index


def build(context: Context) -> TransitionGraph:
    config, split = context.config, context.split
    vectors = encode_texts(split.dataset.texts, config.encoder, context.cache, context.device, split.dataset).numpy()
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    counts = transition_counts(split, 1).astype(np.float32)
    return TransitionGraph(counts, vectors / lengths, list(config.budgets), config.edge_weight)
