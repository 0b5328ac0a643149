"""The S3-Rec sequence file used by P5: `user item item …`, oldest first, all as numbers, without times.

With P5's map of these numbers to raw ids, item texts come from Amazon's metadata or from Yelp's businesses. Without it,
as S3-Rec publishes the file, numbers are the ids, and items have no text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from llm4rec_cli.data.rawfiles import json_lines, lines, malformed
from llm4rec_cli.data.readers import FileRoles, interactions_of
from llm4rec_cli.data.readers.amazon import read_metadata
from llm4rec_cli.data.recdataset import RawData
from llm4rec_cli.errors import DataError

VERSION = 2
_NEEDED = frozenset({"sequences", "id_map"})
ROLES: FileRoles = (
    (frozenset({"sequences"}), frozenset()),
    (_NEEDED, frozenset({"metadata"})),
    (_NEEDED, frozenset({"businesses"})),
)


def read(files: dict[str, Path]) -> RawData:
    """Read interactions in file order and items in the order of their numbers. Raises DataError for a malformed line, a
    number that is not in the id map, or an invalid id map."""
    id_map = files.get("id_map")
    users, items = _id_maps(id_map) if id_map else _numbers(files["sequences"])
    expected = f"is not in {id_map.name}" if id_map else "is not a number"
    sequences = {}
    for line, user, sequence in _lines(files["sequences"]):
        if user not in users or user in sequences:
            problem = "appears twice" if user in sequences else expected
            raise malformed(files["sequences"], line, f"user {user} {problem}")
        for item in sequence:
            if item not in items:
                raise malformed(files["sequences"], line, f"item {item} {expected}")
        sequences[user] = sequence
    interactions = interactions_of(sequences, users, items)
    described = pd.DataFrame({"item_id": [items[key] for key in sorted(items, key=int)]})
    if "metadata" in files:
        described = described.merge(read_metadata(files["metadata"], set(items.values())), on="item_id", how="left")
    if "businesses" in files:
        described = described.merge(_businesses(files["businesses"], set(items.values())), on="item_id", how="left")
    return RawData(
        described,
        interactions,
        counts={"read": len(interactions)},
        item_order="as in the id map, by first appearance, so numbers carry order information"
        if id_map
        else "as in the file, so numbers may carry order information",
    )


def _lines(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yield the number of each line, its user and its items. Raises DataError for a line without items."""
    for line, row in lines(path):
        user, *sequence = row.split() or [""]
        if not sequence:
            raise malformed(path, line, f"user {user} has no items" if user else "line has only spaces")
        yield line, user, sequence


def _numbers(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the numbers of a sequence file as an id map that leaves them as they are."""
    rows = [(user, sequence) for _, user, sequence in _lines(path)]
    numbers = {user for user, _ in rows}, set(chain.from_iterable(sequence for _, sequence in rows))
    users, items = ({number: number for number in kind if number.isdecimal()} for kind in numbers)
    return users, items


def _businesses(path: Path, wanted: set[str]) -> pd.DataFrame:
    """Return the name, as title, and categories of each wanted business in Yelp's file, from its first record. Raises
    DataError for a line that is not JSON, or has no `business_id`."""
    records: dict[str, dict[str, str | None]] = {}
    for _, row in json_lines(path, required=("business_id",)):
        item = str(row["business_id"])
        if item in wanted and item not in records:
            records[item] = {"item_id": item, "title": row.get("name"), "categories": row.get("categories")}
    return pd.DataFrame(list(records.values()), columns=["item_id", "title", "categories"])


def _id_maps(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return number -> raw id, of users and of items."""
    try:
        maps = json.loads("\n".join(line for _, line in lines(path)), object_pairs_hook=_unique_keys)
        users, items = (_raw_ids(maps, kind) for kind in ("user", "item"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path.name} is not an S3-Rec id map: {error}",
            "an id map is one JSON object with user2id and item2id (raw id: number), or id2user and id2item (number: "
            f"raw id); fix or replace it: {path}",
        ) from error
    return users, items


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; Python's own parser would silently keep the last of several equal keys. Raises ValueError
    if a key appears twice."""
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        repeated, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"key '{repeated}' appears twice")
    return parsed


def _raw_ids(maps: Any, kind: str) -> dict[str, str]:
    """Return number -> raw id from the map `<kind>2id`, or from its inverse `id2<kind>`, the only one in some copies.

    Raises:
        ValueError: neither map, an invalid or repeated number, or an id that is empty, repeated or not valid text.
    """
    name, inverse = f"{kind}2id", f"id2{kind}"
    if isinstance(maps, dict) and name not in maps and inverse in maps:
        name = inverse
    entries = maps.get(name) if isinstance(maps, dict) else None
    if not isinstance(entries, dict):
        raise ValueError(f"no object '{name}'")
    raw_ids: dict[str, str] = {}
    for key, value in entries.items():
        raw_id, number = (value, key) if name == inverse else (key, value)
        if not str(number).isdecimal() or not raw_id or not isinstance(raw_id, str):
            raise ValueError(f"{name} maps '{key[:60]}' to {value!r:.60}")
        raw_id.encode()  # raises ValueError for a lone surrogate
        if (whole := str(int(number))) in raw_ids:
            raise ValueError(f"{name} maps both '{raw_ids[whole]}' and '{raw_id}' to {whole}")
        raw_ids[whole] = raw_id
    if len(set(raw_ids.values())) < len(raw_ids):
        repeated, _ = Counter(raw_ids.values()).most_common(1)[0]
        raise ValueError(f"{name} maps several numbers to '{repeated}'")
    return raw_ids
