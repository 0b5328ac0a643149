"""MovieLens as GroupLens publishes it: 100K (`u.data`, `u.item`), 1M (`ratings.dat`, `movies.dat`) and latest (CSV).

10M has the layout of 1M; 20M, 25M, 32M and both latest sets share one.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from llm4rec_cli.data.rawfiles import lines, malformed, rows, table
from llm4rec_cli.data.readers import Forms
from llm4rec_cli.data.recdataset import RawData

VERSION = 1
FORMS: Forms = ((frozenset({"ratings"}), frozenset({"movies"})),)

_RATINGS = ("user_id", "item_id", "rating", "timestamp")
GENRES = (  # the genres of u.item, in its order
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_NO_GENRE = {"unknown", "(no genres listed)", ""}


class _Layout(NamedTuple):
    """How a release writes its two files."""

    delimiter: str  # of the ratings
    movie_delimiter: str
    movie_columns: tuple[str, ...]
    headers: bool  # and double quotes


_100K = _Layout(
    "\t", "|", ("movie id", "movie title", "release date", "video release date", "IMDb URL", *GENRES), headers=False
)
_1M = _Layout("::", "::", ("MovieID", "Title", "Genres"), headers=False)
_LATEST = _Layout(",", ",", ("movieId", "title", "genres"), headers=True)
_RATINGS_HEADER = ("userId", "movieId", "rating", "timestamp")


def read(files: dict[str, Path]) -> RawData:
    """Ratings in file order, `timestamp` in seconds since 1970; the first line of the ratings tells which layout it is.

    Titles stay as the file has them, year and trailing article included: `Matrix, The (1999)`. Genres become
    `categories`; a film of unknown genre has none. Text that is not UTF-8 is Latin-1, as GroupLens wrote it up to 1M.

    Raises:
        DataError: a malformed line, or movies in another layout than the ratings.
    """
    layout = _layout(files["ratings"])
    ratings = _ratings(files["ratings"], layout)
    counts = {"read": len(ratings)}
    if "movies" in files:
        movies = _movies(files["movies"], layout).drop_duplicates("item_id", ignore_index=True)
        return RawData(movies, ratings, counts, item_order="as listed in the movie file, by MovieLens' own numbers")
    items = pd.DataFrame({"item_id": np.sort(ratings["item_id"].unique())})
    return RawData(items, ratings, counts, item_order="sorted ids")


def _layout(path: Path) -> _Layout:
    number, first = next(lines(path))
    for layout in (_1M, _100K, _LATEST):
        if layout.delimiter in first:
            return layout
    raise malformed(path, number, "fields are divided by neither tabs (u.data), '::' (ratings.dat) nor commas (CSV)")


def _ratings(path: Path, layout: _Layout) -> pd.DataFrame:
    skip = _header(path, _RATINGS_HEADER) if layout.headers else 0
    return table(path, _RATINGS, skip=skip, numbers=_RATINGS[2:], filled=_RATINGS[:2], delimiter=layout.delimiter)


def _movies(path: Path, layout: _Layout) -> pd.DataFrame:
    """`item_id`, `title` and `categories` of each film; u.item flags its genres, the others name them."""
    columns = layout.movie_columns
    skip = _header(path, columns) if layout.headers else 0
    movies = []
    for line, fields in rows(path, layout.movie_delimiter, quoted=layout.headers, fallback="latin-1"):
        if line <= skip:
            continue
        if len(fields) != len(columns):
            raise malformed(path, line, f"{len(fields)} fields, expected {len(columns)} ({', '.join(columns)})")
        genres = _flagged(path, line, fields[5:]) if layout is _100K else fields[2].split("|")
        named = " ".join(genre for genre in genres if genre not in _NO_GENRE)
        movies.append((fields[0], fields[1], named or None))
    return pd.DataFrame(movies, columns=["item_id", "title", "categories"])


def _flagged(path: Path, line: int, flags: list[str]) -> list[str]:
    if not set(flags) <= {"0", "1"}:
        raise malformed(path, line, f"genres are told by 0 and 1, found {'|'.join(flags)}")
    return [genre for genre, flag in zip(GENRES, flags, strict=True) if flag == "1"]


def _header(path: Path, expected: tuple[str, ...]) -> int:
    """The number of the header's line."""
    line, found = next(rows(path, ",", quoted=True, fallback="latin-1"))
    if tuple(found) != expected:
        raise malformed(path, line, f"expected the header {','.join(expected)}, found {','.join(found)}")
    return line
