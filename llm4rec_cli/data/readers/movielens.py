"""MovieLens as GroupLens publishes it: 100K (`u.data`, `u.item`), 1M (`ratings.dat`, `movies.dat`) and latest (CSV).

10M has the layout of 1M; 20M, 25M, 32M and both latest sets share one layout.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from llm4rec_cli.data.rawfiles import lines, malformed, read_table, rows, wrong_field_count
from llm4rec_cli.data.readers import FileRoles
from llm4rec_cli.data.recdataset import RawData

VERSION = 1
ROLES: FileRoles = ((frozenset({"ratings"}), frozenset({"movies"})),)

_RATINGS = ("user_id", "item_id", "rating", "timestamp")
GENRES = (  # in the order of u.item's columns
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_NO_GENRE = {"unknown", "(no genres listed)", ""}


class _Layout(NamedTuple):
    """The format of a release's two files."""

    rating_delimiter: str
    movie_delimiter: str
    movie_columns: tuple[str, ...]
    headers: bool  # also: fields may be quoted


_100K = _Layout(
    "\t", "|", ("movie id", "movie title", "release date", "video release date", "IMDb URL", *GENRES), headers=False
)
_1M = _Layout("::", "::", ("MovieID", "Title", "Genres"), headers=False)
_LATEST = _Layout(",", ",", ("movieId", "title", "genres"), headers=True)
_RATINGS_HEADER = ("userId", "movieId", "rating", "timestamp")


def read(files: dict[str, Path]) -> RawData:
    """Read ratings in file order, `timestamp` in seconds since 1970; their first line determines the layout.

    Titles keep their year and trailing article: `Matrix, The (1999)`. Genres become `categories`; films of unknown
    genre have none. Text that is not UTF-8 is read as Latin-1, which GroupLens used up to 1M.

    Raises:
        DataError: a malformed line, or movies in a different layout from the ratings.
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
        if layout.rating_delimiter in first:
            return layout
    raise malformed(path, number, "fields are not separated by tabs (u.data), '::' (ratings.dat) or commas (CSV)")


def _ratings(path: Path, layout: _Layout) -> pd.DataFrame:
    skip = _header(path, _RATINGS_HEADER) if layout.headers else 0
    return read_table(
        path, _RATINGS, skip=skip, numbers=_RATINGS[2:], filled=_RATINGS[:2], delimiter=layout.rating_delimiter
    )


def _movies(path: Path, layout: _Layout) -> pd.DataFrame:
    """Return `item_id`, `title` and `categories` of each film; u.item has genre flags, the others genre names."""
    columns = layout.movie_columns
    skip = _header(path, columns) if layout.headers else 0
    movies = []
    for line, fields in rows(path, layout.movie_delimiter, quoted=layout.headers, fallback="latin-1"):
        if line <= skip:
            continue
        if len(fields) != len(columns):
            raise wrong_field_count(path, line, fields, columns)
        genres = _genres(path, line, fields[5:]) if layout is _100K else fields[2].split("|")
        categories = " ".join(genre for genre in genres if genre not in _NO_GENRE)
        movies.append((fields[0], fields[1], categories or None))
    return pd.DataFrame(movies, columns=["item_id", "title", "categories"])


def _genres(path: Path, line: int, flags: list[str]) -> list[str]:
    if not set(flags) <= {"0", "1"}:
        raise malformed(path, line, f"genre flags must be 0 or 1, got {'|'.join(flags)}")
    return [genre for genre, flag in zip(GENRES, flags, strict=True) if flag == "1"]


def _header(path: Path, expected: tuple[str, ...]) -> int:
    """Check the header and return its line number."""
    line, header = next(rows(path, ",", quoted=True, fallback="latin-1"))
    if tuple(header) != expected:
        raise malformed(path, line, f"expected the header {','.join(expected)}, got {','.join(header)}")
    return line
