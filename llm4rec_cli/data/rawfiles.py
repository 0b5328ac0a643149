"""Read raw text files: gzip or plain, UTF-8 with or without BOM, LF or CRLF. Malformed lines are reported by number."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import logging
import math
import re
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from llm4rec_cli import processes
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.progress import Step, step

log = logging.getLogger(__name__)

YEAR_10000 = 253_402_300_800  # in seconds since 1970: no time is later
_READ = 1 << 20  # bytes read from disk at once
_BLOCK = 16 << 20  # bytes that pyarrow parses at once, and so the longest line
csv.field_size_limit(_BLOCK)
FORECAST_AFTER = 1 << 25  # bytes of a file that are read before the need of the whole is estimated
MEMORY_FACTOR = 5  # of columns: filters and sorting at their peak, as measured on ten million reviews
_DECIMAL = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)  # what pyarrow parses
_CARRIAGE_RETURN = "carriage return inside a line (lines must end with LF or CRLF)"
_JSON = msgspec.json.Decoder()
JSON_BLOCK = 1 << 22  # bytes of lines that are Python objects at a time
_TORN = (EOFError, gzip.BadGzipFile, zlib.error)
_IS_TORN = "gzip data is truncated or damaged"
_MAX_MESSAGE = 300  # characters of an error message, which may quote a long line
_SEPARATOR = b"\x1f"  # replaces delimiters of several characters, which pyarrow does not support


# Encodings of raw files besides UTF-8, which is also that of UTF-8 with a byte order mark.
ENCODINGS = ("utf-8", "latin-1", "cp1252", "cp1251", "iso-8859-15", "utf-16", "shift_jis", "euc-kr", "gb18030", "big5")


def in_utf8(path: Path, encoding: str, folder: Path) -> Path:
    """Return a copy of a text file in UTF-8, under its name in `folder`, gzipped as it is.

    Raises:
        DataError: it has another encoding, or damaged gzip data.
    """
    copy = folder / path.name
    opened: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with (
            opened(path, "rt", encoding=encoding, newline="") as source,
            opened(copy, "wt", encoding="utf-8") as target,
        ):
            shutil.copyfileobj(source, target, _READ)
    except UnicodeError as error:
        raise DataError(
            f"{path.name} is not {encoding} ({error.__class__.__name__})",
            f"another dataset.encoding: {', '.join(ENCODINGS)}",
        ) from error
    except _TORN as error:
        raise DataError(f"{path.name}: {_IS_TORN}", f"replace the file: {path}") from error
    return copy


def malformed(path: Path, line: int, problem: str) -> DataError:
    """Return the error for line `line` (from 1) of a raw file; long or unprintable messages are made fit to print."""
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in problem[:_MAX_MESSAGE])
    return DataError(f"{path.name}:{line}: {printable}", f"fix that line, or replace the file: {path}")


def wrong_field_count(path: Path, line: int, fields: Sequence[str], columns: Sequence[str]) -> DataError:
    """Return the error for a row with more or fewer fields than there are columns."""
    return malformed(path, line, f"expected {len(columns)} fields, got {len(fields)} (columns: {', '.join(columns)})")


def lines(path: Path, fallback: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield each non-empty line with its number from 1 and without its line end.

    Args:
        fallback: the encoding of lines that are not UTF-8; None = such lines are an error.

    Raises:
        DataError: no non-empty line, bytes that are not UTF-8, a NUL byte, a carriage return inside a line, or damaged
            gzip data.
    """
    for number, raw in _raw_lines(path):
        yield number, _text_of(path, number, raw, fallback)


def _decoded(path: Path, fallback: str | None) -> Iterator[tuple[int, str]]:
    """Yield as `lines` does, but allow carriage returns, which quoted fields may contain."""
    for number, raw in _raw_lines(path, returns=True):
        yield number, _text_of(path, number, raw, fallback)


def _text_of(path: Path, number: int, raw: bytes, fallback: str | None) -> str:
    try:
        line = raw.decode()
    except UnicodeDecodeError as error:
        if fallback is None:
            raise _not_utf8(malformed(path, number, f"not UTF-8 ({error.reason})")) from error
        line = raw.decode(fallback)
    if "\0" in line:
        raise _not_utf8(malformed(path, number, "NUL byte (the file is damaged or not UTF-8)"), "utf-16")
    return line


def _not_utf8(error: DataError, encoding: str = "latin-1") -> DataError:
    """Return the error with the setting that reads another encoding as its remedy."""
    return DataError(error.problem, f"dataset.encoding={encoding}, if that is its encoding; or {error.remedy}")


@dataclass
class Forecast:
    """An estimate of what a file will take, made from its first part.

    Attributes:
        n_bytes: how many of its bytes, compressed ones of a gzipped file, have been read.
        of_rows: those of the rows that the caller has, where pyarrow goes on reading meanwhile; None = all.
    """

    path: Path
    n_bytes: int = 0
    of_rows: float | None = None
    is_made: bool = False

    def check(self, n_rows: int, memory: float, disk: float = 0, cache: Path = Path()) -> None:
        """Once FORECAST_AFTER bytes are read, log what the whole file will take in memory and in the cache.

        Args:
            n_rows, memory, disk: rows of the part that was read, and the bytes that they take.

        Raises:
            DataError: that is not there.
        """
        n_bytes = self.n_bytes if self.of_rows is None else self.of_rows
        if self.is_made or n_bytes < FORECAST_AFTER:
            return
        self.is_made = True
        whole = self.path.stat().st_size / n_bytes
        rows, memory, disk = f"{self.path.name}: about {n_rows * whole:,.0f} rows", memory * whole, disk * whole
        log.info("%s take about %.1f GB of memory, and %.1f GB in the cache", rows, memory / 1e9, disk / 1e9)
        _, free_memory = processes.memory()
        if memory > free_memory:
            raise DataError(
                f"{rows} take about {memory / 1e9:.1f} GB of memory, and {free_memory / 1e9:.1f} GB are free",
                "prepare the dataset on a machine with more memory, and copy its cache; or take a smaller file",
            )
        if disk and disk > (free_disk := shutil.disk_usage(cache).free):
            raise DataError(
                f"{rows} take about {disk / 1e9:.1f} GB in the cache, and {free_disk / 1e9:.1f} GB are free there",
                "paths.cache=PATH on a larger disk, or free space (llm4rec list cache)",
            )


def _raw_lines(path: Path, returns: bool = False, forecast: Forecast | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield the bytes of each non-empty line with its number; `returns`: carriage returns inside a line are allowed."""
    number, is_empty = 0, True
    try:
        with _open(path, forecast) as file:
            for number, raw in enumerate(file, start=1):
                if line := _stripped(path, number, raw, returns):
                    is_empty = False
                    yield number, line
    except _TORN as error:
        raise malformed(path, number + 1, _IS_TORN) from error
    if is_empty:
        raise _empty(path)


def _stripped(path: Path, number: int, raw: bytes, returns: bool = False) -> bytes:
    line = raw.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").rstrip(b"\r\n")
    if not returns and b"\r" in line:
        raise malformed(path, number, _CARRIAGE_RETURN)
    return line


def _empty(path: Path) -> DataError:
    return DataError(f"{path.name} is empty", f"replace the file: {path}")


def line_of_row(path: Path, row: int) -> int:
    """Return the number (from 1) of the line that holds row `row` (from 0) of a file without a header."""
    return next(islice(lines(path), row, None))[0]


def rows(
    path: Path, delimiter: str, *, quoted: bool = False, fallback: str | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each row, with the number of the line it begins on.

    Args:
        quoted: fields may be in double quotes, and may then contain delimiters, line breaks and doubled quotes.
        fallback: as for `lines`.

    Raises:
        DataError: as `lines`, and for unbalanced quotes.
    """
    if not quoted:
        for number, line in lines(path, fallback):
            yield number, line.split(delimiter)
        return
    row_lines: list[tuple[int, str]] = []  # of the current row, so far

    def text() -> Iterator[str]:
        for number, line in _decoded(path, fallback):
            row_lines.append((number, line))
            yield f"{line}\n"

    try:
        for fields in csv.reader(text(), delimiter=delimiter, strict=True):
            yield row_lines[0][0], fields
            row_lines.clear()
    except csv.Error as error:
        number, line = row_lines[-1]
        if "\r" in line:
            raise malformed(path, number, _CARRIAGE_RETURN) from error
        raise malformed(path, row_lines[0][0], f"unbalanced quotes ({error})") from error


def json_lines(
    path: Path,
    required: Collection[str],
    parse: Callable[[str], Any] = json.loads,
    forecast: Forecast | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the JSON object on each line, with its line number.

    Args:
        required: keys that each object must have.
        parse: parses a line; raises ValueError or SyntaxError if it cannot.
        forecast: is told how much is read.

    Raises:
        DataError: as `lines`, and for a line that cannot be parsed, is not an object or lacks a key.
    """
    for number, raw in _raw_lines(path, forecast=forecast):
        yield number, _json_object(path, number, raw, required, parse)


def _json_object(
    path: Path, number: int, raw: bytes, required: Collection[str], parse: Callable[[str], Any] = json.loads
) -> dict[str, Any]:
    try:
        row = _JSON.decode(raw)
    except (msgspec.DecodeError, RecursionError):  # stricter than `json`: NaN and half a surrogate pair are no JSON
        line = _text_of(path, number, raw, None)
        try:
            row = parse(line)
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise malformed(path, number, f"not valid JSON ({str(error) or type(error).__name__})") from error
    if not isinstance(row, dict):
        raise malformed(path, number, f"expected a JSON object, got {type(row).__name__}")
    for key in required:
        if key not in row:
            raise malformed(path, number, f"no key '{key}'")
    return row


@dataclass
class JsonBlock:
    """Some lines of a file of JSON objects.

    Attributes:
        columns: of each key, the values of all objects; None where an object lacks it.
        parse: parses the lines one by one, for `rows`.
    """

    columns: dict[str, list[Any]]
    parse: Callable[[], list[tuple[int, dict[str, Any]]]]

    @cached_property
    def rows(self) -> list[tuple[int, dict[str, Any]]]:
        """Each object with the number of its line."""
        return self.parse()


def json_blocks(
    path: Path, required: Sequence[str], optional: Sequence[str], forecast: Forecast | None = None
) -> Iterator[JsonBlock]:
    """Yield the values of some keys of the objects that `json_lines` yields, about JSON_BLOCK bytes at a time.

    A block in which each line is one plain object is decoded at once, twice as fast as line by line. Raises DataError
    as `json_lines`; of damaged gzip data, the number of the line may be a little lower.
    """
    fields: list[Any] = [(f"key{i}", Any, msgspec.field(name=key)) for i, key in enumerate(required)]
    fields += [(f"key{i}", Any, msgspec.field(name=key, default=None)) for i, key in enumerate(optional, len(required))]
    decoder = msgspec.json.Decoder(msgspec.defstruct("Row", fields, gc=False))
    keys = [*required, *optional]

    def parsed(content: bytes, first: int) -> list[tuple[int, dict[str, Any]]]:
        stripped = ((number, _stripped(path, number, raw)) for number, raw in enumerate(io.BytesIO(content), first))
        return [(number, _json_object(path, number, line, required)) for number, line in stripped if line]

    is_empty = True
    for first, content in _line_blocks(path, forecast):
        block = JsonBlock({}, partial(parsed, content, first))
        if (objects := _plain_objects(content, decoder)) is not None:
            block.columns = {key: list(map(attrgetter(f"key{i}"), objects)) for i, key in enumerate(keys)}
        else:
            block.columns = {key: [row.get(key) for _, row in block.rows] for key in keys}
        if block.columns[keys[0]]:
            is_empty = False
            yield block
    if is_empty:
        raise _empty(path)


def _line_blocks(path: Path, forecast: Forecast | None) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines, about JSON_BLOCK bytes of them at a time, with the number of the first."""
    first, read = 1, bytearray()

    def whole_lines() -> tuple[int, bytes]:
        nonlocal first
        lines = first, bytes(read[: read.rfind(b"\n") + 1])
        first += read.count(b"\n")
        del read[: len(lines[1])]
        return lines

    try:
        with _open(path, forecast) as file:
            while part := file.read1(_READ):
                read += part
                if len(read) >= JSON_BLOCK and b"\n" in part:
                    yield whole_lines()
    except _TORN as error:
        yield whole_lines()
        raise malformed(path, first, _IS_TORN) from error
    yield first, bytes(read)


def _plain_objects(content: bytes, decoder: msgspec.json.Decoder[Any]) -> list[Any] | None:
    """Return the objects of some lines, if each line has one, alone; None if lines must be looked at one by one."""
    if b"\r" in content or not (content.startswith(b"{") and content.rstrip(b"\n").endswith(b"}")):
        return None
    try:
        if not content.isascii():
            content.decode()  # the decoder does not look at values of other keys
        objects = decoder.decode_lines(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # Objects on one line, or with a blank line between, are not divided by "}\n{". One over two lines has another "\n".
    n_line_ends, n_divided = content.rstrip(b"\n").count(b"\n"), content.count(b"}\n{")
    return objects if n_line_ends == n_divided == len(objects) - 1 else None


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        UsageError: there is no such file.
        DataError: it is not JSON.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist", "check the path")
    try:
        return json.loads("\n".join(line for _, line in lines(path)))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path.name} is not JSON: {error}", f"write it again: {path}") from error


def parse_number(value: Any) -> float | None:
    """Return the finite number in a field (decimal text or a number), or None if it is not one."""
    if isinstance(value, bool) or (isinstance(value, str) and not _DECIMAL.fullmatch(value)):
        return None
    try:
        parsed = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return parsed if math.isfinite(parsed) else None


def read_table(path: Path, columns: Sequence[str], **options: Any) -> pd.DataFrame:
    """Return the rows of `table_batches`, which takes the options and raises the errors; also a DataError if memory
    will not do."""
    forecast = Forecast(path)
    batches: list[pa.RecordBatch] = []
    n_rows, n_bytes = 0, 0
    for batch in table_batches(path, columns, forecast=forecast, **options):
        batches.append(batch)
        n_rows, n_bytes = n_rows + len(batch), n_bytes + batch.nbytes
        forecast.check(n_rows, MEMORY_FACTOR * n_bytes)
    return pa.Table.from_batches(batches).to_pandas()


def table_batches(
    path: Path,
    columns: Sequence[str],
    *,
    skip: int = 0,
    numbers: Collection[str] = (),
    blank_numbers: bool = False,
    filled: Collection[str] = (),
    keep: Sequence[str] | None = None,
    delimiter: str = "\t",
    quoted: bool = False,
    forecast: Forecast | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a delimited file, by default tab-separated without quoting, _BLOCK bytes at a time.

    Args:
        columns: the names of all its columns.
        skip: lines before the first row.
        numbers: columns to return as float64. The others are text.
        blank_numbers: an empty number is NaN, not an error.
        filled: text columns that may not be empty.
        keep: columns to return; None = all.
        delimiter: separates fields; may have several characters only if not `quoted`.
        quoted: as for `rows`.
        forecast: as for `json_lines`.

    Raises:
        DataError: as `rows`, and for a wrong number of fields, an invalid number, an empty `filled` field, or no rows.
    """
    keep = list(columns if keep is None else keep)

    def located(cause: str) -> DataError:
        """Return the error for the first malformed row, or `cause`, for which pyarrow rejected the table."""
        try:
            for line, fields in rows(path, delimiter, quoted=quoted):
                if line <= skip:
                    continue
                if sum(map(len, fields)) > _BLOCK:
                    return malformed(path, line, f"line is longer than {_BLOCK:,} bytes")
                if len(fields) != len(columns):
                    return wrong_field_count(path, line, fields, columns)
                for name, value in zip(columns, fields, strict=True):
                    if name in numbers and not (value == "" and blank_numbers) and parse_number(value) is None:
                        return malformed(path, line, f"{name} is not a number: '{value}'")
                    if name in filled and not value:
                        return malformed(path, line, f"{name} is empty")
        except DataError as error:
            return error
        return DataError(f"{path.name}: {cause}", f"fix or replace the file: {path}")

    next(rows(path, delimiter, quoted=quoted))  # pyarrow would accept lone carriage returns as line ends
    types = {name: pa.float64() if name in numbers else pa.string() for name in keep}
    n_rows = 0
    try:
        with _open(path, forecast) as file:
            single = len(delimiter) == 1
            source = file if single else io.BytesIO(file.read().replace(delimiter.encode(), _SEPARATOR))
            reader = pa.csv.open_csv(
                source,
                pa.csv.ReadOptions(column_names=list(columns), skip_rows=skip, block_size=_BLOCK),
                pa.csv.ParseOptions(
                    delimiter=delimiter if single else _SEPARATOR.decode(),
                    quote_char='"' if quoted else False,
                    newlines_in_values=quoted,
                ),
                pa.csv.ConvertOptions(
                    column_types=types, include_columns=keep, null_values=[""] if blank_numbers else []
                ),
            )
            for n_blocks, batch in enumerate(reader, 1):
                if forecast is not None:
                    n_read = source.getbuffer().nbytes if isinstance(source, io.BytesIO) else source.tell()
                    packed = 1.0 if isinstance(source, io.BufferedReader) else forecast.n_bytes / n_read
                    forecast.of_rows = min(forecast.n_bytes, n_blocks * _BLOCK * packed)
                if problem := _problem(batch, numbers, filled):
                    raise located(problem)
                n_rows += len(batch)
                yield batch
    except (pa.ArrowInvalid, *_TORN) as error:
        raise located(str(error)) from error
    if n_rows == 0:
        raise located("no rows after the header")
    if quoted and n_rows != sum(1 for _ in islice(_decoded(path, None), skip, None)):
        deque(rows(path, delimiter, quoted=True), maxlen=0)  # raises on an unclosed quote, which pyarrow accepts


def _problem(batch: pa.RecordBatch, numbers: Collection[str], filled: Collection[str]) -> str | None:
    """Return what is wrong with some row of a table, if anything."""

    def any_of(flags: pa.Array) -> bool:
        return pa.compute.any(flags, min_count=0).as_py()

    for name in batch.column_names:
        column = batch[name]
        if name in numbers:
            if any_of(pa.compute.invert(pa.compute.is_finite(column.drop_null()))):
                return "a number is not finite"
        elif any_of(pa.compute.match_substring(column, "\0")):
            return "NUL byte"
        elif name in filled and any_of(pa.compute.equal(column, "")):
            return "a required field is empty"
    return None


class _Reported(io.FileIO):
    """A file that reports its progress with every read."""

    def __init__(self, path: Path, progress: Step, forecast: Forecast | None) -> None:
        super().__init__(path)
        self.progress, self.forecast = progress, forecast or Forecast(path)

    def readinto(self, buffer: Any) -> int | None:
        n_bytes = super().readinto(buffer)
        self._report()
        return n_bytes

    def readall(self) -> bytes:
        content = super().readall()
        self._report()
        return content

    def _report(self) -> None:
        self.forecast.n_bytes = self.tell()
        self.progress.update(self.forecast.n_bytes)


@contextmanager
def _open(path: Path, forecast: Forecast | None = None) -> Iterator[io.BufferedIOBase]:
    """Open a file for reading; decompress it if its first bytes are gzip's, whatever its name."""
    total = path.stat().st_size
    with (
        step(f"reading {path.name}", total, in_bytes=True) as progress,
        io.BufferedReader(_Reported(path, progress, forecast), _READ) as file,
    ):
        if file.peek(2)[:2] == b"\x1f\x8b":
            with gzip.open(file) as unzipped:
                yield unzipped
        else:
            yield file
