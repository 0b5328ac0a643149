"""Datasets on disk. What is written appears whole or not at all: written aside, made durable, renamed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llm4rec_cli.data.recdataset import RecDataset


def dataset_folder(cache: Path, name: str, fingerprint: str) -> Path:
    """Where a prepared dataset, and what is drawn from it once, is kept."""
    return cache / "datasets" / f"{name}-{fingerprint[:12]}"


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `target` when the block ends well and is removed otherwise.

    If another process was first, its folder stays: both hold the same, since such folders are named by their contents.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield aside
        aside.chmod(0o755)
        for path in aside.rglob("*"):
            _flush(path)
        try:
            aside.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        else:
            _flush(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def save(dataset: RecDataset, folder: Path) -> None:
    """Write a dataset as Parquet files and a manifest in JSON."""
    with new_folder(folder) as aside:
        dataset.items.to_parquet(aside / "items.parquet", index=False)
        dataset.interactions.to_parquet(aside / "interactions.parquet", index=False)
        pd.DataFrame({"user_id": dataset.user_ids}).to_parquet(aside / "users.parquet", index=False)
        if dataset.impressions is not None:
            dataset.impressions.to_parquet(aside / "impressions.parquet", index=False)
        (aside / "manifest.json").write_text(json.dumps(dataset.manifest, indent=2), encoding="utf-8")


def load(folder: Path) -> RecDataset:
    """The dataset that `save` wrote."""
    interactions = pd.read_parquet(folder / "interactions.parquet")
    user_ids = pd.read_parquet(folder / "users.parquet")["user_id"].to_numpy(dtype=object)
    impressions = folder / "impressions.parquet"
    return RecDataset(
        items=pd.read_parquet(folder / "items.parquet"),
        interactions=interactions,
        user_ids=user_ids,
        offsets=user_offsets(interactions["user"].to_numpy(), len(user_ids)),
        manifest=json.loads((folder / "manifest.json").read_text(encoding="utf-8")),
        impressions=pd.read_parquet(impressions) if impressions.exists() else None,
    )


def user_offsets(user: NDArray[np.integer[Any]], n_users: int) -> NDArray[np.int64]:
    """(n_users + 1,) where each user's rows begin and end, rows being sorted by user."""
    return np.concatenate([[0], np.cumsum(np.bincount(user, minlength=n_users))]).astype(np.int64)


def _flush(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
