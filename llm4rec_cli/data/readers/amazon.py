"""Amazon 2014 and 2018 (McAuley lab): reviews or ratings, item metadata, and explanations in Sentires-like JSON lines.

Reviews have the same keys in both years, and metadata nearly the same. The ratings-only CSV files have no header and
differ in column order (2018 begins with the item, 2014 with the user), so their role names the year.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from llm4rec_cli.data.rawfiles import json_lines, parse_number, read_table
from llm4rec_cli.data.readers import FileRoles
from llm4rec_cli.data.recdataset import RawData
from llm4rec_cli.data.reviews import ReviewKeys, read_reviews, repeated, text, with_own_texts
from llm4rec_cli.errors import DataError

VERSION = 3
KEEPS_EMPTY = True
HAS_LONG_TEXTS = True
ROLES: FileRoles = (
    (frozenset({"reviews"}), frozenset({"metadata", "explanations"})),
    (frozenset({"ratings_2014"}), frozenset({"metadata"})),
    (frozenset({"ratings_2018"}), frozenset({"metadata"})),
)

_RATINGS = {
    "ratings_2014": ("user_id", "item_id", "rating", "timestamp"),
    "ratings_2018": ("item_id", "user_id", "rating", "timestamp"),
}
_ITEM_ID_LENGTH = 10  # characters; user ids are longer
_REVIEW = ReviewKeys(
    ids={"reviewerID": "user_id", "asin": "item_id"},
    numbers={"overall": "rating", "unixReviewTime": "timestamp"},
    texts={"reviewText": "review_text", "summary": "review_title", "reviewerName": "user_name"},
)
_PRICE = re.compile(r"\s*\$?\s*(\d[\d,]*(?:\.\d+)?)")


def read(files: dict[str, Path], keep_empty: bool = False, scratch: Path | None = None) -> RawData:
    """Read reviews (or ratings) in file order; `timestamp` in seconds since 1970 and `rating` as float64.

    Rows that equal an earlier row in every column except the user's name are dropped. Several reviews of one user and
    item are kept if they differ in time, rating or text; UniSRec, which reads ratings, drops those that differ only in
    text. With `metadata`, reviews of items without a metadata record are dropped, as in UniSRec. Without it, items have
    no text. With `explanations`, a review carries the first explanation of its user and item.

    Args:
        keep_empty: an empty list of categories is empty text, as a present but empty title or brand always is.
        scratch: a folder for the texts of reviews, which are then apart; None = they are columns of the interactions.

    Raises:
        DataError: a malformed line, a missing key, or ratings with the columns in the order of the other year.
    """
    (role,) = files.keys() - {"metadata", "explanations"}
    texts = None
    if role == "reviews":
        reviews, texts = read_reviews(files[role], _REVIEW, scratch)
        is_repeated = repeated(reviews, texts, ignored=["user_name"])
    else:
        reviews = _ratings(files[role], role)
        is_repeated = reviews.duplicated().to_numpy()
    counts = {"read": len(reviews), "exact duplicates": int(is_repeated.sum())}
    reviews = reviews[~is_repeated]
    wanted = set(reviews["item_id"].unique())
    if "metadata" in files:
        items = read_metadata(files["metadata"], wanted, keep_empty)
        has_metadata = reviews["item_id"].isin(items["item_id"])
        counts["items without metadata"] = int((~has_metadata).sum())
        reviews = reviews[has_metadata]
    else:
        items = pd.DataFrame({"item_id": list(wanted)}, dtype="str")
    if "explanations" in files:
        pair = ["user_id", "item_id"]
        reviews = reviews.join(_explanations(files["explanations"]).set_index(pair), on=pair)
    items = items.sort_values("item_id", ignore_index=True)
    raw = RawData(items, reviews, counts, item_order="sorted ids", texts=texts)
    return with_own_texts(raw) if scratch is None else raw


def read_metadata(path: Path, wanted: set[str], keep_empty: bool = False) -> pd.DataFrame:
    """Return title, brand, categories, description and price of the wanted items, from the first record of each. Raises
    DataError for a line that is neither JSON nor a Python literal, or has no `asin`."""
    records: dict[str, dict[str, str | None]] = {}
    for _, row in json_lines(path, required=("asin",), parse=_json_or_literal):
        item = str(row["asin"])
        if item in wanted and item not in records:
            records[item] = {
                "item_id": item,
                "title": text(row.get("title")),
                "brand": text(row.get("brand")),
                "categories": _paths(row["categories"])
                if "categories" in row
                else _joined(row.get("category"), keep_empty),
                "description": _joined(row.get("description")),
                "price": _price(row.get("price")),
            }
    columns = ["item_id", "title", "brand", "categories", "description", "price"]
    return pd.DataFrame(list(records.values()), columns=columns)


def _ratings(path: Path, role: str) -> pd.DataFrame:
    columns = _RATINGS[role]
    ratings = read_table(path, columns, numbers=columns[2:], filled=columns[:2], delimiter=",")
    items, users = ((ratings[name].head(1000).str.len() == _ITEM_ID_LENGTH).mean() for name in ("item_id", "user_id"))
    if users > 0.5 > items:
        (other,) = _RATINGS.keys() - {role}
        raise DataError(
            f"{path.name}: columns are not in the order {', '.join(columns)}: "
            f"'{ratings['user_id'][0]}', read as a user id, is an item id",
            f"use the role {other} for this file instead of {role}",
        )
    return ratings[list(_RATINGS["ratings_2014"])]


def _explanations(path: Path) -> pd.DataFrame:
    rows = [
        tuple(map(text, (row["user"], row["item"], row["feature"], row["sentence"])))
        for _, row in json_lines(path, required=("user", "item", "feature", "sentence"))
    ]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "feature", "explanation"])
    return frame.drop_duplicates(["user_id", "item_id"])


def _json_or_literal(line: str) -> Any:
    """Parse a line of metadata: a Python literal as published in 2014, or JSON as in later copies."""
    try:
        return json.loads(line)
    except ValueError:
        try:
            return ast.literal_eval(line)
        except (ValueError, SyntaxError) as error:
            raise ValueError("nor a Python literal") from error


def _price(price: Any) -> str | None:
    """Return a price as `12.99`, from a number (2014) or text such as `$12.99` (2018); of a range, its lower end.

    Some records of 2018 hold part of the page's style sheet instead: None.
    """
    match = _PRICE.match(price) if isinstance(price, str) else None
    value = parse_number(match[1].replace(",", "") if match else price)
    return None if value is None else f"{value:.2f}"


def _joined(texts: Any, keep_empty: bool = False) -> str | None:
    """Join texts that metadata of 2018 has in pieces by a space, as UniSRec does; None for no pieces unless kept."""
    if not isinstance(texts, list):
        return text(texts)
    joined = " ".join(map(str, texts))
    return text(joined) if joined or keep_empty else None


def _paths(paths: Any) -> str | None:
    """Join category paths such as [[A, B], [A, C]] into `A B C`, each name once."""
    if not isinstance(paths, list):
        return text(paths)
    names = [name for path in paths for name in (path if isinstance(path, list) else [path])]
    return text(" ".join(dict.fromkeys(map(str, names))))
