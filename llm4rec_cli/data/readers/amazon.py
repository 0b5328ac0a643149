"""Amazon 2014 and 2018 (McAuley lab): reviews or ratings, item metadata, and explanations in Sentires-like JSON lines.

Reviews have the same keys in both years, metadata nearly so. The ratings-only CSV files have no header, and the order
of their columns differs: 2018 begins with the item, 2014 with the user. So their role names the year.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from llm4rec_cli.data.rawfiles import json_lines, malformed, number, table
from llm4rec_cli.data.readers import Forms
from llm4rec_cli.data.recdataset import RawData
from llm4rec_cli.errors import DataError

VERSION = 3
FORMS: Forms = (
    (frozenset({"reviews"}), frozenset({"metadata", "explanations"})),
    (frozenset({"ratings_2014"}), frozenset({"metadata"})),
    (frozenset({"ratings_2018"}), frozenset({"metadata"})),
)

_RATINGS = {
    "ratings_2014": ("user_id", "item_id", "rating", "timestamp"),
    "ratings_2018": ("item_id", "user_id", "rating", "timestamp"),
}
_ITEM_LENGTH = 10  # characters of each item's id; a user's has more
_REVIEW_IDS = {"reviewerID": "user_id", "asin": "item_id"}
_REVIEW_NUMBERS = {"overall": "rating", "unixReviewTime": "timestamp"}
_REVIEW_TEXTS = {"reviewText": "review_text", "summary": "review_title", "reviewerName": "user_name"}
_PRICE = re.compile(r"\s*\$?\s*(\d[\d,]*(?:\.\d+)?)")


def read(files: dict[str, Path]) -> RawData:
    """Reviews (or ratings) in file order; `timestamp` in seconds since 1970 and `rating` as float64.

    A row that equals an earlier one in all that is read of it, the user's name aside, is dropped. Several reviews of
    one user and item stay where they differ in time, rating or text; UniSRec, which reads ratings, drops those that
    differ in text alone. With `metadata`, reviews of items without a record there are dropped, as UniSRec does; without
    it items have no text. With `explanations`, a review carries the first explanation of its user and item.

    Raises:
        DataError: a malformed line, a missing key, or ratings whose columns stand in the order of the other year.
    """
    (role,) = files.keys() - {"metadata", "explanations"}
    reviews = _reviews(files[role]) if role == "reviews" else _ratings(files[role], role)
    counts = {"read": len(reviews)}
    reviews = reviews.drop_duplicates(reviews.columns.difference(["user_name"]), ignore_index=True)
    counts["exact duplicates"] = counts["read"] - len(reviews)
    wanted = set(reviews["item_id"].unique())
    if "metadata" in files:
        items = read_metadata(files["metadata"], wanted)
        known = reviews["item_id"].isin(items["item_id"])
        counts["items without metadata"] = int((~known).sum())
        reviews = reviews[known]
    else:
        items = pd.DataFrame({"item_id": list(wanted)}, dtype="str")
    if "explanations" in files:
        reviews = reviews.merge(_explanations(files["explanations"]), on=["user_id", "item_id"], how="left")
    return RawData(items.sort_values("item_id", ignore_index=True), reviews, counts, item_order="sorted ids")


def read_metadata(path: Path, wanted: set[str]) -> pd.DataFrame:
    """Title, brand, categories, description and price of the wanted items; the first record of an item counts.

    Raises:
        DataError: a line that is neither JSON nor a Python literal, or has no `asin`.
    """
    found: dict[str, dict[str, str | None]] = {}
    for _, row in json_lines(path, required=("asin",), parse=_json_or_literal):
        item = str(row["asin"])
        if item in wanted and item not in found:
            found[item] = {
                "item_id": item,
                "title": _text(row.get("title")),
                "brand": _text(row.get("brand")),
                "categories": _paths(row["categories"]) if "categories" in row else _joined(row.get("category")),
                "description": _joined(row.get("description")),
                "price": _price(row.get("price")),
            }
    columns = ["item_id", "title", "brand", "categories", "description", "price"]
    return pd.DataFrame(list(found.values()), columns=columns)


def _reviews(path: Path) -> pd.DataFrame:
    names = (_REVIEW_IDS | _REVIEW_NUMBERS | _REVIEW_TEXTS).values()
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for line, row in json_lines(path, required=(*_REVIEW_IDS, *_REVIEW_NUMBERS)):
        for key, name in _REVIEW_IDS.items():
            raw_id = _text(row[key]) if isinstance(row[key], str | int) else None
            if not raw_id:
                raise malformed(path, line, f"{key} is missing, or no id: {row[key]!r}")
            columns[name].append(raw_id)
        for key, name in _REVIEW_NUMBERS.items():
            value = number(row[key])
            if value is None:
                raise malformed(path, line, f"{key} is not a number: {row[key]!r}")
            columns[name].append(value)
        for key, name in _REVIEW_TEXTS.items():
            columns[name].append(_text(row.get(key)))
    return pd.DataFrame(columns)


def _ratings(path: Path, role: str) -> pd.DataFrame:
    columns = _RATINGS[role]
    ratings = table(path, columns, numbers=columns[2:], filled=columns[:2], delimiter=",")
    items, users = ((ratings[name].head(1000).str.len() == _ITEM_LENGTH).mean() for name in ("item_id", "user_id"))
    if users > 0.5 > items:
        (other,) = _RATINGS.keys() - {role}
        raise DataError(
            f"{path.name}: the columns stand in another order than {', '.join(columns)}: "
            f"'{ratings['user_id'][0]}' is no user but an item",
            f"give the file the role {other} in place of {role}",
        )
    return ratings[list(_RATINGS["ratings_2014"])]


def _explanations(path: Path) -> pd.DataFrame:
    rows = [
        (str(row["user"]), str(row["item"]), _text(row["feature"]), _text(row["sentence"]))
        for _, row in json_lines(path, required=("user", "item", "feature", "sentence"))
    ]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "feature", "explanation"])
    return frame.drop_duplicates(["user_id", "item_id"])


def _json_or_literal(line: str) -> Any:
    """Metadata of 2014 is one Python literal a line; later copies of it are JSON."""
    try:
        return json.loads(line)
    except ValueError:
        try:
            return ast.literal_eval(line)
        except (ValueError, SyntaxError) as error:
            raise ValueError("nor plain Python values") from error


def _text(value: Any) -> str | None:
    """A field as text; half a surrogate pair, which some reviews end on, becomes a question mark."""
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def _price(price: Any) -> str | None:
    """A price such as `12.99`, of 2014's numbers and of 2018's `$12.99`; of a range its lower end.

    Some records of 2018 hold a piece of the page's style sheet in its place: no price.
    """
    leading = _PRICE.match(price) if isinstance(price, str) else None
    value = number(leading[1].replace(",", "") if leading else price)
    return None if value is None else f"{value:.2f}"


def _joined(texts: Any) -> str | None:
    """Metadata of 2018 has its texts in pieces; they are joined by a space, as UniSRec does."""
    return _text(" ".join(map(str, texts)) or None) if isinstance(texts, list) else _text(texts)


def _paths(paths: Any) -> str | None:
    """Category paths such as [[A, B], [A, C]] as `A B C`: a name that several paths share stands once."""
    if not isinstance(paths, list):
        return _text(paths)
    names = [name for path in paths for name in (path if isinstance(path, list) else [path])]
    return _text(" ".join(dict.fromkeys(map(str, names))))
