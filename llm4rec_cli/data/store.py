"""Prepared datasets on disk, as Arrow files that are mapped into memory: texts that nobody reads are not loaded."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.feather
from numpy.typing import NDArray

from llm4rec_cli.data.lists import kept_as_lists
from llm4rec_cli.data.recdataset import IntArray, RecDataset
from llm4rec_cli.data.reviews import gathered, written
from llm4rec_cli.errors import DataError
from llm4rec_cli.files import checked_once, write_once

FINGERPRINT_DIGITS = 16  # in the name of a dataset's folder
TEXTS, PART = "texts", "part"
NOTES = "hashes"  # folder of the cache with what is known of large files
LARGE = 1 << 26  # bytes of a file that is not checked at every start


@dataclass(frozen=True)
class Texts:
    """Text columns of a dataset's interactions, out of memory: `rows[i]` is interaction i's row of the table."""

    table: pa.Table
    rows: IntArray

    def without_empty_columns(self) -> pa.Table:
        """Return the table without columns that have no value in these rows: the source does not have them."""
        rows = pa.array(self.rows)
        filled = [name for name in self.table.column_names if _has_values(self.table[name], rows)]
        return self.table.select(filled)


def _has_values(column: pa.ChunkedArray, rows: pa.Array) -> bool:
    return bool(pa.compute.any(column.is_valid().take(rows)).as_py())


def dataset_folder(cache: Path, name: str, fingerprint: str) -> Path:
    """Return the cache folder of a prepared dataset and of what is drawn from it once."""
    return cache / "datasets" / f"{name}-{fingerprint[:FINGERPRINT_DIGITS]}"


def save(dataset: RecDataset, texts: Texts | None, folder: Path) -> None:
    """Write a dataset as Arrow files and a manifest in JSON; texts are gathered piece by piece."""
    users = pd.DataFrame({"user_id": dataset.user_ids})
    tables = {"items": dataset.items, "interactions": dataset.interactions, "users": users}
    if dataset.impressions is not None:
        tables["impressions"] = dataset.impressions
    for name, table in tables.items():
        _write(table, folder / f"{name}.arrow")
    if texts is not None and (table := texts.without_empty_columns()).num_columns:
        written(folder / f"{TEXTS}.arrow", table.schema, gathered(table, texts.rows))
    (folder / "manifest.json").write_text(json.dumps(dataset.manifest, indent=2), encoding="utf-8")


def kept(cache: Path, name: str, n_rows: int, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return a table of the cache, mapped into memory; it is made if its file is missing, damaged or has another number
    of rows."""
    path = cache / f"{name}.arrow"

    def is_whole(path: Path) -> bool:
        with suppress(OSError, ValueError):
            return _mapped(path, cache / NOTES).num_rows == n_rows
        return False

    write_once(path, lambda aside: _write(make(), aside), is_whole)
    return _frame(pyarrow.feather.read_table(str(path), memory_map=True))


def _write(table: pd.DataFrame, path: Path) -> None:
    """Write a table uncompressed and in one piece: columns need no copy when read."""
    pyarrow.feather.write_feather(table, str(path), compression="uncompressed", chunksize=max(1, len(table)))


def _mapped(path: Path, notes: Path | None) -> pa.Table:
    """Return a table whose file is whole. Raises OSError or ValueError for others."""
    table = pyarrow.feather.read_table(str(path), memory_map=True)

    def check(path: Path) -> None:
        table.validate(full=True)  # of a damaged file, reading a text would crash the process

    if notes is None or path.stat().st_size < LARGE:
        check(path)
    else:
        checked_once(path, notes, check)
    return table


def _frame(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(split_blocks=True, types_mapper=kept_as_lists)


def load(folder: Path, notes: Path | None = None) -> RecDataset:
    """Load a dataset written by `save`. Raises DataError if a file is missing or damaged.

    Args:
        notes: a folder that remembers which large files were whole. They are trusted while their size, time and inode
            stay the same, so that damage by a failing disk is not noticed. None = all are checked.
    """
    try:
        tables = {name: _frame(_mapped(folder / f"{name}.arrow", notes)) for name in ("items", "interactions", "users")}
        impressions, texts = (
            _frame(_mapped(path, notes)) if (path := folder / f"{name}.arrow").exists() else None
            for name in ("impressions", TEXTS)
        )
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            raise  # not of the content: no permission, too many open files
        raise DataError(
            f"{folder} is damaged: {error}", "delete that folder: the dataset is then prepared again"
        ) from error
    user_ids = tables["users"]["user_id"].to_numpy(dtype=object)
    interactions = tables["interactions"]
    if texts is not None:
        numbers = interactions.select_dtypes("number").columns.difference([PART], sort=False)
        others = interactions.columns.difference(numbers, sort=False)
        interactions = pd.concat([interactions[numbers], texts, interactions[others]], axis="columns")
    return RecDataset(
        items=tables["items"],
        interactions=interactions,
        user_ids=user_ids,
        offsets=user_offsets(tables["interactions"]["user"].to_numpy(), len(user_ids)),
        manifest=manifest,
        impressions=impressions,
    )


def user_offsets(user: NDArray[np.integer[Any]], n_users: int) -> NDArray[np.int64]:
    """Return (n_users + 1,) boundaries of each user's rows, which must be sorted by user."""
    return np.concatenate([[0], np.cumsum(np.bincount(user, minlength=n_users))]).astype(np.int64)
