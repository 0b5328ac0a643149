"""Read lists as other systems write them: one table of user, item and, where the file has it, a score.

Formats, by the end of the name:
    .csv, .tsv, .inter       a header with user, item and score, rank or both; also RecBole's, such as `user_id:token`
    .parquet                 the same columns; or a row per user with a list of items, as lenskit writes them
    .run, .trec              TREC: query, Q0, document, rank, score, name of the run
    .jsonl, .json            an object per user: `user`, and a list in `items`, best first; `scores` may be beside it
All but Parquet may be gzipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from llm4rec_cli.data.rawfiles import json_lines, lines, parse_number, read_json, read_table, rows
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.ids.files import as_text

DELIMITERS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}
PARQUET, JSON, JSON_LINES, TREC = ".parquet", ".json", ".jsonl", (".run", ".trec")
NAMES = {  # the columns that are read, under their other names
    "user": ("user", "user_id", "userid", "uid", "qid", "query_id"),
    "item": ("item", "item_id", "itemid", "iid", "items", "item_ids", "top_items", "predict", "predictions"),
    "score": ("score", "scores", "top_scores"),
    "rank": ("rank",),
}
KEYS = {spelling for spellings in NAMES.values() for spelling in spellings}
TREC_COLUMNS = ("user", "Q0", "item", "rank", "score", "run")
READABLE = ".csv, .tsv or .inter (also with .gz), .parquet, .run, .trec, .jsonl or .json"


@dataclass(frozen=True)
class Lists:
    """The rows of a file.

    Attributes:
        rows: `user` and `item` as text, and `score` (higher is better) unless each user's rows are sorted best first.
        place: says where row i is, for error messages.
    """

    rows: pd.DataFrame
    place: Callable[[int], str]

    def error(self, row: int, problem: str, remedy: str) -> DataError:
        return DataError(f"{self.place(row)}: {problem}", remedy)


def read(path: Path, scored: bool = True) -> Lists:
    """Return the lists in a file.

    Args:
        scored: whether other columns than user and item mean something; if not, rows are pairs in no order.

    Raises:
        UsageError: as `check`.
        DataError: as `check`, or a row is malformed, or a score is not a finite number.
    """
    kind = check(path, scored)
    if kind == PARQUET:
        return _read_parquet(path, scored)
    if kind in TREC:
        return _read_trec(path)
    if kind in (JSON, JSON_LINES):
        return _read_json(path, kind, scored)
    return _read_delimited(path, kind, scored)


def check(path: Path, scored: bool = True) -> str:
    """Return the file's format after a look at its header.

    Raises:
        UsageError: there is no such file, or its format is unknown.
        DataError: it is unreadable, or its columns are missing or ambiguous.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist", "check the path: llm4rec score FILE")
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind in DELIMITERS or kind == PARQUET:
        _columns(path, kind, scored)
    elif kind not in (*TREC, JSON, JSON_LINES):
        raise UsageError(f"{path.name}: unknown file format", f"end the name with {READABLE}")
    return kind


def _columns(path: Path, kind: str, scored: bool) -> dict[str, str]:
    """Return the file's names of the columns that are read, of NAMES."""
    if kind == PARQUET:
        try:
            header = list(pa.parquet.read_schema(path).names)
        except pa.ArrowInvalid as error:
            raise DataError(f"{path.name} is not a Parquet file: {error}", f"write it again: {path}") from error
    else:
        _, header = next(rows(path, DELIMITERS[kind], quoted=True))
    header = [column for column in header if column and not column.startswith("__index_level_")]  # pandas adds these
    return _named(path.name, header, scored)


def _named(place: str, header: list[str], scored: bool) -> dict[str, str]:
    listed = f"(columns: {', '.join(header)})"
    found = {}
    for name, spellings in NAMES.items():
        if name in ("score", "rank") and not scored:
            continue
        same = [column for column in header if column.partition(":")[0].lower().replace(" ", "_") in spellings]
        if len(same) > 1:
            raise DataError(f"{place}: more than one {name} column {listed}", f"keep one of {', '.join(same)}")
        if not same and name in ("user", "item"):
            raise DataError(f"{place}: no column '{name}' {listed}", "use the header user,item,score or user,item,rank")
        if same:
            found[name] = same[0]
    if scored and len(found) == 2 and len(header) > 2 and not _is_lists(found["item"]):
        raise DataError(
            f"{place}: no column 'score' or 'rank' {listed}",
            "rename your column to 'score' (higher is better) or 'rank' (1 is best); if each user's rows are sorted "
            "best first, keep only user and item",
        )
    return found


def _is_lists(column: str) -> bool:
    """Return whether a column of this name may hold a list per row."""
    return column not in ("item", "item_id")


def _lists(path: Path, frame: pd.DataFrame, place: Callable[[int], str]) -> Lists:
    """Return the rows, whose score is `rank` with its sign turned where there is no other.

    Raises:
        DataError: there are none, a number is not finite, or a score and a rank order items differently.
    """
    if frame.empty:
        raise DataError(f"{path.name} has no rows", f"write it again: {path}")
    read = Lists(frame, place)
    for name in {"score", "rank"} & set(frame.columns):
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype(np.float64)
        if not (finite := np.isfinite(frame[name].to_numpy())).all():
            raise read.error(int(finite.argmin()), f"{name} is not a finite number", "every row needs one")
    if "rank" in frame and "score" in frame:
        user = pd.factorize(frame["user"])[0]
        order = np.lexsort((frame["rank"], user))
        same_user = user[order][1:] == user[order][:-1]
        rising = (
            same_user & (np.diff(frame["score"].to_numpy()[order]) > 0) & (np.diff(frame["rank"].to_numpy()[order]) > 0)
        )
        if rising.any():
            row = int(order[1:][rising][0])
            problem = f"for user '{frame['user'].iloc[row]}', score and rank order the items differently"
            raise read.error(row, problem, "keep the column that the system ranks by")
    elif "rank" in frame:
        frame["score"] = -frame["rank"]
    return Lists(frame.drop(columns="rank", errors="ignore"), place)


def _read_delimited(path: Path, kind: str, scored: bool) -> Lists:
    columns = _columns(path, kind, scored)
    _, header = next(rows(path, DELIMITERS[kind], quoted=True))
    numbers = [columns[name] for name in ("score", "rank") if name in columns]
    delimiter, keep = DELIMITERS[kind], list(columns.values())
    table = read_table(path, header, skip=1, numbers=numbers, keep=keep, delimiter=delimiter, quoted=True)
    frame = table.rename(columns={column: name for name, column in columns.items()})

    def place(row: int) -> str:
        line, _ = next(islice(rows(path, delimiter, quoted=True), row + 1, None))
        return f"{path.name}:{line}"

    return _lists(path, frame, place)


def _read_parquet(path: Path, scored: bool) -> Lists:
    columns = _columns(path, PARQUET, scored)
    table = pa.parquet.read_table(path, columns=list(columns.values()))
    table = table.rename_columns(list(columns)).combine_chunks()
    if pa.types.is_list(table.schema.field("item").type) or pa.types.is_large_list(table.schema.field("item").type):
        table = _flat(path, table, scored)
    frame = table.to_pandas(ignore_metadata=True)
    frame = frame.astype({"user": str, "item": str})
    return _lists(path, frame, lambda row: f"{path.name}, row {row + 1}")


def _flat(path: Path, table: pa.Table, scored: bool) -> pa.Table:
    """Return one row for each element of the lists of items."""
    listed = table["item"]
    user = pa.compute.take(table["user"], pa.compute.list_parent_indices(listed))
    flat = {"user": user, "item": pa.compute.list_flatten(listed)}
    if "score" in table.column_names:
        flat["score"] = pa.compute.list_flatten(table["score"])
        if len(flat["score"]) != len(user):
            raise DataError(f"{path.name}: lists of items and of scores differ in length", "write one score per item")
    if pa.types.is_struct(flat["item"].type):
        fields = pa.Table.from_struct_array(flat["item"])
        names = _named(path.name, ["user", *fields.column_names], scored)
        flat |= {name: fields[column] for name, column in names.items() if name != "user"}
    return pa.table(flat)


def _read_trec(path: Path) -> Lists:
    found, numbers = [], []
    for number, line in lines(path):
        fields = line.split()
        if len(fields) != len(TREC_COLUMNS):
            raise DataError(f"{path.name}:{number}: expected six fields, got {len(fields)}", " ".join(TREC_COLUMNS))
        score = parse_number(fields[4])
        if score is None:
            raise DataError(f"{path.name}:{number}: score is not a number: '{fields[4]}'", "every row needs one")
        found.append((fields[0], fields[2], score))
        numbers.append(number)
    frame = pd.DataFrame(found, columns=["user", "item", "score"])
    return _lists(path, frame, lambda row: f"{path.name}:{numbers[row]}")


def _read_json(path: Path, kind: str, scored: bool) -> Lists:
    parts, places = [], []
    for place, entry in _json_objects(path, kind):
        names = _named(place, [key for key in entry if key.lower() in KEYS], scored)
        items = entry[names["item"]]
        if not isinstance(items, list):
            raise DataError(f"{place}: {names['item']} is not a list", 'write {"user": "u1", "items": ["i1", "i2"]}')
        part = {"user": str(entry[names["user"]]), "item": list(map(as_text, items))}
        if "score" in names:
            part["score"] = entry[names["score"]]
            if not isinstance(part["score"], list) or len(part["score"]) != len(items):
                raise DataError(f"{place}: items and scores differ in number", "write one score per item")
        parts.append(pd.DataFrame(part))
        places += [place] * len(items)
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return _lists(path, frame, places.__getitem__)


def _json_objects(path: Path, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the objects of a file with their places."""
    if kind == JSON_LINES:
        yield from ((f"{path.name}:{line}", entry) for line, entry in json_lines(path, required=()))
        return
    entries = read_json(path)
    for i, entry in enumerate(entries if isinstance(entries, list) else [entries], start=1):
        if not isinstance(entry, dict):
            raise DataError(f"{path.name}, entry {i}: not an object", 'write {"user": "u1", "items": ["i1", "i2"]}')
        yield f"{path.name}, entry {i}", entry
