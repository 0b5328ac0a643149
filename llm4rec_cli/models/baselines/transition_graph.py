"""The Transition-Graph Heuristic TGH-1 (Han et al., arXiv 2605.07125, and its code): items a few steps from the last.

The graph has an edge i → j for each pair of successive items in training, n_ij times. Ring h of an item are the items
at exactly h steps, never the item itself. With i the history's last item and v frozen text vectors of length 1, a ring
is ordered by

    s(j) = cos(v_i, v_j) + w · log(1 + n_ij) / max_k log(1 + n_ik)               the second term in ring 1 only

The list takes b_h items of ring h, ring by ring. What a ring lacks is taken from the unused items of earlier rings,
before its own. Then come the items left over, ring by ring, and last all others, which tie: the published code draws
them at random, and our metrics are the expectation over that draw. Nothing is trained.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.models.base import Context
from llm4rec_cli.text.features import encode_texts


class TransitionGraph:
    """Scores an item by its place in the list, negated.

    Args:
        counts: (n_items, n_items) n_ij.
        vectors: (n_items, size) of length 1.
        budgets: b_1, b_2, …
        edge_weight: w.
    """

    def __init__(self, counts: csr_array, vectors: NDArray[np.float32], budgets: list[int], edge_weight: float) -> None:
        self.edges = (counts > 0).astype(np.float32)
        self.weights = counts.log1p()
        most = self.weights.max(axis=1).toarray()
        self.weights.data *= edge_weight / np.repeat(most, np.diff(self.weights.indptr))
        self.vectors, self.budgets = vectors, budgets

    def score(self, examples: Examples) -> Tensor:
        n_rings, n_items = len(self.budgets), len(self.vectors)
        scores = np.full((len(examples), n_items), -float((n_rings + 1) ** 2 * n_items), dtype=np.float32)
        flat, offsets = examples.histories(last=1)
        known = np.flatnonzero(np.diff(offsets))
        row, item, ring, similarity = self._reached(flat)
        place = self._places(row, ring, similarity, len(flat))
        scores[known[row], item] = -place
        if examples.candidates is not None:
            scores = np.take_along_axis(scores, examples.candidates, axis=1)
        return torch.from_numpy(scores)

    def _reached(self, last: IntArray) -> tuple[IntArray, IntArray, IntArray, NDArray[np.float32]]:
        """Return the row, item, ring (from 0) and s of all items within the rings of these items."""
        index = np.arange(len(last))
        step = csr_array((np.ones(len(last), dtype=np.float32), (index, last)), shape=(len(last), len(self.vectors)))
        seen, reached = step, []
        for ring in range(len(self.budgets)):
            reach = ((step @ self.edges) > 0).astype(np.float32)
            step = csr_array((reach - reach.multiply(seen)).astype(np.float32))
            step.eliminate_zeros()
            seen = seen + step
            row, item = step.nonzero()
            similarity = np.einsum("td,td->t", self.vectors[last[row]], self.vectors[item])
            if ring == 0 and len(row):
                similarity = similarity + np.asarray(self.weights[last[row], item]).ravel()
            reached.append((row, item, np.full(len(row), ring), similarity))
        row, item, ring_, similarity = map(np.concatenate, zip(*reached, strict=True))
        return row, item, ring_, similarity

    def _places(self, row: IntArray, ring: IntArray, similarity: NDArray[np.float32], n_rows: int) -> IntArray:
        """Return each reached item's place: ascending along the list, the same for ties."""
        n_rings, n_items = len(self.budgets), len(self.vectors)
        size = np.bincount(row * n_rings + ring, minlength=n_rows * n_rings)
        first = np.cumsum(size) - size
        order = np.lexsort((-similarity, ring, row))
        index = np.empty(len(row), dtype=np.int64)  # within the ring: the number of more similar items
        fresh = np.ones(len(row), dtype=bool)
        key = row[order] * n_rings + ring[order]
        fresh[1:] = (np.diff(similarity[order]) != 0) | (np.diff(key) != 0)
        index[order] = np.maximum.accumulate(np.where(fresh, np.arange(len(row)), 0)) - first[key]
        size = size.reshape(n_rows, n_rings)
        budgets = np.array(self.budgets)
        # Part h of the list has, in this order, unused items of each earlier ring and then the picks of ring h; a last
        # part has what remains. The block of an item says in which of them it is.
        block = ring * (n_rings + 1) + n_rings
        unused = index - budgets[ring]
        left = np.maximum(size - budgets, 0)
        block[unused >= 0] = n_rings * (n_rings + 1) + ring[unused >= 0]
        taken = np.zeros_like(left)
        for part in range(1, n_rings):
            lacking = np.maximum(budgets[part] - size[:, part], 0)
            for earlier in range(part):
                take = np.minimum(left[:, earlier], lacking)
                begin, end = taken[:, earlier].copy(), taken[:, earlier] + take
                is_taken = (ring == earlier) & (unused >= begin[row]) & (unused < end[row])
                block[is_taken] = part * (n_rings + 1) + earlier
                taken[:, earlier], left[:, earlier], lacking = end, left[:, earlier] - take, lacking - take
        return block * n_items + index


def transition_counts(split: Split) -> csr_array:
    """Return (n_items, n_items): how often item j follows item i directly in training."""
    flat, offsets = split.train_sequences()
    user = np.repeat(np.arange(split.n_users), np.diff(offsets))
    same = user[1:] == user[:-1]
    ones, shape = np.ones(np.count_nonzero(same), dtype=np.float32), (split.n_items, split.n_items)
    return csr_array(coo_array((ones, (flat[:-1][same], flat[1:][same])), shape=shape))


def build(context: Context) -> TransitionGraph:
    config, split = context.config, context.split
    vectors = encode_texts(split.dataset.texts, config.encoder, context.cache, context.device).numpy()
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return TransitionGraph(transition_counts(split), vectors / lengths, list(config.budgets), config.edge_weight)
