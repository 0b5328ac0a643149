"""Random interactions in any number, for measuring speed and memory."""

from __future__ import annotations

import numpy as np
import pandas as pd

from llm4rec_cli.data.recdataset import RecDataset

SHORTEST, MEAN = 3, 8.9  # interactions per user; the mean is Beauty's


def interactions(n_users: int, n_items: int, seed: int = 0) -> pd.DataFrame:
    """Draw columns `user` and `item`, sorted by user; lengths are geometric, low item numbers are popular."""
    rng = np.random.default_rng(seed)
    length = SHORTEST - 1 + rng.geometric(1 / (MEAN - SHORTEST + 1), n_users)
    user = np.repeat(np.arange(n_users, dtype=np.int32), length)
    return pd.DataFrame({"user": user, "item": (n_items * rng.random(len(user)) ** 2).astype(np.int32)})


def dataset(n_users: int, n_items: int, seed: int = 0) -> RecDataset:
    """Return these interactions as a dataset whose items have no text."""
    log = interactions(n_users, n_items, seed)
    return RecDataset(
        items=pd.DataFrame({"item_id": np.arange(n_items).astype(str), "text": ""}),
        interactions=log,
        user_ids=np.arange(n_users).astype(str).astype(object),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(log["user"], minlength=n_users))]),
        manifest={
            "name": "synthetic",
            "fingerprint": f"{n_users}-{n_items}-{seed}",
            "synthetic": True,
            "split": {"rule": "leave_one_out"},
        },
    )
