"""Raw files as they come: gzip or plain, UTF-8 with or without BOM, LF or CRLF. Faults are told by file and line."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import math
import re
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from llm4rec_cli.errors import DataError

_BLOCK = 16 << 20  # bytes that pyarrow parses at once; a longer line is refused
csv.field_size_limit(_BLOCK)
_DECIMAL = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)  # what pyarrow takes
_CARRIAGE_RETURN = "a carriage return within the line: lines end with LF or CRLF"
_SHOWN = 300  # characters of a line in an error about it
_SEPARATOR = b"\x1f"  # stands for a delimiter of several characters, which pyarrow does not take


def malformed(path: Path, line: int, what: str) -> DataError:
    """The error for one line of a raw file; lines count from 1. What it quotes is cut, and printable."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in what[:_SHOWN])
    return DataError(f"{path.name}, line {line}: {shown}", f"mend that line, or fetch the file again: {path}")


def lines(path: Path, fallback: str | None = None) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, each with its number from 1 and without its end.

    Args:
        path: the file.
        fallback: the encoding of lines that are not UTF-8; None = there must be none.

    Raises:
        DataError: no line that is not empty, bytes that are not UTF-8, a NUL byte, a carriage return within a line, or
            broken gzip data.
    """
    for number, line in _decoded(path, fallback):
        if "\r" in line:
            raise malformed(path, number, _CARRIAGE_RETURN)
        yield number, line


def _decoded(path: Path, fallback: str | None) -> Iterator[tuple[int, str]]:
    """As `lines`, where a carriage return may stand in a quoted field."""
    number, found = 0, False
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, start=1):
                raw = raw.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").rstrip(b"\r\n")
                try:
                    line = raw.decode()
                except UnicodeDecodeError:
                    if fallback is None:
                        raise
                    line = raw.decode(fallback)
                if "\0" in line:
                    raise malformed(path, number, "a NUL byte: the file is damaged, or not UTF-8")
                if line:
                    found = True
                    yield number, line
    except UnicodeDecodeError as error:
        raise malformed(path, number, f"not UTF-8 ({error.reason})") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise malformed(path, number + 1, "the gzip data is cut off or damaged here") from error
    if not found:
        raise DataError(f"{path.name} is empty", f"fetch the file again: {path}")


def line_of_row(path: Path, row: int) -> int:
    """The number from 1 of the line that holds row `row` (from 0) of a file without a header."""
    return next(islice(lines(path), row, None))[0]


def rows(
    path: Path, delimiter: str, *, quoted: bool = False, fallback: str | None = None
) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row, with the number of the line it begins on.

    Args:
        path: the file.
        delimiter: what stands between fields.
        quoted: fields may stand in double quotes, and then hold delimiters, line breaks and doubled quotes.
        fallback: as for `lines`.

    Raises:
        DataError: as `lines`, and for quotes that do not match.
    """
    if not quoted:
        for number, line in lines(path, fallback):
            yield number, line.split(delimiter)
        return
    taken: list[tuple[int, str]] = []  # the lines that the row has so far

    def text() -> Iterator[str]:
        for number, line in _decoded(path, fallback):
            taken.append((number, line))
            yield f"{line}\n"

    try:
        for fields in csv.reader(text(), delimiter=delimiter, strict=True):
            yield taken[0][0], fields
            taken.clear()
    except csv.Error as error:
        number, line = taken[-1]
        if "\r" in line:
            raise malformed(path, number, _CARRIAGE_RETURN) from error
        raise malformed(path, taken[0][0], f"its quotes do not match ({error})") from error


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
            raise malformed(path, number, f"not valid JSON ({str(error) or type(error).__name__})") from error
        if not isinstance(row, dict):
            raise malformed(path, number, f"expected a JSON object, found {type(row).__name__}")
        for key in required:
            if key not in row:
                raise malformed(path, number, f"no key '{key}'")
        yield number, row


def number(value: Any) -> float | None:
    """The finite number that a field holds, as decimal text or as a number; None where it holds none."""
    if isinstance(value, bool) or (isinstance(value, str) and not _DECIMAL.fullmatch(value)):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def table(
    path: Path,
    columns: Sequence[str],
    *,
    skip: int = 0,
    numbers: Collection[str] = (),
    filled: Collection[str] = (),
    keep: Sequence[str] | None = None,
    delimiter: str = "\t",
    quoted: bool = False,
) -> pd.DataFrame:
    """A file of rows and columns, by default tab-separated without quoting.

    Args:
        path: the file.
        columns: the names of all its columns.
        skip: lines before the first row.
        numbers: those of `columns` that become float64; the others are text.
        filled: those of the texts that may not be empty.
        keep: those to return; None = all.
        delimiter: what stands between fields; of several characters only without quoting.
        quoted: as for `rows`.

    Raises:
        DataError: as `rows`, and for a wrong number of fields, a number that is none, a text that is missing, or no row
            at all.
    """
    keep = list(columns if keep is None else keep)

    def located(cause: str) -> DataError:
        return _located(path, rows(path, delimiter, quoted=quoted), columns, skip, numbers, filled, cause)

    next(rows(path, delimiter, quoted=quoted))  # pyarrow would take lone carriage returns for line ends
    types = {name: pa.float64() if name in numbers else pa.string() for name in keep}
    try:
        with _open(path) as file:
            single = len(delimiter) == 1
            read = pa.csv.read_csv(
                file if single else io.BytesIO(file.read().replace(delimiter.encode(), _SEPARATOR)),
                pa.csv.ReadOptions(column_names=list(columns), skip_rows=skip, block_size=_BLOCK),
                pa.csv.ParseOptions(
                    delimiter=delimiter if single else _SEPARATOR.decode(),
                    quote_char='"' if quoted else False,
                    newlines_in_values=quoted,
                ),
                pa.csv.ConvertOptions(column_types=types, include_columns=keep, null_values=[]),
            )
    except (pa.ArrowInvalid, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise located(str(error)) from error
    texts = [read[name] for name in keep if name not in numbers]
    if any(pa.compute.any(pa.compute.match_substring(text, "\0")).as_py() for text in texts):
        raise located("a NUL byte")
    frame = read.to_pandas()
    if frame.empty:
        raise located("no row besides the header")
    if not np.isfinite(frame[[name for name in keep if name in numbers]]).all(axis=None):
        raise located("a number is not finite")
    if quoted and len(frame) != sum(1 for _ in islice(_decoded(path, None), skip, None)):
        deque(rows(path, delimiter, quoted=True), maxlen=0)  # to pyarrow a quote without its twin is no fault
    if (frame[[name for name in keep if name in filled]] == "").any(axis=None):
        raise located("a field is empty")
    return frame


def _located(
    path: Path,
    read: Iterator[tuple[int, list[str]]],
    columns: Sequence[str],
    skip: int,
    numbers: Collection[str],
    filled: Collection[str],
    cause: str,
) -> DataError:
    """The first offending line of a table that the fast parser refused; `read` are its rows."""
    try:
        for line_number, fields in read:
            if line_number <= skip:
                continue
            if sum(map(len, fields)) > _BLOCK:
                return malformed(path, line_number, f"the line is longer than {_BLOCK:,} bytes")
            if len(fields) != len(columns):
                return malformed(
                    path, line_number, f"{len(fields)} fields, expected {len(columns)} ({', '.join(columns)})"
                )
            for name, value in zip(columns, fields, strict=True):
                if name in numbers and number(value) is None:
                    return malformed(path, line_number, f"{name} is not a number: '{value}'")
                if name in filled and not value:
                    return malformed(path, line_number, f"{name} is missing")
    except DataError as error:
        return error
    return DataError(f"{path.name}: {cause}", f"mend the file, or fetch it again: {path}")


def _open(path: Path) -> IO[bytes]:
    """A file opened for reading, decompressed where its first bytes say gzip, whatever its name says."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if zipped else path.open("rb")
