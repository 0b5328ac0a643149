"""RecBole atomic files: tab-separated, with headers of `name:type`.

Either `interactions` (one row each) with an optional item file, or UniSRec's downstream files: `train`, `valid` and
`test` with one row per prefix (user, history, target). Read as interactions, those would count each one several times.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from llm4rec_cli.data.rawfiles import line_of_row, lines, malformed, read_table, wrong_field_count
from llm4rec_cli.data.readers import FileRoles, interactions_of
from llm4rec_cli.data.recdataset import RawData
from llm4rec_cli.errors import DataError, did_you_mean

log = logging.getLogger(__name__)

VERSION = 1
ROLES: FileRoles = (
    (frozenset({"interactions"}), frozenset({"items"})),
    (frozenset({"train", "valid", "test", "text", "user_index", "item_index"}), frozenset()),
)

_ITEM_COLUMNS = ("item_id", "title", "brand", "categories", "description", "text")
_INTERACTION_COLUMNS = ("user_id", "item_id", "rating", "timestamp")
COLUMNS = frozenset({*_INTERACTION_COLUMNS, *_ITEM_COLUMNS})
# Names of RecBole's datasets for our columns: the first title counts, and all categories.
_OTHER_NAMES = {"title": ("movie_title", "name"), "categories": ("class", "genre", "genres", "category")}


class _Record(NamedTuple):
    """One row of a prefix file; users and items by index."""

    path: Path
    line: int
    user: str
    history: list[str]
    target: str


def read(files: dict[str, Path], columns: Mapping[str, str] | None = None) -> RawData:
    """Read interactions and items from either kind of files; `timestamp` in the file's unit, as float64.

    Args:
        columns: our column name -> the file's name, for columns with other names. A file that has only our name is read
            too, so that domains of one dataset may differ.

    Raises:
        DataError: a malformed line, a missing column, an unknown index, prefixes that contradict each other, or
            prefix rows in the role of interactions.
    """
    columns = columns or {}
    for name, column in columns.items():
        roles = ["interactions"] * (name in _INTERACTION_COLUMNS) + ["items", "text"] * (name in _ITEM_COLUMNS)
        holders = [files[role] for role in roles if role in files]
        header = [name for path in holders for name in _header(path, required=())]
        if column in header:
            continue
        where = " and ".join(path.name for path in holders) or "these files"
        if not (read_instead := _sources(name, header, columns)):
            raise DataError(f"{where}: no column '{column}' for {name}", did_you_mean(column, header))
        log.warning("%s: no column '%s' for %s, so '%s' is read", where, column, name, "', '".join(read_instead))
    return _read_interactions(files, columns) if "interactions" in files else _read_prefixes(files, columns)


def _read_interactions(files: dict[str, Path], columns: Mapping[str, str]) -> RawData:
    if "item_id_list" in _header(files["interactions"], required=()):
        raise malformed(files["interactions"], 1, "rows are sequence prefixes (column item_id_list), not interactions")
    interactions = _atomic(files["interactions"], ("user_id", "item_id"), _INTERACTION_COLUMNS, columns)
    counts = {"read": len(interactions)}
    if "items" in files:
        items = _atomic(files["items"], ("item_id",), _ITEM_COLUMNS, columns).drop_duplicates("item_id")
        return RawData(items, interactions, counts, item_order="as listed in the item file")
    items = pd.DataFrame({"item_id": np.sort(interactions["item_id"].unique())})
    return RawData(items, interactions, counts, item_order="sorted ids")


def _read_prefixes(files: dict[str, Path], columns: Mapping[str, str]) -> RawData:
    users, items = _index(files["user_index"]), _index(files["item_index"])
    train = _by_user(files["train"], users, items)
    valid = _by_user(files["valid"], users, items)
    test = _by_user(files["test"], users, items)
    sequences = {}
    for user, records in test.items():
        train_records = train.pop(user, [])
        if train_records and len(train_records[0].history) < len(train_records[-1].history):
            train_records = train_records[::-1]
        sequences[user] = _sequence([*records, *valid.pop(user, []), *train_records])
    for record in chain.from_iterable([*train.values(), *valid.values()]):
        raise malformed(record.path, record.line, f"user {record.user} has no row in {files['test'].name}")
    interactions = interactions_of(sequences, users, items)
    texts = _atomic(files["text"], ("item_id", "text"), _ITEM_COLUMNS, columns).drop_duplicates("item_id")
    described_items = pd.DataFrame({"item_id": list(items.values())}).merge(texts, on="item_id", how="left")
    return RawData(
        described_items,
        interactions,
        counts={"read": len(interactions)},
        item_order="as in the item index, by first appearance, so numbers carry order information",
    )


def _sequence(records: list[_Record]) -> list[str]:
    """Return a user's whole sequence from its records, longest prefix first.

    Each record's history must be the next shorter record's history plus target, whole or cut to the same length (files
    keep the last 50 items). The shortest history has one item. This restores sequences longer than the cut and detects
    missing or altered rows.
    """
    for longer, shorter in pairwise(records):
        whole = [*shorter.history, shorter.target]
        cut = len(longer.history) == len(shorter.history)
        if longer.history != (whole[1:] if cut else whole):
            raise malformed(
                longer.path,
                longer.line,
                f"the history of user {longer.user} does not continue {shorter.path.name}:{shorter.line}",
            )
    first = records[-1]
    if len(first.history) != 1:
        raise malformed(
            first.path,
            first.line,
            f"user {first.user} has no rows for prefixes shorter than {len(first.history)}",
        )
    return [*first.history, *(record.target for record in reversed(records))]


def _by_user(path: Path, users: dict[str, str], items: dict[str, str]) -> dict[str, list[_Record]]:
    """Return the records of one file, by user, in file order."""
    records: dict[str, list[_Record]] = {}
    for record in _records(path):
        if record.user not in users:
            raise malformed(path, record.line, f"unknown user index {record.user}")
        for item in (*record.history, record.target):
            if item not in items:
                raise malformed(path, record.line, f"unknown item index {item}")
        records.setdefault(record.user, []).append(record)
    return records


def _records(path: Path) -> Iterator[_Record]:
    columns = _header(path, required=("user_id", "item_id_list", "item_id"))
    user, history, target = (columns.index(name) for name in ("user_id", "item_id_list", "item_id"))
    numbered_lines = lines(path)
    next(numbered_lines)
    for line, text in numbered_lines:
        fields = text.split("\t")
        if len(fields) != len(columns):
            raise wrong_field_count(path, line, fields, columns)
        if not fields[history].split():
            raise malformed(path, line, "item_id_list is empty")
        yield _Record(path, line, fields[user], fields[history].split(), fields[target])


def _index(path: Path) -> dict[str, str]:
    """Return index -> raw id, sorted by index; indices are text, as in the other files."""
    rows = read_table(path, ("token", "index"), numbers=("index",), filled=("token",))
    for is_wrong, problem in (
        (rows["index"] % 1 != 0, "index is not a whole number: {index:g}"),
        (rows["index"].duplicated(), "index {index:g} appears twice"),
        (rows["token"].duplicated(), "token '{token}' appears twice"),
    ):
        if is_wrong.any():
            row = int(is_wrong.argmax())
            raise malformed(path, line_of_row(path, row), problem.format(**rows.loc[row]))
    rows = rows.sort_values("index")
    return dict(zip(rows["index"].astype("int64").astype(str), rows["token"], strict=True))


def _atomic(path: Path, required: tuple[str, ...], ours: tuple[str, ...], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return the columns of `ours` that an atomic file has. A number may be blank, which is NaN.

    Args:
        required: columns of ours that it must have.
        columns: our column name -> the file's name.
    """
    header = _header(path, required=())
    header_line, _ = next(lines(path))
    sources = {name: _sources(name, header, columns) for name in ours}
    if unused := [column for column in header if column not in chain.from_iterable(sources.values())]:
        log.info("%s: columns not used: %s; map one by dataset.columns", path.name, ", ".join(unused))
    for name in required:
        if not sources[name]:
            problem = malformed(path, header_line, f"no column '{name}' (columns: {', '.join(header)})").problem
            key = f"{'' if name in columns else '+'}dataset.columns.{name}"
            raise DataError(problem, f"map another column: {key}=COLUMN; or fix the file: {path}")
    table = read_table(
        path,
        header,
        skip=header_line,
        numbers=[*sources.get("rating", ()), *sources.get("timestamp", ())],
        blank_numbers=True,
        filled=[*sources.get("user_id", ()), *sources["item_id"]],
        keep=list(dict.fromkeys(chain.from_iterable(sources.values()))),
    )
    return pd.DataFrame({name: _joined(table[names]) for name, names in sources.items() if names})


def _sources(name: str, header: list[str], columns: Mapping[str, str]) -> list[str]:
    """Return the columns of a file that one of ours is read from."""
    if columns.get(name) in header:
        return [columns[name]]
    names = [column for column in (name, *_OTHER_NAMES.get(name, ())) if column in header]
    return names if name == "categories" else names[:1]


def _joined(texts: pd.DataFrame) -> pd.Series:
    """Return the only column, or the texts of several, joined."""
    if texts.shape[1] == 1:
        return texts.iloc[:, 0]
    return pd.Series([" ".join(filter(None, row)) for row in texts.itertuples(index=False)])


def _header(path: Path, required: tuple[str, ...]) -> list[str]:
    """Return the column names without types."""
    line, header = next(lines(path))
    columns = [field.partition(":")[0] for field in header.split("\t")]
    if len(columns) == 1 and re.search("[,;|]", header):
        raise DataError(
            f"{path.name}:{line}: the fields of atomic files are separated by tabs",
            "for CSV: reader: table, with columns: {user_id: 'user_id:token', …}",
        )
    if len(set(columns)) < len(columns):
        raise malformed(path, line, f"two columns have the same name (columns: {', '.join(columns)})")
    for name in required:
        if name not in columns:
            raise malformed(path, line, f"no column '{name}' (columns: {', '.join(columns)})")
    return columns
