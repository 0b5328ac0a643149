"""Amazon 2014 (McAuley lab): 5-core reviews, item metadata, and explanations in our own Sentires-like JSON lines."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pandas as pd

from llm4rec_cli.data.rawfiles import json_lines, malformed, number
from llm4rec_cli.data.readers import Forms
from llm4rec_cli.data.recdataset import RawData

VERSION = 1
FORMS: Forms = ((frozenset({"reviews"}), frozenset({"metadata", "explanations"})),)

_REVIEW_NUMBERS = {"overall": "rating", "unixReviewTime": "timestamp"}
_REVIEW_TEXTS = {"reviewText": "review_text", "summary": "review_title"}


def read(files: dict[str, Path]) -> RawData:
    """Reviews in file order; `timestamp` in seconds since 1970 and `rating` as float64.

    With `metadata`, reviews of items without a record there are dropped, as UniSRec does; without it items have no
    text. With `explanations`, a review carries the first explanation of its user and item.

    Raises:
        DataError: a malformed line or a missing key.
    """
    reviews = _reviews(files["reviews"])
    counts = {"read": len(reviews)}
    reviews = reviews.drop_duplicates(ignore_index=True)
    counts["exact duplicates"] = counts["read"] - len(reviews)
    wanted = set(reviews["item_id"])
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
    """Title, brand, categories and description of the wanted items; the first record of an item counts.

    Raises:
        DataError: a line that is neither JSON nor a Python literal, or has no `asin`.
    """
    found: dict[str, dict[str, str | None]] = {}
    for _, row in json_lines(path, required=("asin",), parse=_json_or_literal):
        item = row["asin"]
        if item in wanted and item not in found:
            found[item] = {
                "item_id": item,
                "title": _text(row.get("title")),
                "brand": _text(row.get("brand")),
                "categories": _categories(row.get("categories")),
                "description": _text(row.get("description")),
            }
    return pd.DataFrame(list(found.values()), columns=["item_id", "title", "brand", "categories", "description"])


def _reviews(path: Path) -> pd.DataFrame:
    columns: dict[str, list[Any]] = {"user_id": [], "item_id": []}
    columns |= {name: [] for name in (*_REVIEW_NUMBERS.values(), *_REVIEW_TEXTS.values())}
    for line, row in json_lines(path, required=("reviewerID", "asin", *_REVIEW_NUMBERS)):
        columns["user_id"].append(str(row["reviewerID"]))
        columns["item_id"].append(str(row["asin"]))
        for key, name in _REVIEW_NUMBERS.items():
            value = number(row[key])
            if value is None:
                raise malformed(path, line, f"{key} is not a number: {row[key]!r}")
            columns[name].append(value)
        for key, name in _REVIEW_TEXTS.items():
            columns[name].append(_text(row.get(key)))
    return pd.DataFrame(columns)


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
        return ast.literal_eval(line)


def _text(value: Any) -> str | None:
    """A field as text; half a surrogate pair, which some reviews end on, becomes a question mark."""
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def _categories(paths: Any) -> str | None:
    """Category paths such as [[A, B], [A, C]] as `A B C`: a name that several paths share stands once."""
    if not isinstance(paths, list):
        return _text(paths)
    names = [name for path in paths for name in (path if isinstance(path, list) else [path])]
    return _text(" ".join(dict.fromkeys(map(str, names))))
