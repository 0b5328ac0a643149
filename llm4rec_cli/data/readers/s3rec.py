"""The S3-Rec sequence file used by P5: `user item item …`, oldest first, all as numbers, without times."""

from __future__ import annotations

import json
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from llm4rec_cli.data.rawfiles import lines, malformed
from llm4rec_cli.data.readers import FileRoles
from llm4rec_cli.data.readers.amazon import read_metadata
from llm4rec_cli.data.recdataset import RawData
from llm4rec_cli.errors import DataError

VERSION = 2
ROLES: FileRoles = ((frozenset({"sequences", "id_map", "metadata"}), frozenset()),)


def read(files: dict[str, Path]) -> RawData:
    """Read interactions in file order and items in the order of their numbers in the id map.

    Raises:
        DataError: a malformed line, a number that is not in the id map, or an invalid id map.
    """
    users, items = _id_maps(files["id_map"])
    sequences = {}
    for line, row in lines(files["sequences"]):
        user, *sequence = row.split() or [""]
        if not sequence:
            raise malformed(files["sequences"], line, f"user {user} has no items" if user else "line has only spaces")
        if user not in users or user in sequences:
            problem = "appears twice" if user in sequences else f"is not in {files['id_map'].name}"
            raise malformed(files["sequences"], line, f"user {user} {problem}")
        for item in sequence:
            if item not in items:
                raise malformed(files["sequences"], line, f"item {item} is not in {files['id_map'].name}")
        sequences[user] = sequence
    interactions = pd.DataFrame(
        {
            "user_id": np.repeat(
                [users[user] for user in sequences], [len(sequence) for sequence in sequences.values()]
            ),
            "item_id": [items[item] for item in chain.from_iterable(sequences.values())],
        }
    )
    metadata = read_metadata(files["metadata"], set(items.values()))
    numbered = pd.DataFrame({"item_id": [items[key] for key in sorted(items, key=int)]})
    return RawData(
        numbered.merge(metadata, on="item_id", how="left"),
        interactions,
        counts={"read": len(interactions)},
        item_order="as in the id map, by first appearance, so numbers carry order information",
    )


def _id_maps(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return number -> raw id, of users and of items."""
    try:
        maps = json.loads("\n".join(line for _, line in lines(path)), object_pairs_hook=_unique_keys)
        users, items = (_raw_ids(maps, key) for key in ("user2id", "item2id"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path.name} is not an S3-Rec id map: {error}",
            f"an id map is one JSON object with user2id and item2id (raw id: number); fix or replace it: {path}",
        ) from error
    return users, items


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; Python's own parser would silently keep the last of several equal keys.

    Raises:
        ValueError: a key appears twice.
    """
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        repeated, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"key '{repeated}' appears twice")
    return parsed


def _raw_ids(maps: Any, key: str) -> dict[str, str]:
    """Return number -> raw id from the map under `key`, which has them the other way round.

    Raises:
        ValueError: no such map, an invalid or repeated number, or an id that is empty or not valid text.
    """
    numbers = maps.get(key) if isinstance(maps, dict) else None
    if not isinstance(numbers, dict):
        raise ValueError(f"no object '{key}'")
    raw_ids: dict[str, str] = {}
    for raw_id, number in numbers.items():
        if not str(number).isdecimal() or not raw_id:
            raise ValueError(f"{key} maps '{raw_id[:60]}' to {number!r:.60}")
        raw_id.encode()  # raises ValueError for a lone surrogate
        if (whole := str(int(number))) in raw_ids:
            raise ValueError(f"{key} maps both '{raw_ids[whole]}' and '{raw_id}' to {whole}")
        raw_ids[whole] = raw_id
    return raw_ids
