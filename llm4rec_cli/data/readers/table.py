"""A user's own data: CSV with a header, JSON lines or Parquet, recognised by the file's ending.

Columns have our names, or those that `dataset.columns` maps to ours. CSV fields are separated by commas, tabs, `;` or
`|`, whichever splits the header into the most expected columns. Text files may be gzipped.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from llm4rec_cli.data import rawfiles
from llm4rec_cli.data.rawfiles import Forecast, json_lines, line_of_row, lines, malformed, parse_number, rows
from llm4rec_cli.data.readers import FileRoles
from llm4rec_cli.data.recdataset import INTERACTION_COLUMNS, ITEM_COLUMNS, RawData
from llm4rec_cli.data.reviews import Row
from llm4rec_cli.errors import DataError, did_you_mean

log = logging.getLogger(__name__)

VERSION = 2
ROWS = 1 << 12  # of JSON lines that are Python objects at a time
PARTS = ("train", "valid", "test")
ROLES: FileRoles = (
    (frozenset({"interactions"}), frozenset({"items"})),
    (frozenset({"test"}), frozenset({"train", "valid", "items"})),
)
ITEM_FILE_ID = "items/item_id"  # in a map of columns: the item file's name of `item_id`, where it has its own
COLUMNS = frozenset({*INTERACTION_COLUMNS, *ITEM_COLUMNS, ITEM_FILE_ID})

_IDS = ("user_id", "item_id")
_NUMBERS = ("timestamp", "rating")
_DELIMITERS = (",", "\t", ";", "|")

RowError = Callable[[int, str], DataError]  # builds the error for a row (from 0) of a file


class _Texts(NamedTuple):
    """The contents of a file as text, whatever its format: numbers in decimal, Parquet times in ISO 8601."""

    header: list[str]  # all columns of the file
    frame: pd.DataFrame  # the wanted columns, under our names; null where missing
    row_error: RowError


def read(files: dict[str, Path], columns: Mapping[str, str] | None = None) -> RawData:
    """Read interactions and items from a user's own files. Every row is kept, in file order.

    Ids are text exactly as written (`007` stays `007`). In Parquet and JSON they may also be whole numbers, but not
    `7.0`. A `timestamp` is a number, in seconds since 1970, or an ISO 8601 date (UTC if it has no zone), which is
    converted to seconds; the first row determines which. Without timestamps, rows must be in time order. No id, time or
    rating may be missing. A list of texts is joined by a space.

    Args:
        files: `interactions`, or one file for each of PARTS, for `dataset.split=given`. Optionally `items`, where the
            first row of an item counts. Without `items`, mapped item columns are read from the interactions.
        columns: our column name, or ITEM_FILE_ID, -> the file's name, where they differ; mapped columns must exist.

    Raises:
        DataError: a missing column, a malformed row, a missing value, or an unknown file type.
    """
    columns = columns or {}
    if "items" in files:
        interactions = _interactions(files, INTERACTION_COLUMNS, columns)
        own_id = {"item_id": columns[ITEM_FILE_ID]} if ITEM_FILE_ID in columns else {}
        items = read_items(files["items"], {**columns, **own_id})
        order = "as listed in the item file"
    else:
        item_columns = [name for name in ITEM_COLUMNS if name in columns and name != "item_id"]
        interactions = _interactions(files, [*INTERACTION_COLUMNS, *item_columns], columns)
        items = interactions[["item_id", *item_columns]].sort_values("item_id", kind="stable")
        order = "sorted ids"
    return RawData(
        items.drop_duplicates("item_id", ignore_index=True),
        interactions[[name for name in (*INTERACTION_COLUMNS, "part") if name in interactions]],
        {"read": len(interactions)},
        item_order=order,
    )


def _interactions(files: Mapping[str, Path], names: Sequence[str], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows of the interactions; of one file for each part all rows, with the `part` of each."""
    if "interactions" in files:
        return _table(files["interactions"], names, columns)
    parts = [_table(files[part], names, columns).assign(part=part) for part in PARTS if part in files]
    return pd.concat(parts, ignore_index=True)


def read_items(path: Path, columns: Mapping[str, str] | None, optional: Container[str] = ()) -> pd.DataFrame:
    """Return a user's items: `item_id` and those of ITEM_COLUMNS that the file has, all as text, null where missing.

    Args:
        columns: our column name -> the file's name, where they differ; None = they cannot differ.
        optional: mapped columns that the file may lack.

    Raises:
        DataError: a missing column, a malformed row, a missing id, or an unknown file type.
    """
    return _table(path, ITEM_COLUMNS, columns, optional)


def _table(
    path: Path, names: Sequence[str], columns: Mapping[str, str] | None, optional: Container[str] = ()
) -> pd.DataFrame:
    """Return the columns of `names` that a file has: ids and texts as text, `timestamp` and `rating` as float64."""
    ending = Path(path.name.removesuffix(".gz")).suffix.lower()
    if ending not in _FORMATS:
        raise DataError(f"{path.name}: unknown file type", f"use a file that ends in {', '.join(_FORMATS)}")
    mapped = columns or {}
    file_columns = {name: mapped.get(name, name) for name in names}
    header, texts, row_error = _FORMATS[ending](path, file_columns)
    for name, column in file_columns.items():
        if column not in header and (name in _IDS or (name in mapped and name not in optional)):
            remedy = did_you_mean(column, header)
            if name == "item_id" and name in mapped:
                remedy += f". Where the item file calls item_id otherwise: columns: {{{ITEM_FILE_ID}: COLUMN}}"
            if columns is not None:
                remedy += f" (to map another column: {'' if name in mapped else '+'}dataset.columns.{name}=COLUMN)"
            raise DataError(f"{path.name}: no column '{column}' for {name}", remedy)
    if texts.empty:
        raise DataError(f"{path.name}: no rows", f"fix or replace the file: {path}")
    if unused := [column for column in header if column not in file_columns.values()]:
        log.info("%s: columns not used: %s; map one by dataset.columns", path.name, ", ".join(unused))
    return pd.DataFrame(
        {
            name: _converted(name, column, texts[name], row_error)
            for name, column in file_columns.items()
            if name in texts
        }
    )


def _converted(name: str, column: str, texts: pd.Series, row_error: RowError) -> pd.Series:
    """Convert a column to its type; `column` is the file's name for it. Raises DataError if a required value is missing
    or invalid."""
    missing = texts.isna() | (texts == "")
    if name not in (*_IDS, *_NUMBERS):
        return texts.mask(missing)
    if missing.any():
        raise row_error(_first(missing), f"{column} is empty")
    if name in _IDS:
        return texts
    if name == "timestamp" and parse_number(texts[0]) is None:
        expected = "an ISO 8601 date"
        times = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
        values = (times - pd.Timestamp(0, unit="s", tz="UTC")) / pd.Timedelta(seconds=1)
    else:
        expected = "a number"
        values = pd.to_numeric(texts, errors="coerce").astype("float64")
    invalid = ~pd.Series(np.isfinite(values))
    if invalid.any():
        raise row_error(_first(invalid), f"{column} is not {expected}: {texts[_first(invalid)][:60]!r}")
    too_large = values.abs() >= rawfiles.YEAR_10000
    if name == "timestamp" and too_large.any():
        row = _first(too_large)
        raise DataError(
            row_error(row, f"{column} is not a time in seconds since 1970: {texts[row]!r}").problem,
            "convert the column to seconds (divide milliseconds by 1000)",
        )
    return values


def _first(mask: pd.Series) -> int:
    return int(np.flatnonzero(mask)[0])


def _csv(path: Path, file_columns: Mapping[str, str]) -> _Texts:
    header_line, text = next(lines(path))
    headers = {delimiter: next(csv.reader([text], delimiter=delimiter)) for delimiter in _DELIMITERS}
    expected = set(file_columns.values())
    delimiter = max(headers, key=lambda d: (len(expected.intersection(headers[d])), len(headers[d])))
    header = headers[delimiter]
    keep = _wanted(path, header, file_columns)
    table = pd.DataFrame()
    if keep:
        table = rawfiles.read_table(path, header, skip=header_line, keep=keep, delimiter=delimiter, quoted=True)

    def row_error(row: int, problem: str) -> DataError:
        line, _ = next(islice(rows(path, delimiter, quoted=True), row + 1, None))
        return malformed(path, line, problem)

    frame = {name: table[column] for name, column in file_columns.items() if column in keep}
    return _Texts(header, pd.DataFrame(frame), row_error)


def _json(path: Path, file_columns: Mapping[str, str]) -> _Texts:
    header: dict[str, None] = {}
    texts: dict[str, list[pa.Array]] = {name: [] for name in file_columns}
    forecast, n_rows, n_bytes = Forecast(path), 0, 0
    numbered_rows = json_lines(path, required=(), forecast=forecast)
    while batch := list(islice(numbered_rows, ROWS)):
        for _, row in batch:
            header |= dict.fromkeys(row)
        for name, column in file_columns.items():
            texts[name].append(pa.array(_json_texts(path, name, column, batch), pa.string()))
        n_rows, n_bytes = n_rows + len(batch), n_bytes + sum(pieces[-1].nbytes for pieces in texts.values())
        forecast.check(n_rows, rawfiles.MEMORY_FACTOR * n_bytes)

    def row_error(row: int, problem: str) -> DataError:
        return malformed(path, line_of_row(path, row), problem)

    frame = {
        name: pa.chunked_array(texts[name]).to_pandas() for name, column in file_columns.items() if column in header
    }
    return _Texts(list(header), pd.DataFrame(frame), row_error)


def _json_texts(path: Path, name: str, column: str, batch: list[Row]) -> list[str | None]:
    types = (str, int) if name in _IDS else (str, int, float, list)
    texts: list[str | None] = []
    for line, row in batch:
        value = row.get(column)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            texts.append(None)
        elif isinstance(value, bool) or not isinstance(value, types):
            expected = "whole number" if name in _IDS else "number"
            raise malformed(path, line, f"{column} is neither text nor a {expected}: {value!r:.60}")
        else:
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            texts.append(text.encode("utf-8", "replace").decode())  # a lone surrogate becomes a question mark
    return texts


def _parquet(path: Path, file_columns: Mapping[str, str]) -> _Texts:
    try:
        with pa.parquet.ParquetFile(path) as file:
            header = file.schema_arrow.names
            keep = _wanted(path, header, file_columns)
            forecast, n_rows, batches = Forecast(path), 0, []
            for batch in file.iter_batches(columns=keep):
                batches.append(batch)
                n_rows += len(batch)
                forecast.n_bytes = path.stat().st_size * n_rows // file.metadata.num_rows
                forecast.check(n_rows, rawfiles.MEMORY_FACTOR * sum(batch.nbytes for batch in batches))
            schema = pa.schema([file.schema_arrow.field(name) for name in keep])
            table = pa.Table.from_batches(batches, schema)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path.name} cannot be read as Parquet: {str(error).splitlines()[0]}", f"replace the file: {path}"
        ) from error

    def row_error(row: int, problem: str) -> DataError:
        return DataError(f"{path.name}, row {row + 1}: {problem}", f"fix that row, or replace the file: {path}")

    frame = {
        name: _arrow_text(path, name, column, table[column]) for name, column in file_columns.items() if column in keep
    }
    return _Texts(header, pd.DataFrame(frame), row_error)


def _arrow_text(path: Path, name: str, column: str, values: Any) -> pd.Series:
    dtype = values.type
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
        values = values.cast(dtype)
    is_text = pa.types.is_string(dtype) or pa.types.is_large_string(dtype)
    if name in _IDS and not (is_text or pa.types.is_integer(dtype)):
        raise DataError(
            f"{path.name}: {column} has type {dtype}, but ids must be text or whole numbers",
            f"write that column as text: {path}",
        )
    try:
        if pa.types.is_list(dtype) or pa.types.is_large_list(dtype):
            values = pa.compute.binary_join(values.cast(pa.list_(pa.string())), " ")
        return values.cast(pa.string()).to_pandas()
    except pa.ArrowException as error:
        raise DataError(
            f"{path.name}: {column} has type {dtype}, which cannot be read as text",
            f"write that column as text: {path}",
        ) from error


def _wanted(path: Path, header: list[str], file_columns: Mapping[str, str]) -> list[str]:
    wanted = [column for column in header if column in file_columns.values()]
    for column in wanted:
        if wanted.count(column) > 1:
            raise DataError(f"{path.name}: two columns are called '{column}'", f"rename one of them: {path}")
    return wanted


_FORMATS: dict[str, Callable[[Path, Mapping[str, str]], _Texts]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".txt": _csv,
    ".jsonl": _json,
    ".json": _json,
    ".parquet": _parquet,
}
