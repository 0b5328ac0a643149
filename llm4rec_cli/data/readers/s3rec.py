"""The S3-Rec sequence file that P5 builds on: `user item item …`, oldest first, all by number, no times."""

from __future__ import annotations

import json
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from llm4rec_cli.data.rawfiles import lines, malformed
from llm4rec_cli.data.readers import Forms
from llm4rec_cli.data.readers.amazon import read_metadata
from llm4rec_cli.data.recdataset import RawData
from llm4rec_cli.errors import DataError

VERSION = 2
FORMS: Forms = ((frozenset({"sequences", "id_map", "metadata"}), frozenset()),)


def read(files: dict[str, Path]) -> RawData:
    """Interactions in the file's order, items by the file's numbers.

    Raises:
        DataError: a malformed line, a number that the id map does not know, or no id map.
    """
    users, items = _id_maps(files["id_map"])
    sequences = {}
    for line, row in lines(files["sequences"]):
        user, *sequence = row.split() or [""]
        if not sequence:
            raise malformed(files["sequences"], line, f"user {user} has no item" if user else "nothing but spaces")
        if user not in users or user in sequences:
            what = "stands twice" if user in sequences else f"is not in {files['id_map'].name}"
            raise malformed(files["sequences"], line, f"user {user} {what}")
        for item in sequence:
            if item not in items:
                raise malformed(files["sequences"], line, f"item {item} is not in {files['id_map'].name}")
        sequences[user] = sequence
    interactions = pd.DataFrame(
        {
            "user_id": np.repeat([users[user] for user in sequences], [len(s) for s in sequences.values()]),
            "item_id": [items[item] for item in chain.from_iterable(sequences.values())],
        }
    )
    metadata = read_metadata(files["metadata"], set(items.values()))
    numbered = pd.DataFrame({"item_id": [items[key] for key in sorted(items, key=int)]})
    return RawData(
        numbered.merge(metadata, on="item_id", how="left"),
        interactions,
        counts={"read": len(interactions)},
        item_order="as numbered in the file, which is by first appearance and so carries order",
    )


def _id_maps(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Raw ids of users and of items by their number."""
    try:
        maps = json.loads("\n".join(line for _, line in lines(path)), object_pairs_hook=_object)
        users, items = (_by_number(maps, key) for key in ("user2id", "item2id"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path.name} is no S3-Rec id map: {error}",
            f"it is one JSON object whose user2id and item2id map raw ids to numbers; fetch it again: {path}",
        ) from error
    return users, items


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; Python's own keeps the last of equal keys.

    Raises:
        ValueError: a key stands twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"'{twice}' stands twice")
    return found


def _by_number(maps: Any, key: str) -> dict[str, str]:
    """One of the maps, turned round.

    Raises:
        ValueError: it is not there, a number is none or stands twice, or an id is empty or no text.
    """
    ids = maps.get(key) if isinstance(maps, dict) else None
    if not isinstance(ids, dict):
        raise ValueError(f"no object '{key}'")
    found: dict[str, str] = {}
    for raw, number in ids.items():
        if not str(number).isdecimal() or not raw:
            raise ValueError(f"{key} maps '{raw[:60]}' to {number!r:.60}")
        raw.encode()  # a ValueError for half a surrogate pair
        if (whole := str(int(number))) in found:
            raise ValueError(f"{key} maps both '{found[whole]}' and '{raw}' to {whole}")
        found[whole] = raw
    return found
