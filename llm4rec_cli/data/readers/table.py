"""A user's own log: CSV with a header, JSON lines or Parquet, told apart by the file's ending.

Columns go by our names, or by those that a map gives them (`dataset.columns`). Fields of a CSV file are divided by
commas, tabs, `;` or `|`, whichever gives its header the columns that are looked for. Text files may be gzipped.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from llm4rec_cli.data import rawfiles
from llm4rec_cli.data.rawfiles import json_lines, line_of_row, lines, malformed, number, rows
from llm4rec_cli.data.readers import Forms
from llm4rec_cli.data.recdataset import INTERACTION_COLUMNS, ITEM_COLUMNS, RawData
from llm4rec_cli.errors import DataError, did_you_mean

VERSION = 2
FORMS: Forms = ((frozenset({"interactions"}), frozenset({"items"})),)
COLUMNS = frozenset({*INTERACTION_COLUMNS, *ITEM_COLUMNS})

_IDS = ("user_id", "item_id")
_NUMBERS = ("timestamp", "rating")
_YEAR_10000 = 253_402_300_800  # in seconds since 1970
_DELIMITERS = (",", "\t", ";", "|")

Fault = Callable[[int, str], DataError]  # the error about a row (from 0) of a file


class _Texts(NamedTuple):
    """What a file holds, as text whatever its format: 7 stands as `7`, a time as ISO 8601 writes it."""

    header: list[str]  # all its columns
    frame: pd.DataFrame  # those that are wanted, by our names; null where missing
    fault: Fault


def read(files: dict[str, Path], columns: Mapping[str, str] | None = None) -> RawData:
    """Interactions and items of a user's own files: every row is kept, in file order.

    Ids are text exactly as written, `007` too; in Parquet and JSON they may be whole numbers, but not `7.0`. A
    `timestamp` is a number, taken for seconds since 1970, or a date of ISO 8601 (UTC where it names no zone), which
    becomes seconds: the first row decides which. Without it, rows count as being in time order. No id, time or rating
    may be missing. A list of texts is joined by a space.

    Args:
        files: `interactions`, and perhaps `items`, where the first row of an item counts. Without `items`, what the map
            names of items' columns is read from `interactions`.
        columns: our name of a column -> the files' own, where they differ; what it names must be there.

    Raises:
        DataError: a column that is not there, a malformed row, a missing value, or a file of unknown ending.
    """
    columns = columns or {}
    if "items" in files:
        interactions = _table(files["interactions"], INTERACTION_COLUMNS, columns)
        items = _table(files["items"], ITEM_COLUMNS, columns)
        order = "as listed in the item file"
    else:
        described = [name for name in ITEM_COLUMNS if name in columns and name != "item_id"]
        interactions = _table(files["interactions"], [*INTERACTION_COLUMNS, *described], columns)
        items = interactions[["item_id", *described]].sort_values("item_id", kind="stable")
        order = "sorted ids"
    return RawData(
        items.drop_duplicates("item_id", ignore_index=True),
        interactions[[name for name in INTERACTION_COLUMNS if name in interactions]],
        {"read": len(interactions)},
        item_order=order,
    )


def _table(path: Path, names: Sequence[str], columns: Mapping[str, str]) -> pd.DataFrame:
    """Those of the columns `names` that a file has: ids and texts as text, `timestamp` and `rating` as float64."""
    ending = Path(path.name.removesuffix(".gz")).suffix.lower()
    if ending not in _FORMATS:
        raise DataError(
            f"{path.name}: its name does not tell what kind of table it is", f"let it end in {', '.join(_FORMATS)}"
        )
    theirs = {name: columns.get(name, name) for name in names}
    header, texts, fault = _FORMATS[ending](path, theirs)
    for name in names:
        if theirs[name] not in header and (name in _IDS or name in columns):
            raise DataError(
                f"{path.name} has no column '{theirs[name]}' for {name}",
                f"{did_you_mean(theirs[name], header)} (to say which it is: +dataset.columns.{name}=COLUMN)",
            )
    if texts.empty:
        raise DataError(f"{path.name} has no rows", f"give a file that has some: {path}")
    return pd.DataFrame(
        {name: _converted(name, their, texts[name], fault) for name, their in theirs.items() if name in texts}
    )


def _converted(name: str, their: str, texts: pd.Series, fault: Fault) -> pd.Series:
    """A column in its type; `their` is the file's name of it.

    Raises:
        DataError: a value that is missing and may not be, or is not what it should be.
    """
    missing = texts.isna() | (texts == "")
    if name not in (*_IDS, *_NUMBERS):
        return texts.mask(missing)
    if missing.any():
        raise fault(_first(missing), f"{their} is missing")
    if name in _IDS:
        return texts
    if name == "timestamp" and number(texts[0]) is None:
        kind = "date of ISO 8601"
        times = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
        found = (times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    else:
        kind = "number"
        found = pd.to_numeric(texts, errors="coerce").astype("float64")
    wrong = ~pd.Series(np.isfinite(found))
    if wrong.any():
        raise fault(_first(wrong), f"{their} is no {kind}: {texts[_first(wrong)][:60]!r}")
    late = found.abs() >= _YEAR_10000
    if name == "timestamp" and late.any():
        row = _first(late)
        raise DataError(
            fault(row, f"{their} is no time in seconds since 1970: {texts[row]!r}").problem,
            "divide the column by what makes it seconds (milliseconds: 1000)",
        )
    return found


def _first(mask: pd.Series) -> int:
    return int(np.flatnonzero(mask)[0])


def _csv(path: Path, theirs: Mapping[str, str]) -> _Texts:
    line, first = next(lines(path))
    headers = {delimiter: next(csv.reader([first], delimiter=delimiter)) for delimiter in _DELIMITERS}
    wanted = set(theirs.values())
    delimiter = max(headers, key=lambda d: (len(wanted.intersection(headers[d])), len(headers[d])))
    header = headers[delimiter]
    keep = _wanted(path, header, theirs)
    texts = pd.DataFrame()
    if keep:
        texts = rawfiles.table(path, header, skip=line, keep=keep, delimiter=delimiter, quoted=True)

    def fault(row: int, what: str) -> DataError:
        line, _ = next(islice(rows(path, delimiter, quoted=True), row + 1, None))
        return malformed(path, line, what)

    return _Texts(header, pd.DataFrame({name: texts[their] for name, their in theirs.items() if their in keep}), fault)


def _json(path: Path, theirs: Mapping[str, str]) -> _Texts:
    header: dict[str, None] = {}
    read: dict[str, list[Any]] = {name: [] for name in theirs}
    for _, row in json_lines(path, required=()):
        header |= dict.fromkeys(row)
        for name, their in theirs.items():
            read[name].append(row.get(their))

    def fault(row: int, what: str) -> DataError:
        return malformed(path, line_of_row(path, row), what)

    frame = {name: _json_texts(name, their, read[name], fault) for name, their in theirs.items() if their in header}
    return _Texts(list(header), pd.DataFrame(frame), fault)


def _json_texts(name: str, their: str, values: list[Any], fault: Fault) -> list[str | None]:
    kinds = (str, int) if name in _IDS else (str, int, float, list)
    texts: list[str | None] = []
    for row, value in enumerate(values):
        if value is None or (isinstance(value, float) and math.isnan(value)):
            texts.append(None)
        elif isinstance(value, bool) or not isinstance(value, kinds):
            what = "whole number" if name in _IDS else "number"
            raise fault(row, f"{their} is neither text nor a {what}: {value!r:.60}")
        else:
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            texts.append(text.encode("utf-8", "replace").decode())  # half a surrogate pair becomes a question mark
    return texts


def _parquet(path: Path, theirs: Mapping[str, str]) -> _Texts:
    try:
        with pa.parquet.ParquetFile(path) as file:
            header = file.schema_arrow.names
            keep = _wanted(path, header, theirs)
            read = file.read(keep)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path.name} is no whole Parquet file: {str(error).splitlines()[0]}", f"write or fetch it again: {path}"
        ) from error

    def fault(row: int, what: str) -> DataError:
        return DataError(f"{path.name}, row {row + 1}: {what}", f"mend that row: {path}")

    frame = {name: _arrow_text(path, name, their, read[their]) for name, their in theirs.items() if their in keep}
    return _Texts(header, pd.DataFrame(frame), fault)


def _arrow_text(path: Path, name: str, their: str, column: Any) -> pd.Series:
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if name in _IDS and not (texts or pa.types.is_integer(kind)):
        raise DataError(
            f"{path.name}: {their} holds {kind}, and an id is text or a whole number",
            f"write that column as text: {path}",
        )
    try:
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            column = pa.compute.binary_join(column.cast(pa.list_(pa.string())), " ")
        return column.cast(pa.string()).to_pandas()
    except pa.ArrowException as error:
        raise DataError(
            f"{path.name}: {their} holds {kind}, which cannot be read as text", f"write that column as text: {path}"
        ) from error


def _wanted(path: Path, header: list[str], theirs: Mapping[str, str]) -> list[str]:
    """The columns to read."""
    wanted = [column for column in header if column in theirs.values()]
    for column in wanted:
        if wanted.count(column) > 1:
            raise DataError(f"{path.name} has two columns called '{column}'", f"rename one of them: {path}")
    return wanted


_FORMATS: dict[str, Callable[[Path, Mapping[str, str]], _Texts]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".txt": _csv,
    ".jsonl": _json,
    ".json": _json,
    ".parquet": _parquet,
}
