"""A file of scores or ranked lists: read, checked against a dataset, and kept as one sparse row a user."""

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

DELIMITERS = {".csv": ",", ".tsv": "\t"}
PARQUET = ".parquet"


@dataclass(frozen=True)
class Layout:
    """What a file's columns are called.

    Attributes:
        user, item: raw ids, as the dataset's raw files have them.
        by: `score` (higher is better) or `rank` (1 is best); None where each user's rows stand best first.
    """

    user: str
    item: str
    by: str | None


def layout(path: Path) -> Layout:
    """The layout that the file's header tells; nothing more is read.

    Raises:
        UsageError: no such file, or one of another format.
        DataError: an unreadable file, or columns that do not say what is meant.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}", "llm4rec score FILE")
    return _layout(path, _columns(path))


def read(path: Path, dataset: RecDataset) -> csr_array:
    """The lists of all users.

    Returns:
        (n_users, n_items) float32: 1 for the worst of a user's listed items, 2 for the next better, …, alike where
        scores are equal; 0 = not listed. So the order of scores survives float32, whatever they were.

    Raises:
        UsageError, DataError: as `layout`; or a score that is no finite number, an id that the dataset does not hold,
            or an item listed twice for a user.
    """
    columns = layout(path)
    frame = _parquet(path, columns) if path.suffix == PARQUET else _delimited(path, columns)
    user = _numbers(path, "user", frame[columns.user], pd.Index(dataset.user_ids), dataset)
    item = _numbers(path, "item", frame[columns.item], pd.Index(dataset.items["item_id"]), dataset)
    repeated = pd.Series(user * dataset.n_items + item).duplicated().to_numpy()
    if repeated.any():
        row = int(repeated.argmax())
        who, what = frame[columns.user].iloc[row], frame[columns.item].iloc[row]
        raise _wrong(path, row, f"item '{what}' stands here once more for user '{who}'", "list each item once a user")
    if columns.by is None:
        score = -np.arange(len(frame))
    else:
        score = frame[columns.by].to_numpy() * (1 if columns.by == "score" else -1)
    order = np.lexsort((score, user))
    user, item, score = user[order], item[order], score[order]
    first = np.searchsorted(user, user)  # of each row's user
    step = np.concatenate([[0], np.cumsum(score[1:] != score[:-1])])
    return csr_array(((1 + step - step[first]).astype(np.float32), (user, item)), (dataset.n_users, dataset.n_items))


def _columns(path: Path) -> list[str]:
    if path.suffix == PARQUET:
        try:
            return list(pa.parquet.read_schema(path).names)
        except pa.ArrowInvalid as error:
            raise DataError(f"{path.name} is no Parquet file: {error}", f"write it again: {path}") from error
    _, header = next(rows(path, _delimiter(path), quoted=True))
    return header


def _layout(path: Path, columns: list[str]) -> Layout:
    columns = [column for column in columns if column and not column.startswith("__index_level_")]  # pandas's own
    found = f"(found {', '.join(columns)})"
    names = {}
    for name in ("user", "item"):
        called = [column for column in columns if column in (name, f"{name}_id")]
        if len(called) != 1:
            problem = f"no column '{name}'" if not called else f"several columns hold the {name}"
            raise DataError(f"{path.name}: {problem} {found}", "the header: user,item,score or user,item,rank")
        (names[name],) = called
    by = [column for column in columns if column in ("score", "rank")]
    if len(by) > 1:
        raise DataError(f"{path.name} has several columns to rank by {found}", "keep one of score and rank")
    if not by and len(columns) > 2:
        raise DataError(
            f"{path.name}: no column 'score' or 'rank' {found}",
            "name the column that ranks score or rank; if rows stand best first, keep only user and item",
        )
    return Layout(names["user"], names["item"], by[0] if by else None)


def _delimiter(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    for suffix, delimiter in DELIMITERS.items():
        if name.endswith(suffix):
            return delimiter
    raise UsageError(
        f"{path.name}: its name does not say what it holds", "one of .csv, .tsv, .csv.gz, .tsv.gz, .parquet"
    )


def _delimited(path: Path, columns: Layout) -> pd.DataFrame:
    ranked = [columns.by] if columns.by else []
    keep = [columns.user, columns.item, *ranked]
    return read_table(path, _columns(path), skip=1, numbers=ranked, keep=keep, delimiter=_delimiter(path), quoted=True)


def _parquet(path: Path, columns: Layout) -> pd.DataFrame:
    """The same of a Parquet file; ids may be numbers there."""
    ranked = [columns.by] if columns.by else []
    frame = pd.read_parquet(path, columns=[columns.user, columns.item, *ranked])
    if frame.empty:
        raise DataError(f"{path.name} has no row", f"write it again: {path}")
    frame[ranked] = frame[ranked].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    finite = np.isfinite(frame[ranked].to_numpy()).all(axis=1)
    if not finite.all():
        raise _wrong(path, int(finite.argmin()), f"{columns.by} is not a finite number", "every row needs one")
    return frame.astype({columns.user: str, columns.item: str})


def _numbers(path: Path, what: str, ids: pd.Series, known: pd.Index, dataset: RecDataset) -> IntArray:
    """(n,) the dataset's numbers of raw ids."""
    number = known.get_indexer(pd.Index(ids)).astype(np.int64)
    unknown = number < 0
    if unknown.any():
        row, n = int(unknown.argmax()), ids[unknown].nunique()
        more = f", and {n - 1:,} more" if n > 1 else ""
        raise _wrong(
            path,
            row,
            f"no {what} '{ids.iloc[row]}' in dataset '{dataset.manifest['name']}' after its filters{more}",
            "use the ids of the raw files, not numbers of your own, and leave out what the dataset does not hold",
        )
    return number


def _wrong(path: Path, row: int, what: str, remedy: str) -> DataError:
    """The error for one row, which a text file counts in lines, the header being one."""
    place = f"row {row + 1}"
    if path.suffix != PARQUET:
        line, _ = next(islice(rows(path, _delimiter(path), quoted=True), row + 1, None))
        place = f"line {line}"
    return DataError(f"{path.name}, {place}: {what}", remedy)
