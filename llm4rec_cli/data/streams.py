"""Named streams of randomness: everything drawn is a function of (seed, name, key), never of what was drawn before.

So a resumed run, another batch size or another number of processes sees the same draws.
"""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, name: str, *key: int) -> np.random.Generator:
    """The generator of one named stream.

    Args:
        seed: the experiment's `seed`, or `dataset.seed` for what belongs to the data.
        name: what the draws are for, e.g. `negatives`.
        key: numbers that tell apart draws of one name, e.g. an epoch.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *key])
