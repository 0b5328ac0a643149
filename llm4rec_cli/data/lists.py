"""Columns of lists as offsets and one flat array: a list for each of a million rows takes no Python objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from llm4rec_cli.data.examples import IntArray

LIST_COLUMNS = ("history", "candidates", "clicks")  # of impressions


def list_column(values: pa.Array, offsets: IntArray) -> pd.Series:
    """Return a column whose row i is the list values[offsets[i]:offsets[i + 1]]."""
    array = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)
    return pd.Series(array, dtype=pd.ArrowDtype(array.type))


def flat_list(column: pd.Series, kind: pa.DataType | None = None) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return the concatenated lists of a column, and the offsets (n + 1,) of each.

    Args:
        kind: of the values; None = as they are.
    """
    array = pa.array(column, None if kind is None else pa.large_list(kind))
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    lengths = pa.compute.list_value_length(array).to_numpy(zero_copy_only=False)
    return array.flatten(), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def numbered_lists(column: pd.Series, known: pd.Index) -> pd.Series:
    """Replace each id in lists by its place among the known ones, as int32."""
    ids, offsets = flat_list(column)
    if pa.types.is_dictionary(ids.type):
        place = known.get_indexer(ids.dictionary.to_pandas()).astype(np.int32)[
            ids.indices.to_numpy(zero_copy_only=False)
        ]
    else:
        place = known.get_indexer(ids.to_pandas())
    return list_column(pa.array(place, pa.int32()), offsets).set_axis(column.index)


def kept_as_lists(kind: pa.DataType) -> Any:
    """Return the dtype with which pandas keeps an Arrow column; None = its usual one."""
    return pd.ArrowDtype(kind) if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
