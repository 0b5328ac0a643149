"""Read a file of scores or ranked lists, check it against a dataset, and store it as a sparse matrix."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from scipy.sparse import csr_array

from llm4rec_cli.data.rawfiles import read_table, rows
from llm4rec_cli.data.recdataset import IntArray, RecDataset
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.models.shared.ranked_lists import ranked_lists

DELIMITERS = {".csv": ",", ".tsv": "\t"}
PARQUET = ".parquet"


@dataclass(frozen=True)
class Layout:
    """The columns of raw ids, and of `score` (higher is better) or `rank` (1 is best); None if each user's rows are
    sorted best first."""

    user: str
    item: str
    by: str | None

    @property
    def numbers(self) -> list[str]:
        return [self.by] if self.by else []


def read_layout(path: Path) -> Layout:
    """Return the file's layout, reading only its header.

    Raises:
        UsageError: the file does not exist or has an unsupported format.
        DataError: the file is unreadable, or its columns are missing or ambiguous.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist", "check the path: llm4rec score FILE")
    columns = [c for c in _columns(path) if c and not c.startswith("__index_level_")]  # pandas adds these
    header = f"(columns: {', '.join(columns)})"
    names = {}
    for name in ("user", "item"):
        matches = [column for column in columns if column in (name, f"{name}_id")]
        if len(matches) != 1:
            problem = f"more than one {name} column" if matches else f"no column '{name}'"
            raise DataError(f"{path.name}: {problem} {header}", "use the header user,item,score or user,item,rank")
        (names[name],) = matches
    by = [column for column in columns if column in ("score", "rank")]
    if len(by) > 1:
        raise DataError(f"{path.name}: both 'score' and 'rank' {header}", "keep only one of the two columns")
    if not by and len(columns) > 2:
        raise DataError(
            f"{path.name}: no column 'score' or 'rank' {header}",
            "rename your column to 'score' (higher is better) or 'rank' (1 is best); if each user's rows are sorted "
            "best first, keep only user and item",
        )
    return Layout(names["user"], names["item"], by[0] if by else None)


def read_lists(path: Path, dataset: RecDataset) -> csr_array:
    """Read the lists of all users, as `ranked_lists` returns them.

    Raises:
        UsageError, DataError: as `read_layout`; or a score is not a finite number, an id is not in the dataset, or an
            item is listed twice for a user.
    """
    layout = read_layout(path)
    frame = _read_parquet(path, layout) if path.suffix == PARQUET else _read_delimited(path, layout)
    user = _numbers(path, "user", frame[layout.user], pd.Index(dataset.user_ids), dataset)
    item = _numbers(path, "item", frame[layout.item], pd.Index(dataset.items["item_id"]), dataset)
    repeated = pd.Series(user * dataset.n_items + item).duplicated().to_numpy()
    if repeated.any():
        row = int(repeated.argmax())
        user_id, item_id = frame[layout.user].iloc[row], frame[layout.item].iloc[row]
        problem = f"item '{item_id}' is listed more than once for user '{user_id}'"
        raise _row_error(path, row, problem, "list each item once per user")
    if layout.by is None:
        score = -np.arange(len(frame))
    else:
        score = frame[layout.by].to_numpy() * (1 if layout.by == "score" else -1)
    return ranked_lists(user, item, score, (dataset.n_users, dataset.n_items))


def _columns(path: Path) -> list[str]:
    if path.suffix == PARQUET:
        try:
            return list(pa.parquet.read_schema(path).names)
        except pa.ArrowInvalid as error:
            raise DataError(f"{path.name} cannot be read as Parquet: {error}", f"write it again: {path}") from error
    _, header = next(rows(path, _delimiter(path), quoted=True))
    return header


def _delimiter(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    for suffix, delimiter in DELIMITERS.items():
        if name.endswith(suffix):
            return delimiter
    raise UsageError(f"{path.name}: unknown file format", "end the name with .csv, .tsv, .csv.gz, .tsv.gz or .parquet")


def _read_delimited(path: Path, layout: Layout) -> pd.DataFrame:
    numbers, keep = layout.numbers, [layout.user, layout.item, *layout.numbers]
    return read_table(path, _columns(path), skip=1, numbers=numbers, keep=keep, delimiter=_delimiter(path), quoted=True)


def _read_parquet(path: Path, layout: Layout) -> pd.DataFrame:
    """Read the columns of a Parquet file, whose ids may be numbers."""
    by = layout.numbers
    frame = pd.read_parquet(path, columns=[layout.user, layout.item, *by])
    if frame.empty:
        raise DataError(f"{path.name} has no rows", f"write it again: {path}")
    frame[by] = frame[by].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    finite = np.isfinite(frame[by].to_numpy()).all(axis=1)
    if not finite.all():
        raise _row_error(path, int(finite.argmin()), f"{layout.by} is not a finite number", "every row needs one")
    return frame.astype({layout.user: str, layout.item: str})


def _numbers(path: Path, kind: str, ids: pd.Series, index: pd.Index, dataset: RecDataset) -> IntArray:
    """Return (n,) the dataset's numbers of raw ids; `kind` is `user` or `item`."""
    number = index.get_indexer(pd.Index(ids)).astype(np.int64)
    unknown = number < 0
    if unknown.any():
        row, n = int(unknown.argmax()), ids[unknown].nunique()
        more = f" ({n:,} unknown {kind}s in total)" if n > 1 else ""
        raise _row_error(
            path,
            row,
            f"no {kind} '{ids.iloc[row]}' in dataset '{dataset.manifest['name']}' after its filters{more}",
            f"use the ids of the raw files, not internal numbers, and leave out {kind}s that the dataset lacks",
        )
    return number


def _row_error(path: Path, row: int, problem: str, remedy: str) -> DataError:
    """Return the error for one row: by line, counting the header, in a text file, by row in Parquet."""
    place = f"{path.name}, row {row + 1}"
    if path.suffix != PARQUET:
        line, _ = next(islice(rows(path, _delimiter(path), quoted=True), row + 1, None))
        place = f"{path.name}:{line}"
    return DataError(f"{place}: {problem}", remedy)
