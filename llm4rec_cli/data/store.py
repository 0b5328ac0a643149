"""Prepared datasets on disk."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.errors import DataError


def dataset_folder(cache: Path, name: str, fingerprint: str) -> Path:
    """Return the cache folder of a prepared dataset and of what is drawn from it once."""
    return cache / "datasets" / f"{name}-{fingerprint[:12]}"


def save(dataset: RecDataset, folder: Path) -> None:
    """Write a dataset as Parquet files and a manifest in JSON."""
    dataset.items.to_parquet(folder / "items.parquet", index=False)
    dataset.interactions.to_parquet(folder / "interactions.parquet", index=False)
    pd.DataFrame({"user_id": dataset.user_ids}).to_parquet(folder / "users.parquet", index=False)
    if dataset.impressions is not None:
        dataset.impressions.to_parquet(folder / "impressions.parquet", index=False)
    (folder / "manifest.json").write_text(json.dumps(dataset.manifest, indent=2), encoding="utf-8")


def load(folder: Path) -> RecDataset:
    """Load a dataset written by `save`.

    Raises:
        DataError: a file is missing or damaged.
    """
    try:
        tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("items", "interactions", "users")}
        impressions_path = folder / "impressions.parquet"
        impressions = pd.read_parquet(impressions_path) if impressions_path.exists() else None
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            raise  # not of the content: no permission, too many open files
        raise DataError(
            f"{folder} is damaged: {error}", "delete that folder: the dataset is then prepared again"
        ) from error
    user_ids = tables["users"]["user_id"].to_numpy(dtype=object)
    return RecDataset(
        items=tables["items"],
        interactions=tables["interactions"],
        user_ids=user_ids,
        offsets=user_offsets(tables["interactions"]["user"].to_numpy(), len(user_ids)),
        manifest=manifest,
        impressions=impressions,
    )


def user_offsets(user: NDArray[np.integer[Any]], n_users: int) -> NDArray[np.int64]:
    """Return (n_users + 1,) boundaries of each user's rows, which must be sorted by user."""
    return np.concatenate([[0], np.cumsum(np.bincount(user, minlength=n_users))]).astype(np.int64)
