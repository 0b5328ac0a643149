"""Ids of other systems: numbers in place of raw ids, and codes (semantic ids), which several items may share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from llm4rec_cli.data.rawfiles import lines, read_json
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.ids.files import codes_in, read_codes
from llm4rec_studies.models.external.files import Lists


def renamed(lists: Lists, column: str, file: Path) -> Lists:
    """Return lists with another system's ids of users or items replaced by raw ids.

    Args:
        column: `user` or `item`.
        file: from `read_ids`.

    Raises:
        DataError: an id is not in the file.
    """
    raw = lists.rows[column].map(read_ids(file))
    if raw.isna().any():
        row = int(raw.isna().to_numpy().argmax())
        problem = f"no {column} '{lists.rows[column].iloc[row]}' in {file.name}"
        raise lists.error(row, problem, f"{file.name} needs a line for each {column}: raw id, then the id of the lists")
    return Lists(lists.rows.assign(**{column: raw}), lists.place)


def read_ids(file: Path) -> dict[str, str]:
    """Return another system's ids -> raw ids, of a JSON object or of lines with both: the raw id first.

    Raises:
        UsageError: there is no such file.
        DataError: a line has no two ids, or an id has two raw ids.
    """
    if not file.is_file():
        raise UsageError(f"{file} does not exist", "check the path")
    if file.suffix == ".json":
        content = read_json(file)
        if not isinstance(content, dict):
            raise DataError(f"{file.name} is not an object", 'write {"raw id": number, …}')
        pairs = [(str(raw), str(number)) for raw, number in content.items()]
    else:
        pairs = []
        for number, line in lines(file):
            fields = line.split("\t") if "\t" in line else line.split(",") if "," in line else line.split()
            if len(fields) != 2:
                raise DataError(f"{file.name}:{number}: expected two ids", "raw id, then the id of the lists")
            pairs.append((fields[0].strip(), fields[1].strip()))
    raw_ids: dict[str, str] = {}
    for raw, other in pairs:
        if raw_ids.setdefault(other, raw) != raw:
            raise DataError(
                f"{file.name}: '{other}' stands for '{raw_ids[other]}' and '{raw}'", "write one line per id"
            )
    return raw_ids


def items_by_codes(file: Path) -> dict[str, list[str]]:
    """Return codes, joined by spaces, -> the items that have them.

    Raises:
        UsageError, DataError: as `read_codes`.
    """
    items = defaultdict[str, list[str]](list)
    for item, codes in read_codes(file).items():
        items[" ".join(codes)].append(item)
    return items


def decoded(lists: Lists, items_of: Mapping[str, list[str]], name: str) -> tuple[Lists, str | None]:
    """Return lists of items for lists of codes, and what was left out, in words.

    Items with the same codes tie, so that a metric is its expectation over their order, whichever of them is meant. Of
    codes that a list repeats the first counts; codes of no item are left out.

    Args:
        items_of: from `items_by_codes`.
        name: of the file of codes, for messages.

    Raises:
        DataError: most codes are those of no item.
    """
    rows = lists.rows
    codes = rows["item"].map(lambda text: " ".join(codes_in(text)))
    known = codes.isin(list(items_of)).to_numpy()
    if known.mean() < 0.5:
        row = int(known.argmin())
        problem = f"no item has the codes '{codes.iloc[row]}' in {name} ({(~known).sum():,} of {len(rows):,} rows)"
        raise lists.error(row, problem, f"is {name} the file of the model that made the lists?")
    repeated = pd.DataFrame({"user": rows["user"], "codes": codes}).duplicated().to_numpy()
    kept = np.flatnonzero(known & ~repeated)
    score = rows["score"].to_numpy() if "score" in rows else -np.arange(len(rows))
    chosen = [items_of[code] for code in codes.iloc[kept]]
    sizes = list(map(len, chosen))
    frame = pd.DataFrame(
        {
            "user": np.repeat(rows["user"].to_numpy()[kept], sizes),
            "item": [item for items in chosen for item in items],
            "score": np.repeat(score[kept], sizes),
        }
    )
    origin = np.repeat(kept, sizes)
    said = [
        f"{n:,} {what}"
        for n, what in (((~known).sum(), "codes of no item"), ((known & repeated).sum(), "repeated codes"))
        if n
    ]
    left_out = f"{' and '.join(said)} were left out of {len(rows):,}" if said else None
    return Lists(frame, lambda row: lists.place(int(origin[row]))), left_out
