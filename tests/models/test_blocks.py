"""Attention in padded blocks against attention of each row alone."""

from itertools import combinations

import numpy as np
import pytest
import torch

from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.models.shared.blocks import Keys, blocks_of, partition, starts_of
from llm4rec_cli.models.shared.sequences import pack

pytestmark = pytest.mark.numeric

HEADS, SIZE = 4, 3


def padded_total(parts, n_queries, n_keys):
    return sum(len(rows) * (n_queries[rows].max() + n_keys[rows].max()) for rows in parts)


def test_few_blocks_with_little_padding():
    rng = np.random.default_rng(0)
    numbers = set()
    for _ in range(50):
        n_queries, n_keys = rng.integers(1, 3, 8), rng.integers(9, 20, 8)
        parts = partition(n_queries, n_keys, 3)
        assert sorted(np.concatenate(parts)) == list(range(8))
        order = np.lexsort((n_queries, n_keys))
        ends = np.flatnonzero(np.diff(n_keys[order])) + 1
        least = [
            min(padded_total(np.split(order, cuts), n_queries, n_keys) for cuts in combinations(ends, n))
            for n in range(3)
        ]
        enough = [total <= 1.1 * (n_queries.sum() + n_keys.sum()) for total in least]
        expected = enough.index(True) if any(enough) else 2
        assert len(parts) == expected + 1
        assert padded_total(parts, n_queries, n_keys) == least[expected]
        numbers.add(expected)
    assert numbers == {1, 2}


def rows_of_lengths(n, seed=0):
    """Return the padded and the real lengths of n rows, and random queries, keys and values of their tokens."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, n)
    widths = lengths + rng.integers(0, 3, n)
    torch.manual_seed(seed)
    q = torch.randn(widths.sum(), HEADS, SIZE, requires_grad=True)
    kv = torch.randn(widths.sum(), 2, HEADS, SIZE, requires_grad=True)
    return widths, lengths, q, kv


def naive(q, kv, rows, causal=False):
    """Return the attention of each row, which is its queries' slice and the places of its keys, by itself."""
    outputs = []
    for queries, keys in rows:
        k, v = kv[keys].unbind(1)
        scores = torch.einsum("qhd,khd->hqk", q[queries], k) / SIZE**0.5
        if causal:
            n_before = len(keys) - scores.shape[1]
            scores = scores.masked_fill(torch.ones_like(scores).triu(n_before + 1).bool(), -torch.inf)
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1))
    return outputs


@pytest.mark.parametrize("causal", [False, True])
def test_rows_may_share_the_keys_before_their_own(causal):
    widths, lengths, q, kv = rows_of_lengths(20)
    shared = np.arange(20) % 2  # every second row begins with the tokens of row 0, of which row 0 has only its own
    n_before, before = shared * lengths[0], np.zeros(20, dtype=np.int64)
    blocks = blocks_of(q, widths, lengths, Keys(starts_of(widths), lengths, before, n_before), causal)
    out = blocks.attend(q, kv)
    spans = [slice(start, start + n) for start, n in zip(starts_of(widths), lengths, strict=True)]
    keys = [np.append(np.arange(n), np.arange(s.start, s.stop)) for n, s in zip(n_before, spans, strict=True)]
    expected = naive(q, kv, list(zip(spans, keys, strict=True)), causal)
    for span, each in zip(spans, expected, strict=True):
        assert_close(out[span], each, rel=1e-6)
    ours = torch.autograd.grad(sum(out[span].square().sum() for span in spans), [q, kv])
    theirs = torch.autograd.grad(sum(each.square().sum() for each in expected), [q, kv])
    assert_close(ours, theirs, rel=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_padding_has_no_part_in_outputs_and_gradients(causal):
    widths, lengths, q, kv = rows_of_lengths(40)
    position = np.arange(widths.sum()) - np.repeat(starts_of(widths), widths)
    real = torch.from_numpy(position < np.repeat(lengths, widths))
    blocks = blocks_of(q, widths, lengths, causal=causal)
    out = blocks.attend(q, kv)
    changed = torch.where(real.view(-1, 1, 1, 1), kv, 1e3)
    assert torch.equal(out[real], blocks.attend(q, changed)[real])
    of_q, of_kv = torch.autograd.grad(out[real].square().sum(), [q, kv])
    assert of_q[~real].eq(0).all() and of_kv[~real].eq(0).all()
    assert of_q.isfinite().all() and of_kv.isfinite().all()


def test_sequences_without_tokens_stay_finite_and_dropout_keeps_the_mean():
    packing = pack(np.array([0, 0, 9, 4, 0]))
    widths = np.repeat(packing.groups[:, 1], packing.groups[:, 0])
    q, kv = (torch.randn(widths.sum(), *shape, requires_grad=True) for shape in ((1, 2), (2, 1, 2)))
    out = blocks_of(q, widths, widths, causal=True).attend(q, kv)
    assert out.isfinite().all()
    assert all(x.isfinite().all() for x in torch.autograd.grad(out.sum(), [q, kv]))
    torch.manual_seed(0)
    lengths = np.full(200, 20)
    q, kv = torch.zeros(4000, HEADS, SIZE), torch.ones(4000, 2, HEADS, SIZE)
    out = blocks_of(q, lengths, lengths).attend(q, kv, dropout=0.5)
    assert abs(out.mean().item() - 1) < 0.02
    assert out.std() > 0.1
