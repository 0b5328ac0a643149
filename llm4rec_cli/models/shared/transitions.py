"""Pairs of items that follow each other in training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.split import Split


def training_pairs(split: Split, steps: int) -> Iterator[tuple[int, IntArray, IntArray, IntArray]]:
    """Yield, for 1 to `steps` interactions apart, the earlier items of users' training sequences, the later ones, and
    the users, (n,) each."""
    flat, offsets = split.train_sequences()
    user = np.repeat(np.arange(split.n_users), np.diff(offsets))
    for step in range(1, steps + 1):
        same = user[step:] == user[:-step]
        yield step, flat[:-step][same], flat[step:][same], user[step:][same]


def transition_counts(split: Split, steps: int) -> csr_array:
    """Return (n_items, n_items) float64: how often item j followed item i in training, k interactions later counted
    1 / k."""
    pairs = [(np.full(len(earlier), 1 / k), earlier, later) for k, earlier, later, _ in training_pairs(split, steps)]
    values, earlier, later = map(np.concatenate, zip(*pairs, strict=True))
    return csr_array((values, (earlier, later)), shape=(split.n_items, split.n_items))
