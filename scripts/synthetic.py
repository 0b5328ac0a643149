"""Interactions drawn at random, of any size: for speed and memory, which do not ask what they mean."""

from __future__ import annotations

import numpy as np
import pandas as pd

from llm4rec_cli.data.recdataset import RecDataset

SHORTEST, MEAN = 3, 8.9  # interactions of a user; Beauty's mean


def interactions(n_users: int, n_items: int, seed: int = 0) -> pd.DataFrame:
    """`user` and `item` numbers, sorted by user: lengths geometric, items skewed towards low numbers."""
    rng = np.random.default_rng(seed)
    length = SHORTEST - 1 + rng.geometric(1 / (MEAN - SHORTEST + 1), n_users)
    user = np.repeat(np.arange(n_users, dtype=np.int32), length)
    return pd.DataFrame({"user": user, "item": (n_items * rng.random(len(user)) ** 2).astype(np.int32)})


def dataset(n_users: int, n_items: int, seed: int = 0) -> RecDataset:
    """Those interactions as a dataset of n_items items without text."""
    drawn = interactions(n_users, n_items, seed)
    return RecDataset(
        items=pd.DataFrame({"item_id": np.arange(n_items).astype(str), "text": ""}),
        interactions=drawn,
        user_ids=np.arange(n_users).astype(str).astype(object),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(drawn["user"], minlength=n_users))]),
        manifest={"name": "synthetic", "fingerprint": f"{n_users}-{n_items}-{seed}", "synthetic": True},
    )
