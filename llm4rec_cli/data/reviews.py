"""Reviews in JSON lines as columns: ids and numbers in memory, texts in an Arrow file that is mapped into it.

Only a block of them are Python objects at a time, which take far more memory than columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from llm4rec_cli.data.rawfiles import MEMORY_FACTOR, Forecast, JsonBlock, json_blocks, malformed, parse_number
from llm4rec_cli.data.recdataset import IntArray, RawData

ROWS = 1 << 16  # reviews whose texts are gathered at a time, most of them from all over the file
DISK_FACTOR = 2  # of texts, which are set aside and then written in order
Row = tuple[int, dict[str, Any]]  # line number, JSON object
TEXT = pa.large_string()


@dataclass(frozen=True)
class ReviewKeys:
    """The keys of a format, each with our column's name."""

    ids: Mapping[str, str]
    numbers: Mapping[str, str]
    texts: Mapping[str, str]  # may be missing


def read_reviews(path: Path, keys: ReviewKeys, scratch: Path | None) -> tuple[pd.DataFrame, pa.Table]:
    """Return the ids (categories) and numbers (float64) of all reviews in file order, and a table of their texts.

    Args:
        scratch: a folder for the file of texts; None = they are held in memory.

    Raises:
        DataError: as `json_lines`, for an empty id or a number that is none, and if memory or disk will not do.
    """
    ids: dict[str, list[pa.Array]] = {name: [] for name in keys.ids.values()}
    numbers: dict[str, list[pa.Array]] = {name: [] for name in keys.numbers.values()}

    def texts() -> Iterator[pa.RecordBatch]:
        forecast, n_rows, n_bytes, n_text_bytes = Forecast(path), 0, 0, 0
        for block in json_blocks(path, [*keys.ids, *keys.numbers], [*keys.texts], forecast):
            for key, name in keys.ids.items():
                ids[name].append(_column(block, key, partial(_id, path, key), _are_ids))
            for key, name in keys.numbers.items():
                numbers[name].append(_column(block, key, partial(_number, path, key), _are_finite, pa.float64()))
            columns = [_column(block, key, partial(_text, key)) for key in keys.texts]
            n_rows += len(columns[0])
            n_bytes += sum(chunks[-1].nbytes for chunks in (ids | numbers).values())
            n_text_bytes += sum(column.nbytes for column in columns)
            if scratch is not None:
                forecast.check(n_rows, MEMORY_FACTOR * n_bytes, DISK_FACTOR * n_text_bytes, scratch)
            yield pa.RecordBatch.from_arrays(columns, names=list(keys.texts.values()))

    schema = pa.schema([(name, TEXT) for name in keys.texts.values()])
    if scratch is None:
        table = pa.Table.from_batches(texts(), schema)
    else:
        table = written(scratch / f"{path.name}.arrow", schema, texts())
    columns = {name: pa.concat_arrays(ids.pop(name)).dictionary_encode().to_pandas() for name in keys.ids.values()}
    columns |= {name: pa.chunked_array(chunks).to_pandas() for name, chunks in numbers.items()}
    return pd.DataFrame(columns), table


def repeated(reviews: pd.DataFrame, texts: pa.Table, ignored: Sequence[str] = ()) -> NDArray[np.bool_]:
    """Return (n,) which rows equal an earlier one in every column, text or not, but the ignored ones.

    Texts are only compared where all else is equal.

    Args:
        reviews: row i has the texts in row i of the table.
    """
    alike = np.flatnonzero(reviews.duplicated(keep=False))
    compared = pd.concat([reviews.iloc[alike].reset_index(drop=True), text_frame(texts, alike)], axis="columns")
    equal = np.zeros(len(reviews), dtype=bool)
    equal[alike] = compared.duplicated(compared.columns.difference(list(ignored)).tolist())
    return equal


def written(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> pa.Table:
    """Write batches to an Arrow file one by one, and return it mapped into memory."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def gathered(table: pa.Table, rows: IntArray) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table in the given order, ROWS at a time. Only these are in memory."""
    batches = table.to_batches()
    first = np.cumsum([0, *map(len, batches)])
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        order = np.argsort(part, kind="stable")
        bounds = np.searchsorted(part[order], first)
        pieces = [
            batch.take(pa.array(part[order[low:high]] - begin))
            for batch, begin, low, high in zip(batches, first, bounds, bounds[1:], strict=False)
            if low < high
        ]
        place = np.empty(len(part), dtype=np.int64)
        place[order] = np.arange(len(part))
        yield pa.concat_batches(pieces).take(pa.array(place))


def text_frame(table: pa.Table, rows: IntArray) -> pd.DataFrame:
    """Return the given rows of a table of texts."""
    return pa.Table.from_batches(gathered(table, rows), table.schema).to_pandas()


def with_own_texts(raw: RawData) -> RawData:
    """Return the data with all text columns in the interactions, in memory, and a new index."""
    interactions = raw.interactions.reset_index(drop=True)
    if raw.texts is not None:
        texts = text_frame(raw.texts, raw.interactions.index.to_numpy())
        interactions = pd.concat([interactions, texts], axis="columns")
    return replace(raw, interactions=interactions, texts=None)


def text(value: Any) -> str | None:
    """Return a field as text; a lone surrogate, which ends some reviews, becomes a question mark."""
    if value is None or (isinstance(value, str) and value.isascii()):
        return value
    return str(value).encode("utf-8", "replace").decode()


def _column(
    block: JsonBlock,
    key: str,
    convert: Callable[[Row], Any],
    complete: Callable[[pa.Array], bool] = lambda array: True,
    kind: pa.DataType = TEXT,
) -> pa.Array:
    """Return the values of a key. Each is converted on its own only if they are not all of that kind, or not complete:
    that takes much longer, and says which line is wrong."""
    values = block.columns[key]
    try:
        array = pa.array(values, kind)
        if complete(array) and bool not in set(map(type, values)):  # which pyarrow would take for numbers
            return array
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        pass
    return pa.array(map(convert, block.rows), kind)


def _are_ids(array: pa.Array) -> bool:
    return array.null_count == 0 and pa.compute.min(pa.compute.binary_length(array)).as_py() > 0


def _are_finite(array: pa.Array) -> bool:
    return array.null_count == 0 and pa.compute.all(pa.compute.is_finite(array)).as_py()


def _id(path: Path, key: str, row: Row) -> str:
    line, fields = row
    raw_id = text(fields[key]) if isinstance(fields[key], str | int) else None
    if not raw_id:
        raise malformed(path, line, f"{key} is empty or not an id: {fields[key]!r}")
    return raw_id


def _number(path: Path, key: str, row: Row) -> float:
    line, fields = row
    value = parse_number(fields[key])
    if value is None:
        raise malformed(path, line, f"{key} is not a number: {fields[key]!r}")
    return value


def _text(key: str, row: Row) -> str | None:
    return text(row[1].get(key))
