"""MIND click logs: `behaviors.tsv` (impressions) and `news.tsv` of the train and dev parts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from llm4rec_cli.data.lists import list_column
from llm4rec_cli.data.rawfiles import MEMORY_FACTOR, Forecast, line_of_row, malformed, read_table, table_batches
from llm4rec_cli.data.readers import FileRoles
from llm4rec_cli.data.recdataset import RawData

VERSION = 1
ROLES: FileRoles = ((frozenset({"train_behaviors", "train_news", "dev_behaviors", "dev_news"}), frozenset()),)

_NEWS = ("item_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
_BEHAVIORS = ("impression_id", "user_id", "time", "history", "impressions")
_TIME, _TIME_IN_WORDS = "%m/%d/%Y %I:%M:%S %p", "month/day/year hour:minute:second AM/PM"


def read(files: dict[str, Path]) -> RawData:
    """Read news as items, and impressions with their `part` (train or dev). There are no interactions.

    `timestamp` is in seconds, with the file's local time taken as UTC.

    Raises:
        DataError: a malformed line, or news that is not in any news file.
    """
    news = pd.concat([_news(files["train_news"]), _news(files["dev_news"])]).drop_duplicates(
        "item_id", ignore_index=True
    )
    item_ids = pa.array(news["item_id"], pa.string())
    impressions = pd.concat(
        [_impressions(files[f"{part}_behaviors"], item_ids).assign(part=part) for part in ("train", "dev")],
        ignore_index=True,
    )
    return RawData(
        news,
        interactions=pd.DataFrame({"user_id": [], "item_id": []}, dtype="str"),
        counts={"read": len(impressions)},
        item_order="as listed in the news files, train first",
        impressions=impressions,
    )


def _news(path: Path) -> pd.DataFrame:
    news = read_table(path, _NEWS, keep=_NEWS[:5], filled=("item_id",))
    news["categories"] = (news.pop("category") + " " + news.pop("subcategory")).str.strip()
    return news.rename(columns={"abstract": "description"})


def _impressions(path: Path, item_ids: pa.Array) -> pd.DataFrame:
    forecast = Forecast(path)
    ids: list[pa.RecordBatch] = []
    seconds: list[NDArray[np.float64]] = []
    histories, shown, clicks = _Lists(item_ids), _Lists(item_ids), _Lists(item_ids)
    n_rows = 0
    for rows in table_batches(path, _BEHAVIORS, filled=("user_id",), forecast=forecast):
        times = pd.to_datetime(rows["time"].to_pandas(), format=_TIME, errors="coerce")
        history, history_length = _split(rows["history"])
        pairs, n_shown = _split(rows["impressions"])
        label = pa.compute.utf8_slice_codeunits(pairs, -2)
        is_click = pa.compute.equal(label, "-1").to_numpy(zero_copy_only=False)
        is_label = is_click | pa.compute.equal(label, "-0").to_numpy(zero_copy_only=False)
        are_known = (
            histories.add(history, history_length),
            shown.add(items := pa.compute.utf8_slice_codeunits(pairs, 0, -2), n_shown),
        )
        if not (all(are_known) and is_label.all() and n_shown.all() and times.notna().all()):
            _refuse(path, rows.to_pandas(), times, n_rows, set(item_ids.to_pylist()))
        row = np.repeat(np.arange(len(n_shown)), n_shown)
        clicks.add(items.filter(pa.array(is_click)), np.bincount(row[is_click], minlength=len(n_shown)))
        ids.append(rows.select(["impression_id", "user_id"]))
        seconds.append(((times - pd.Timestamp(0)) / pd.Timedelta(seconds=1)).to_numpy())
        n_rows += len(rows)
        n_bytes = sum(map(attrgetter("nbytes"), (*ids, *seconds, *histories.arrays, *shown.arrays, *clicks.arrays)))
        forecast.check(n_rows, MEMORY_FACTOR * n_bytes)
    frame = pa.Table.from_batches(ids).to_pandas()
    lists = {"history": histories.column(), "candidates": shown.column(), "clicks": clicks.column()}
    return frame.assign(timestamp=np.concatenate(seconds), **lists)


class _Lists:
    """Lists of news ids, kept as places among the ids of all news."""

    def __init__(self, item_ids: pa.Array) -> None:
        self.item_ids = item_ids
        self.places: list[NDArray[np.int32]] = []
        self.lengths: list[NDArray[np.int64]] = []

    @property
    def arrays(self) -> Iterator[NDArray[Any]]:
        return chain(self.places, self.lengths)

    def add(self, ids: pa.Array, lengths: NDArray[np.int64]) -> bool:
        """Add lists; return whether all ids are known."""
        places = pa.compute.index_in(ids, self.item_ids)
        self.places.append(places.fill_null(0).to_numpy())
        self.lengths.append(lengths)
        return places.null_count == 0

    def column(self) -> pd.Series:
        ids = pa.DictionaryArray.from_arrays(pa.array(np.concatenate(self.places)), self.item_ids)
        return list_column(ids, np.concatenate([[0], np.cumsum(np.concatenate(self.lengths))]))


def _split(texts: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return the words of all texts, and how many each has."""
    words = pa.compute.utf8_split_whitespace(texts)
    row = pa.compute.list_parent_indices(words).to_numpy()
    flat = words.flatten()
    is_word = pa.compute.not_equal(flat, "").to_numpy(zero_copy_only=False)  # space at an end leaves an empty one
    return flat.filter(pa.array(is_word)), np.bincount(row[is_word], minlength=len(texts))


def _refuse(path: Path, rows: pd.DataFrame, times: pd.Series, start: int, item_ids: set[str]) -> None:
    """Raise the error of the first malformed row of these, which begin with row `start` of the file."""
    columns = rows["time"], times, rows["history"], rows["impressions"]
    for row, (written, time, history, listed) in enumerate(zip(*columns, strict=True), start):
        labelled = [pair.rpartition("-") for pair in listed.split()]
        if not labelled:
            raise malformed(path, line_of_row(path, row), "the impression shows no news")
        if pd.isna(time):
            raise malformed(path, line_of_row(path, row), f"time is not {_TIME_IN_WORDS}: '{written}'")
        for item, dash, label in labelled:
            if label not in ("0", "1"):
                raise malformed(path, line_of_row(path, row), f"expected NEWS-0 or NEWS-1, got '{item}{dash}{label}'")
        for item in chain(history.split(), (item for item, _, _ in labelled)):
            if item not in item_ids:
                raise malformed(path, line_of_row(path, row), f"news '{item}' is not in any news file")
