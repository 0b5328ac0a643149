"""A split as pandas DataFrames with raw ids, for other people's models; `api.load_split` describes the columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from llm4rec_cli.data.examples import Examples, Histories, Impressions, IntArray
from llm4rec_cli.data.split import Split


def interactions_frame(split: Split, rows: IntArray) -> pd.DataFrame:
    table = split.dataset.interactions.iloc[rows].drop(columns="part", errors="ignore").reset_index(drop=True)
    user, item = split.dataset.user_ids[table.pop("user")], item_ids(split, table.pop("item").to_numpy())
    return pd.concat([pd.DataFrame({"user_id": user, "item_id": item}), table], axis=1)


def examples_frame(split: Split, examples: Examples) -> pd.DataFrame:
    """Return the interactions to predict, one row an example, with their histories."""
    table = interactions_frame(split, examples.row)
    return pd.concat([table, pd.Series(_histories(split, examples), name="history", dtype=object)], axis=1)


def impressions_frame(split: Split, impressions: Impressions) -> pd.DataFrame:
    """Return one row per impression, with lists of its items and clicks."""
    items, offsets = impressions.shown()
    return pd.DataFrame(
        {
            "impression_id": impressions.id,
            "user_id": split.dataset.user_ids[impressions.user],
            "timestamp": impressions.time,
            "history": _histories(split, impressions),
            "items": np.split(item_ids(split, items), offsets[1:-1]),
            "clicked": np.split(impressions.clicked(), offsets[1:-1]),
        }
    )


def candidates_frame(split: Split, parts: Mapping[str, Examples]) -> pd.DataFrame | None:
    """Return one row per candidate of each example, the target first; None if the whole catalogue is ranked."""
    frames = []
    for name, examples in parts.items():
        if examples.candidates is None:
            return None
        n = examples.candidates.shape[1]
        columns = {
            "split": name,
            "user_id": np.repeat(split.dataset.user_ids[examples.user], n),
            "target": np.repeat(item_ids(split, examples.target), n),
            "item_id": item_ids(split, examples.candidates.ravel()),
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _histories(split: Split, examples: Histories) -> list[np.ndarray]:
    items, offsets = examples.histories()
    return np.split(item_ids(split, items), offsets[1:-1])


def item_ids(split: Split, items: IntArray) -> np.ndarray:
    """Return the raw ids of these item numbers."""
    return split.dataset.items["item_id"].to_numpy()[items]
