"""TALLRec's prompts (Bao et al., RecSys 2023): likes and dislikes of users, as JSON of instruction, input and output.

The files name no users. Where a row shows what the row before it showed, without the oldest title and with its target,
both are of one user; that is how the movie files list a user's rows. In the book files each row is a user of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd

from llm4rec_cli.data.rawfiles import lines
from llm4rec_cli.data.readers import FileRoles
from llm4rec_cli.data.recdataset import RawData
from llm4rec_cli.errors import DataError

VERSION = 1
PARTS = ("train", "valid", "test")
ROLES: FileRoles = ((frozenset({"test"}), frozenset({"train", "valid"})),)

_INPUT = re.compile(
    r"User Preference: ?(?P<liked>.*)\nUser Unpreference: ?(?P<disliked>.*)\n"
    r'Whether the user will like the target (?:movie|book) "(?P<target>.*)"\?'
)
_AUTHOR = '" written by '
_NEXT = re.compile(r', (?=")')  # between two books
_ANSWERS = {"Yes.": True, "No.": False}


@dataclass(frozen=True)
class _Row:
    """A prompt: the titles that it shows, its target, and whether the user liked that."""

    liked: list[str]
    disliked: list[str]
    target: str
    likes_target: bool

    def precedes(self, other: _Row) -> bool:
        """Return whether the other row shows this one's titles and target, without the oldest."""
        liked = [*self.liked, *([self.target] if self.likes_target else [])]
        disliked = [*self.disliked, *([] if self.likes_target else [self.target])]
        n_gone = len(liked) + len(disliked) - len(other.liked) - len(other.disliked)
        are_latest = liked[len(liked) - len(other.liked) :] == other.liked
        return n_gone in (0, 1) and are_latest and disliked[len(disliked) - len(other.disliked) :] == other.disliked


def read(files: dict[str, Path]) -> RawData:
    """Read the rows of each part, for `dataset.split=given`: a user's first history, then the targets in file order.

    `rating` is 1 for a like and 0 for a dislike. An item is its title, of a book also its author, as the prompts show
    no other id: two items of one title are one. In a user's first history the order of likes and dislikes is only known
    where later rows drop them; otherwise likes come first.

    Raises:
        DataError: a malformed file or row.
    """
    interactions = []
    for part in (part for part in PARTS if part in files):
        for number, rows in enumerate(_users(_rows(files[part]))):
            user = f"{part}-{number}"
            first = [(user, title, liked, "history") for title, liked in _first_history(rows)]
            interactions += [*first, *((user, row.target, row.likes_target, part) for row in rows)]
    frame = pd.DataFrame(interactions, columns=["user_id", "item_id", "rating", "part"])
    frame["rating"] = frame["rating"].astype("float64")
    items = pd.DataFrame({"item_id": sorted(set(frame["item_id"]))})
    title_and_author = items["item_id"].str.removeprefix('"').str.rpartition(_AUTHOR)
    is_book = title_and_author[1] != ""
    items["title"] = title_and_author[0].where(is_book, items["item_id"])
    items["brand"] = title_and_author[2].where(is_book)
    return RawData(items, frame, {"read": len(frame)}, item_order="sorted titles")


def _rows(path: Path) -> list[_Row]:
    try:
        content = json.loads("\n".join(line for _, line in lines(path)))
    except ValueError as error:
        raise DataError(f"{path.name}: not valid JSON ({error})", f"replace the file: {path}") from error
    if not isinstance(content, list) or not content:
        raise DataError(f"{path.name}: expected a list of rows", f"replace the file: {path}")
    return [_parsed(path, i, row) for i, row in enumerate(content)]


def _parsed(path: Path, i: int, row: object) -> _Row:
    texts = [str(row.get(key, "")) for key in ("input", "output")] if isinstance(row, dict) else ["", ""]
    match, liked = _INPUT.fullmatch(texts[0]), _ANSWERS.get(texts[1])
    if match is None or liked is None:
        raise DataError(
            f"{path.name}, row {i + 1}: not a prompt of TALLRec: {str(row)[:100]!r}",
            f"fix that row, or replace the file: {path}",
        )
    return _Row(_titles(match["liked"]), _titles(match["disliked"]), match["target"], liked)


def _titles(listed: str) -> list[str]:
    """Return the titles of a list such as `"A", "B"` or `"A" written by X, "B" written by Y`."""
    if not listed:
        return []
    return _NEXT.split(listed) if _AUTHOR in listed else listed[1:-1].split('", "')


def _users(rows: list[_Row]) -> Iterator[list[_Row]]:
    """Yield the rows of each user."""
    own = rows[:1]
    for before, row in pairwise(rows):
        if not before.precedes(row):
            yield own
            own = []
        own.append(row)
    yield own


def _first_history(rows: list[_Row]) -> Iterator[tuple[str, bool]]:
    """Yield each title of a user's first history, in the order in which later rows drop them, and whether it was
    liked."""
    liked, disliked = list(rows[0].liked), list(rows[0].disliked)
    for before, row in pairwise(rows):
        for left, shown, added in (
            (liked, row.liked, before.liked + [before.target] * before.likes_target),
            (disliked, row.disliked, before.disliked + [before.target] * (not before.likes_target)),
        ):
            if left and len(shown) < len(added):
                yield left.pop(0), left is liked
    yield from ((title, True) for title in liked)
    yield from ((title, False) for title in disliked)
