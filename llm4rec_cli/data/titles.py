"""Titles as people type them, and the items they mean."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence

from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from llm4rec_cli.data.examples import IntArray

ALIKE = 70  # of 100: below it a similar title is not worth a question

_ARTICLES = "the|an|a|la|le|les|l'|il|lo|el|los|las|der|die|das"  # as catalogues put them behind: "Postino, Il"
_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")


class Titles:
    """A catalogue's titles.

    Args:
        titles: one an item, in order of the item numbers; empty where an item has none.
        counts: (n_items,) how often each item occurs: of equals the most frequent comes first.
    """

    def __init__(self, titles: Sequence[str], counts: IntArray) -> None:
        self.titles, self.counts = titles, counts
        self.words, self.years = zip(*map(normalised, titles), strict=True)

    def same(self, typed: str) -> list[int]:
        """The items that bear this title as it stands; or else but for case, accents, punctuation, article and year.

        A year counts where both have one. Empty where no item does.
        """
        as_typed = [i for i, title in enumerate(self.titles) if title == typed and title]
        if as_typed:
            return self._frequent_first(as_typed)
        words, year = normalised(typed)
        return self._frequent_first(
            [
                i
                for i, (own, own_year) in enumerate(zip(self.words, self.years, strict=True))
                if own and ((own == words and _agree(own_year, year)) or f"{own} {own_year}" == words)
            ]
        )

    def misspelt(self, typed: str) -> int | None:
        """The one item that is safely meant by a misspelt title; None where nothing is near enough.

        Near enough are at most two edits (one below six characters, none below three), and the same numbers: sequels
        and sizes are no misspellings. On MovieLens 100K (and Beauty) this finds 94 % (96 %) of titles with one random
        edit and 86 % (89 %) with two; of titles that were taken out of the catalogue it takes another for 3 % (0.3 %).
        A threshold on similarity is far worse at the last, and at short titles: rapidfuzz's `ratio` over 80 takes
        another for 6 % (26 %), its `WRatio` over 90 for 25 % (14 %).
        """
        words, year = normalised(typed)
        allowed = min(2, len(words) // 3)
        near = process.extract(words, self.words, scorer=OSA.distance, score_cutoff=allowed, limit=None)
        fitting = [
            (distance, -self.counts[i], i)
            for own, distance, i in near
            if own and _numbers(own) == _numbers(words) and _agree(self.years[i], year)
        ]
        return min(fitting)[2] if fitting else None

    def near(self, typed: str, limit: int, alike: float = 0.0) -> list[int]:
        """Titles to choose from: those that hold all that was typed, then similar ones.

        Of titles misspelt as above, or cut to their first half, 97 to 100 % stand among the first three.

        Args:
            limit: how many at most.
            alike: how similar the similar ones must be, 0 to 100.
        """
        words, _ = normalised(typed)
        holding = [i for i, own in enumerate(self.words) if words and f" {words} " in f" {own} "]
        similar = process.extract(words, self.words, scorer=fuzz.ratio, score_cutoff=alike, limit=limit + len(holding))
        found = [*self._frequent_first(holding), *(i for own, _, i in similar if own)]
        return list(dict.fromkeys(found))[:limit]

    def _frequent_first(self, items: list[int]) -> list[int]:
        return sorted(items, key=lambda i: -self.counts[i])


def normalised(title: str) -> tuple[str, str]:
    """A title's bare words, and its year where one ends it in parentheses (otherwise empty).

    Lower case, no accents or punctuation, "&" as "and", a trailing article in front, and no leading English one: both
    "Matrix, The (1999)" and "the matrix (1999)" give ("matrix", "1999").
    """
    text = unicodedata.normalize("NFKD", html.unescape(title).casefold())
    text = "".join(c for c in text if not unicodedata.combining(c)).replace("’", "'").replace("&", " and ")
    year = found.group(1) if (found := _YEAR.search(text)) else ""
    text = _YEAR.sub("", text)
    text = re.sub(rf"^(.+?),\s*({_ARTICLES})(?=\s*(\(|$))", r"\2 \1", text).replace("l' ", "l'")
    text = re.sub(r"[.,'*\"]", "", text)  # "E.T." is "ET"; all else parts words
    text = re.sub(r"[\W_]+", " ", text).strip()
    return re.sub(r"^(the|an|a) (?=.)", "", text), year


def _numbers(words: str) -> list[str]:
    return re.findall(r"\d+", words)


def _agree(year: str, other: str) -> bool:
    return not year or not other or year == other
