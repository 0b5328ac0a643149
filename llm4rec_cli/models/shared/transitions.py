"""Pairs of items that follow each other in training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

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
