"""Amazon Reviews 2023 (McAuley lab): raw reviews, item metadata, and the published splits of the 5-core as CSV.

An item is a product with all its variants, `parent_asin`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from llm4rec_cli.data.rawfiles import json_lines, lines, malformed, parse_number, read_table
from llm4rec_cli.data.readers import FileRoles
from llm4rec_cli.data.recdataset import RawData
from llm4rec_cli.data.reviews import ReviewKeys, read_reviews, text, with_own_texts

VERSION = 1
HAS_LONG_TEXTS = True
PARTS = ("train", "valid", "test")
ROLES: FileRoles = (
    (frozenset({"reviews"}), frozenset({"metadata"})),
    (frozenset(PARTS), frozenset({"metadata"})),
)

_REVIEW = ReviewKeys(
    ids={"user_id": "user_id", "parent_asin": "item_id"},
    numbers={"rating": "rating", "timestamp": "timestamp"},
    texts={"text": "review_text", "title": "review_title"},
)
_COLUMNS = ("user_id", "parent_asin", "rating", "timestamp")  # of a part
_HISTORY = "history"  # a fifth column of the parts `…_w_his`
_ITEM_COLUMNS = ("item_id", "title", "brand", "categories", "description", "price")
_MILLISECONDS = 1000


def read(files: dict[str, Path], scratch: Path | None = None) -> RawData:
    """Read reviews, or the three parts of a published split, in file order; `timestamp` in seconds since 1970.

    Of several reviews of one user and item the earliest is kept, as in the published files. Items without a metadata
    record are kept, without text, as there.

    Args:
        scratch: a folder for the texts of reviews, which are then apart; None = they are columns of the interactions.

    Raises:
        DataError: a malformed line, a missing key or column, or a time that is not in milliseconds.
    """
    texts = None
    if "reviews" in files:
        reviews, texts = read_reviews(files["reviews"], _REVIEW, scratch)
        in_order = reviews.sort_values("timestamp", kind="stable")
        is_repeated = in_order.duplicated(["user_id", "item_id"]).sort_index().to_numpy()
        counts = {"read": len(reviews), "later reviews of the same user and item": int(is_repeated.sum())}
        reviews = reviews[~is_repeated]
    else:
        reviews = pd.concat([_part(files[part]).assign(part=part) for part in PARTS], ignore_index=True)
        counts = {"read": len(reviews)}
    reviews["timestamp"] /= _MILLISECONDS
    items = pd.DataFrame({"item_id": sorted(reviews["item_id"].unique())}, dtype="str")
    if "metadata" in files:
        items = items.merge(_metadata(files["metadata"], set(items["item_id"])), on="item_id", how="left")
    raw = RawData(items, reviews, counts, item_order="sorted ids", texts=texts)
    return with_own_texts(raw) if scratch is None else raw


def _part(path: Path) -> pd.DataFrame:
    line, header = next(lines(path))
    columns = header.split(",")
    if columns not in ([*_COLUMNS], [*_COLUMNS, _HISTORY]):
        raise malformed(path, line, f"expected the columns {','.join(_COLUMNS)}, got {header}")
    part = read_table(path, columns, skip=line, numbers=_COLUMNS[2:], filled=_COLUMNS[:2], keep=_COLUMNS, delimiter=",")
    return part.rename(columns={"parent_asin": "item_id"})


def _metadata(path: Path, wanted: set[str]) -> pd.DataFrame:
    """Return the fields of the wanted items, from the first record of each; `features`, the page's list of points,
    stand before the description."""
    records: dict[str, tuple[str | None, ...]] = {}
    for _, row in json_lines(path, required=("parent_asin",)):
        item = str(row["parent_asin"])
        if item in wanted and item not in records:
            described = [*_listed(row.get("features")), *_listed(row.get("description"))]
            records[item] = (
                item,
                text(row.get("title")),
                text(row.get("store")),
                _joined(_listed(row.get("categories"))),
                _joined(described),
                _price(row.get("price")),
            )
    return pd.DataFrame(list(records.values()), columns=list(_ITEM_COLUMNS), dtype="str")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _joined(texts: list[Any]) -> str | None:
    return text(" ".join(map(str, texts))) or None


def _price(price: Any) -> str | None:
    """Return a price as `12.99`, from a number or text such as `from 12.99`."""
    value = parse_number(price.removeprefix("from ").replace(",", "") if isinstance(price, str) else price)
    return None if value is None else f"{value:.2f}"
