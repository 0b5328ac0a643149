"""Titles that a chat model wrote, and the items of the catalogue that they mean."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.titles import normalised

Key = TypeVar("Key", bound=Hashable)

_NUMBER = re.compile(r"\d+|\b(?:ii|iii|iv|vi|vii|viii|ix)\b")


class How(StrEnum):
    """How an item was found by its title."""

    exact = "exact"  # letter by letter
    normalised = "normalised"  # but for case, accents, punctuation, article and year
    fuzzy = "fuzzy"  # alike
    duplicate = "duplicate"  # what it means was listed already
    hallucinated = "hallucinated"  # no item is alike


@dataclass(frozen=True)
class Matched:
    """What n listed titles mean.

    Attributes:
        items: (n,) item numbers, no item twice; -1 for what is a duplicate or hallucinated.
        how: n ways.
        score: (n,) how alike they are, 0 to 100: of those equal but for case and the like 100, of hallucinated ones 0.
        ties: (n,) how many items share that title, or are as alike as the best; above 1 the choice was a guess.
    """

    items: IntArray
    how: list[How]
    score: NDArray[np.floating[Any]]
    ties: IntArray


class Matcher:
    """Finds items by titles as a chat model writes them.

    Alike is measured by rapidfuzz's `WRatio` on bare words, and numbers (sizes, sequels) and years must agree. Of 1,600
    titles of MovieLens 100K (and Beauty) it finds from 92 on 74 % (97 %) with one random edit, 80 % (87 %) without one
    of their words, 100 % (98 %) with their parts in another order, 27 % (97 %) with words added; of titles that were
    taken out of the catalogue it takes another for 0.8 % (4.8 %, mostly their twins in another colour or kind), and out
    of 100 candidates for 0.0 % (0.1 %). At 90 and below a title is alike that is merely part of another ("Heat" of
    "Body Heat"), and 20 % (7 %) are taken for others; above 95 words count in one order only. From 92 on,
    `token_set_ratio` takes another for 11 % (12 %), and the greater of `ratio` and `token_sort_ratio` for 0.4 %
    (3.4 %), but that finds 60 % (64 %) without a word and 2 % (48 %) with words added.

    Args:
        titles: one an item, in order of the item numbers; empty where an item has none.
        threshold: how alike is alike enough, above 0 to 100; at 100 only what is equal but for case and the like.
    """

    def __init__(self, titles: Sequence[str], threshold: float) -> None:
        self.threshold = threshold
        self.words, self.years = zip(*map(normalised, titles), strict=True)
        self.with_title = _grouped(titles)
        self.with_words = _grouped(self.words)
        self.with_year = _grouped(f"{words} {year}" for words, year in zip(self.words, self.years, strict=True))
        self.with_numbers = _grouped(map(_numbers, self.words))

    def match(self, listed: Sequence[str], among: IntArray | None = None) -> Matched:
        """What each title means; of several items with one title the first that is not taken yet.

        All exact ones are found before others are looked for, so they alone are what an exact reading would find.

        Args:
            listed: titles, best first.
            among: the item numbers that may be meant; None = all.
        """
        n = len(listed)
        items, score, ties = np.full(n, -1), np.zeros(n), np.zeros(n, dtype=np.int64)
        how = [How.hallucinated] * n
        allowed = None if among is None else frozenset(among.tolist())
        for way, find in ((How.exact, self._titled), (How.normalised, self._worded), (How.fuzzy, self._alike)):
            for i, title in enumerate(listed):
                if how[i] is How.hallucinated:
                    found, score[i] = find(title, allowed)
                    ties[i] = len(found)
                    free = np.setdiff1d(found, items)
                    if len(free):
                        items[i], how[i] = free[0], way
                    elif found:
                        how[i] = How.duplicate
        return Matched(items, how, score, ties)

    def _titled(self, title: str, allowed: frozenset[int] | None) -> tuple[list[int], float]:
        """The items with this title, and how alike theirs is."""
        return _found(_only(self.with_title.get(title, []), allowed) if title else [])

    def _worded(self, title: str, allowed: frozenset[int] | None) -> tuple[list[int], float]:
        words, year = normalised(title)
        same = [i for i in self.with_words.get(words, []) if self._of_year(i, year)] or self.with_year.get(words, [])
        return _found(_only(same, allowed) if words else [])

    def _alike(self, title: str, allowed: frozenset[int] | None) -> tuple[list[int], float]:
        words, year = normalised(title)
        fitting = [i for i in _only(self.with_numbers.get(_numbers(words), []), allowed) if self._of_year(i, year)]
        if not fitting:
            return [], 0.0
        near = [self.words[i] for i in fitting]
        (score,) = process.cdist([words], near, scorer=fuzz.WRatio, score_cutoff=self.threshold)  # below it 0
        best = score.max()
        return ([fitting[i] for i in np.flatnonzero(score == best)], float(best)) if best else ([], 0.0)

    def _of_year(self, item: int, year: str) -> bool:
        """Whether it is of that year; so it is where one of the two is not known."""
        return not year or not self.years[item] or self.years[item] == year


def _found(items: list[int]) -> tuple[list[int], float]:
    return items, 100.0 if items else 0.0


def _only(items: list[int], allowed: frozenset[int] | None) -> list[int]:
    return items if allowed is None else [i for i in items if i in allowed]


def _grouped(keys: Iterable[Key]) -> dict[Key, list[int]]:
    """The numbers of the items with each key."""
    found: dict[Key, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        found[key].append(i)
    return found


def _numbers(words: str) -> tuple[str, ...]:
    """The numbers in a title's words, in digits or Roman, in no order."""
    return tuple(sorted(_NUMBER.findall(words)))
