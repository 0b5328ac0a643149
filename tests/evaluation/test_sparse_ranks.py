"""Ranks of shared scores with exceptions are those of the whole (n, n_items) table of scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from llm4rec_cli.evaluation import sparse_ranks
from llm4rec_cli.evaluation.sparse_ranks import NOT_RANKED, SparseRanks


def by_hand(shared, own, target, masked, zeroed, outside, k):
    """Return the five columns, example by example."""
    rows = []
    for i, wanted in enumerate(target):
        scores = shared.astype(np.float32).copy()
        stored = slice(own.indptr[i], own.indptr[i + 1])
        scores[own.indices[stored]] = own.data[stored]
        if masked is not None:
            scores[masked[1][masked[0] == i]] = 0 if zeroed else -np.inf
        scores[outside] = -np.inf
        n_ranked = int((scores > -np.inf).sum())
        best = np.argsort(-scores, kind="stable")[:k]
        is_ranked = scores[wanted] > -np.inf
        n_better = int((scores > scores[wanted]).sum()) if is_ranked else n_ranked - 1
        n_tied = int((scores == scores[wanted]).sum()) if is_ranked else 0
        rows.append((n_better, n_tied, n_ranked, best[scores[best] > -np.inf].tolist(), scores[best].tolist()))
    return rows


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(0, 9),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 1 << 10]),
)
def test_ranks_and_best_items_are_those_of_the_whole_table(n_items, n, k, is_masked, zeroed, seed, sorted_whole):
    rng = np.random.default_rng(seed)
    shared = rng.integers(-1, 3, n_items).astype(np.float32)
    table = rng.integers(-1, 3, (n, n_items)).astype(np.float32)
    stored = rng.random((n, n_items)) < 0.4
    _, item = np.nonzero(stored)
    own = csr_array((table[stored], item, np.concatenate([[0], np.cumsum(stored.sum(1))])), shape=(n, n_items))
    target = rng.integers(0, n_items, n)
    pairs = np.sort(rng.integers(0, n, 6)), rng.integers(0, n_items, 6)
    masked = pairs if is_masked else None
    outside = np.flatnonzero(rng.random(n_items) < 0.2)[: n_items - 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_ranks, "SORTED_WHOLE", sorted_whole)
        ranker = SparseRanks(shared, outside)
        entries = ranker.entries(own, masked, zeroed)
        ranks = np.stack(ranker.ranks(entries, target), axis=1).tolist()
        items, scores = ranker.best(entries, n, k)
    expected = by_hand(shared, own, target, masked, zeroed, outside, k)
    assert ranks == [list(row[:3]) for row in expected]
    assert [best[values > NOT_RANKED].tolist() for best, values in zip(items, scores, strict=True)] == [
        row[3] for row in expected
    ]
    assert scores.tolist() == [row[4] for row in expected]
