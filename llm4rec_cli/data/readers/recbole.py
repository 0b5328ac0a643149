"""RecBole atomic files: tab-separated, the header says `name:type`.

Either `interactions` (one row each) with an optional item file, or UniSRec's downstream files, whose `train`, `valid`
and `test` hold one row a prefix (user, history, target): read as interactions they would count each several times.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from llm4rec_cli.data.rawfiles import line_of_row, lines, malformed, table
from llm4rec_cli.data.readers import Forms
from llm4rec_cli.data.recdataset import RawData

VERSION = 1
FORMS: Forms = (
    (frozenset({"interactions"}), frozenset({"items"})),
    (frozenset({"train", "valid", "test", "text", "user_index", "item_index"}), frozenset()),
)

_RENAMED = {"movie_title": "title", "class": "categories", "genre": "categories", "category": "categories"}
_ITEM_COLUMNS = ("item_id", "title", "brand", "categories", "description", "text")
_INTERACTION_COLUMNS = ("user_id", "item_id", "rating", "timestamp")


class _Record(NamedTuple):
    """One row of an augmented file; users and items by index."""

    path: Path
    line: int
    user: str
    history: list[str]
    target: str


def read(files: dict[str, Path]) -> RawData:
    """Interactions and items of either form; `timestamp` in the file's unit, as float64.

    Raises:
        DataError: a malformed line, a missing column, an unknown index, prefixes that contradict one another, or
            prefixes given as interactions.
    """
    return _plain(files) if "interactions" in files else _augmented(files)


def _plain(files: dict[str, Path]) -> RawData:
    if "item_id_list" in _header(files["interactions"], needed=()):
        raise malformed(files["interactions"], 1, "rows are prefixes of sequences (item_id_list), not interactions")
    interactions = _atomic(files["interactions"], needed=("user_id", "item_id"), known=_INTERACTION_COLUMNS)
    counts = {"read": len(interactions)}
    if "items" in files:
        items = _atomic(files["items"], needed=("item_id",), known=_ITEM_COLUMNS).drop_duplicates("item_id")
        return RawData(items, interactions, counts, item_order="as listed in the item file")
    items = pd.DataFrame({"item_id": np.sort(interactions["item_id"].unique())})
    return RawData(items, interactions, counts, item_order="sorted ids")


def _augmented(files: dict[str, Path]) -> RawData:
    users, items = _index(files["user_index"]), _index(files["item_index"])
    train = _by_user(files["train"], users, items)
    valid = _by_user(files["valid"], users, items)
    test = _by_user(files["test"], users, items)
    sequences = {}
    for user, records in test.items():
        prefixes = train.pop(user, [])
        if prefixes and len(prefixes[0].history) < len(prefixes[-1].history):
            prefixes = prefixes[::-1]
        sequences[user] = _sequence([*records, *valid.pop(user, []), *prefixes])
    for record in chain.from_iterable([*train.values(), *valid.values()]):
        raise malformed(record.path, record.line, f"user {record.user} has no row in {files['test'].name}")
    length = [len(sequence) for sequence in sequences.values()]
    interactions = pd.DataFrame(
        {
            "user_id": np.repeat([users[user] for user in sequences], length),
            "item_id": [items[item] for item in chain.from_iterable(sequences.values())],
        }
    )
    texts = _atomic(files["text"], needed=("item_id", "text"), known=_ITEM_COLUMNS).drop_duplicates("item_id")
    described = pd.DataFrame({"item_id": list(items.values())}).merge(texts, on="item_id", how="left")
    return RawData(
        described,
        interactions,
        counts={"read": len(interactions)},
        item_order="as numbered in the item index, which is by first appearance and so carries order",
    )


def _sequence(records: list[_Record]) -> list[str]:
    """A user's whole sequence from its records, longest prefix first.

    Each record's history must be the next shorter record's history and target, whole or cut to the same length (files
    keep the last 50 items); the shortest history is one item. So a sequence longer than the cut is pieced together, and
    a row that is missing or altered is found.
    """
    for longer, shorter in pairwise(records):
        whole = [*shorter.history, shorter.target]
        cut = len(longer.history) == len(shorter.history)
        if longer.history != (whole[1:] if cut else whole):
            raise malformed(
                longer.path,
                longer.line,
                f"the history of user {longer.user} does not continue {shorter.path.name}, line {shorter.line}",
            )
    first = records[-1]
    if len(first.history) != 1:
        raise malformed(
            first.path,
            first.line,
            f"user {first.user} lacks the rows of the prefixes shorter than {len(first.history)}",
        )
    return [*first.history, *(record.target for record in reversed(records))]


def _by_user(path: Path, users: dict[str, str], items: dict[str, str]) -> dict[str, list[_Record]]:
    """The records of one file, by user, in file order."""
    found: dict[str, list[_Record]] = {}
    for record in _records(path):
        if record.user not in users:
            raise malformed(path, record.line, f"unknown user index {record.user}")
        for item in (*record.history, record.target):
            if item not in items:
                raise malformed(path, record.line, f"unknown item index {item}")
        found.setdefault(record.user, []).append(record)
    return found


def _records(path: Path) -> Iterator[_Record]:
    columns = _header(path, needed=("user_id", "item_id_list", "item_id"))
    user, history, target = (columns.index(name) for name in ("user_id", "item_id_list", "item_id"))
    rows = lines(path)
    next(rows)
    for line, row in rows:
        fields = row.split("\t")
        if len(fields) != len(columns):
            raise malformed(path, line, f"{len(fields)} fields, expected {len(columns)} ({', '.join(columns)})")
        if not fields[history].split():
            raise malformed(path, line, "the history is empty")
        yield _Record(path, line, fields[user], fields[history].split(), fields[target])


def _index(path: Path) -> dict[str, str]:
    """Raw id of each index (as text, as it stands in the other files), in order of the index."""
    rows = table(path, ("token", "index"), numbers=("index",), filled=("token",))
    for wrong, what in (
        (rows["index"] % 1 != 0, "index {index:g} is no whole number"),
        (rows["index"].duplicated(), "index {index:g} stands twice"),
        (rows["token"].duplicated(), "'{token}' stands twice"),
    ):
        if wrong.any():
            row = int(wrong.argmax())
            raise malformed(path, line_of_row(path, row), what.format(**rows.loc[row]))
    rows = rows.sort_values("index")
    return dict(zip(rows["index"].astype("int64").astype(str), rows["token"], strict=True))


def _atomic(path: Path, needed: tuple[str, ...], known: tuple[str, ...]) -> pd.DataFrame:
    """The known columns of an atomic file."""
    columns = _header(path, needed)
    return table(
        path,
        columns,
        skip=1,
        numbers=("rating", "timestamp"),
        filled=("user_id", "item_id"),
        keep=[name for name in columns if name in known],
    )


def _header(path: Path, needed: tuple[str, ...]) -> list[str]:
    """Column names without their types, in the house's words."""
    line, header = next(lines(path))
    written = [field.partition(":")[0] for field in header.split("\t")]
    columns = [name if name in needed else _RENAMED.get(name, name) for name in written]
    if len(set(columns)) < len(columns):
        raise malformed(path, line, f"two columns of one name or meaning (found {', '.join(written)})")
    for name in needed:
        if name not in columns:
            raise malformed(path, line, f"no column '{name}' (found {', '.join(written)})")
    return columns
