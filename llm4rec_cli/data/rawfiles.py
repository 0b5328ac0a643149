"""Raw files as they come: gzip or plain, UTF-8 with or without BOM, LF or CRLF. Faults are told by file and line."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from llm4rec_cli.errors import DataError

_BLOCK = 16 << 20  # bytes that pyarrow parses at once; a longer line is refused


def malformed(path: Path, line: int, what: str) -> DataError:
    """The error for one line of a raw file; lines count from 1."""
    return DataError(f"{path.name}, line {line}: {what}", f"mend that line, or fetch the file again: {path}")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, each with its number from 1 and without its end.

    Raises:
        DataError: an empty file, bytes that are not UTF-8, or broken gzip data.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, start=1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if line:
                    yield number, line
    except UnicodeDecodeError as error:
        raise malformed(path, number, f"not UTF-8 ({error.reason})") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise malformed(path, number + 1, "the gzip data is cut off or damaged here") from error
    if number == 0:
        raise DataError(f"{path.name} is empty", f"fetch the file again: {path}")


def line_of_row(path: Path, row: int) -> int:
    """The number from 1 of the line that holds row `row` (from 0) of a file without a header."""
    return next(islice(lines(path), row, None))[0]


def json_lines(
    path: Path, required: Collection[str], parse: Callable[[str], Any] = json.loads
) -> Iterator[tuple[int, dict[str, Any]]]:
    """One object a line, with its line number.

    Args:
        path: the file.
        required: keys that each object must have.
        parse: turns a line into an object; raises ValueError or SyntaxError where it cannot.

    Raises:
        DataError: as `lines`, and for a line that does not parse, is not an object or lacks a key.
    """
    for number, line in lines(path):
        try:
            row = parse(line)
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise malformed(path, number, f"not valid JSON ({error})") from error
        if not isinstance(row, dict):
            raise malformed(path, number, f"expected a JSON object, found {type(row).__name__}")
        for key in required:
            if key not in row:
                raise malformed(path, number, f"no key '{key}'")
        yield number, row


def number(value: Any) -> float | None:
    """The finite number that a field holds, as text or as a number; None where it holds none."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def table(
    path: Path,
    columns: Sequence[str],
    *,
    skip: int = 0,
    numbers: Collection[str] = (),
    keep: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A tab-separated file without quoting.

    Args:
        path: the file.
        columns: the names of all its columns.
        skip: lines before the first row.
        numbers: those of `columns` that become float64; the others are text.
        keep: those to return; None = all.

    Raises:
        DataError: as `lines`, and for a wrong number of fields, a number that is none, or no row at all.
    """
    keep = list(columns if keep is None else keep)
    types = {name: pa.float64() if name in numbers else pa.string() for name in keep}
    try:
        with _open(path) as file:
            frame = pa.csv.read_csv(
                file,
                pa.csv.ReadOptions(column_names=list(columns), skip_rows=skip, block_size=_BLOCK),
                pa.csv.ParseOptions(delimiter="\t", quote_char=False),
                pa.csv.ConvertOptions(column_types=types, include_columns=keep, null_values=[]),
            ).to_pandas()
    except (pa.ArrowInvalid, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _located(path, columns, skip, numbers, str(error)) from error
    if frame.empty:
        raise _located(path, columns, skip, numbers, "no row besides the header")
    if not np.isfinite(frame[[name for name in keep if name in numbers]]).all(axis=None):
        raise _located(path, columns, skip, numbers, "a number is not finite")
    return frame


def _located(path: Path, columns: Sequence[str], skip: int, numbers: Collection[str], cause: str) -> DataError:
    """The first offending line of a table that the fast parser refused."""
    try:
        for line_number, line in islice(lines(path), skip, None):
            fields = line.split("\t")
            if len(fields) != len(columns):
                return malformed(
                    path, line_number, f"{len(fields)} fields, expected {len(columns)} ({', '.join(columns)})"
                )
            for name, value in zip(columns, fields, strict=True):
                if name in numbers and number(value) is None:
                    return malformed(path, line_number, f"{name} is not a number: '{value}'")
    except DataError as error:
        return error
    return DataError(f"{path.name}: {cause}", f"mend the file, or fetch it again: {path}")


def _open(path: Path) -> IO[bytes]:
    """A file opened for reading, decompressed where its first bytes say gzip, whatever its name says."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if zipped else path.open("rb")
