"""Named random streams: every draw is a function of (seed, name, key), never of earlier draws.

So a resumed run, another batch size or another number of processes gets the same draws. Functions of this package take
`dataset.seed` as `seed`.
"""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, name: str, *key: int) -> np.random.Generator:
    """Return the generator of one named stream.

    Args:
        seed: the experiment's `seed`, or `dataset.seed` for what belongs to the data.
        name: what the draws are for, e.g. `negatives`.
        key: numbers that distinguish draws of one name, e.g. an epoch.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *key])
