"""Short tokens of items: as a chat model wrote them, read out of its answers, or the item's attributes; kept as a
column of the items.

    use        what an item is used for
    audience   who it is for
    key_words  what tells it from others

A token of an answer is one to three lower-case words. Answers are asked for in English; function words and words of the
question itself are no tokens.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import pandas as pd

from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.texts import column
from llm4rec_cli.llm.requests import Status

SLOTS = ("use", "audience", "key_words")
WORDS = 3  # of a token; a longer phrase is a sentence, of which each word counts by itself
LONGEST = 25  # characters of a word: weak models join whole titles by hyphens
SHARED = 2  # items that make a token a feature: what one alone has tells no more than its number

# Function words; sklearn's list would take "fire", "system" and "thin" along.
_FUNCTION_WORDS = """
    a about all also an and any are as at be been being both but by can can't could do does each either etc every
    for from had has have he her here his how i i'm if in into is it it's its just like may more most much no not of
    on one only or other others our out own she should so some such than that that's the their them then there these
    they this those to too up used using very was we were what when where which while who whom whose why will with
    would you your
"""
# Words of the question, which weak models say again: of these alone no token is made.
_QUESTION_WORDS = """
    answer audience audiences brand brands called categories described description example item items json kind kinds
    key keys keyword keywords list lists lower-case named none null object purpose tag tags title unknown use user
    users uses word words
"""
_STOP, _ASKED = frozenset(_FUNCTION_WORDS.split()), frozenset(_QUESTION_WORDS.split())
_LABELS = {  # how answers call the slots
    **dict.fromkeys(("use", "uses", "usage", "purpose"), "use"),
    **dict.fromkeys(("audience", "audiences", "user", "users"), "audience"),
    **dict.fromkeys(("keyword", "keywords"), "key_words"),
}
_LABEL = re.compile(r"\b(uses?|usage|purpose|audiences?|users?|key[ _-]?words?)[\"'*_ ]*[:=]", re.IGNORECASE)
_BETWEEN = re.compile(r"[\n,;:.!?|/•*\"“”()\[\]{}<>&+]+|(?:^|\s)[-–—]+\s|\b(?:and|or)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def parse_answer(answer: str, limit: int, noun: str, torn: bool = False) -> tuple[dict[str, list[str]], Status]:
    """The tokens of an answer by slot, each token once, and how they were found.

    What stands under no label counts as key words, which have the room of all slots where none is named.

    Args:
        answer: as the model wrote it.
        limit: tokens a slot, at most: the first ones.
        noun: what the question calls an item, which is no part of a token.
        torn: whether the answer was cut off, so that its last word may be half a word.
    """
    if torn:
        answer = re.sub(r"[\w'’-]+$", "", answer)
    asked = _as_asked(answer)
    phrases = asked or _labelled(answer)
    ignored = _STOP | {noun, f"{noun}s"}
    room = limit if asked or _LABEL.search(answer) else limit * len(SLOTS)
    found: dict[str, list[str]] = {}
    taken: set[str] = set()
    for slot in SLOTS:
        written = chain.from_iterable(_tokens(phrase, ignored) for phrase in phrases[slot])
        found[slot] = [token for token in dict.fromkeys(written) if token not in taken][:room]
        taken.update(found[slot])
    if not taken:
        return found, Status.invalid
    return found, Status.ok if asked else Status.repaired


def attribute_tokens(items: pd.DataFrame) -> list[list[str]]:
    """Each item's brand as a token, and each word of its categories but for function words, lower-case; none where
    neither is known."""
    brands, categories = column(items, "brand"), column(items, "categories")
    of_brand = ([f"brand: {brand.strip().lower()}"] if brand.strip() else [] for brand in brands)
    of_categories = (_WORD.findall(html.unescape(text).lower()) for text in categories)
    known = ([word for word in dict.fromkeys(words) if word not in _STOP] for words in of_categories)
    return [[*brand, *words] for brand, words in zip(of_brand, known, strict=True)]


def with_tokens(dataset: RecDataset, tokens: Sequence[Sequence[str]]) -> RecDataset:
    """The dataset with a column `tokens` of its items, and in its manifest what identifies them."""
    told = {
        "sha256": hashlib.sha256(json.dumps([list(of_one) for of_one in tokens]).encode()).hexdigest(),
        "items": sum(map(bool, tokens)),
        "shared": len(vocabulary(tokens)),
    }
    column = pd.Series([list(of_one) for of_one in tokens], index=dataset.items.index, dtype=object)
    return replace(dataset, items=dataset.items.assign(tokens=column), manifest=dataset.manifest | {"tokens": told})


def vocabulary(tokens: Sequence[Sequence[str]]) -> list[str]:
    """The tokens that at least SHARED items have, sorted."""
    counts = Counter(chain.from_iterable(map(set, tokens)))
    return sorted(token for token, n in counts.items() if n >= SHARED)


def _as_asked(answer: str) -> dict[str, list[str]] | None:
    """Phrases by slot of a JSON object that has all of them; None where the answer holds none."""
    try:
        found, _ = json.JSONDecoder().raw_decode(answer, answer.index("{"))
    except (ValueError, RecursionError):  # none, a torn one, or brackets without end
        return None
    slots = {_LABELS.get(re.sub(r"[ _-]", "", key.lower())): value for key, value in found.items()}
    return {slot: list(_phrases(slots[slot])) for slot in SLOTS} if slots.keys() >= set(SLOTS) else None


def _phrases(value: Any) -> Iterator[str]:
    """Of a JSON value: a list's elements, a text's parts."""
    if isinstance(value, list):
        yield from chain.from_iterable(map(_phrases, value))
    elif isinstance(value, str):
        yield from _BETWEEN.split(value)


def _labelled(answer: str) -> dict[str, list[str]]:
    """Phrases by slot of a text: what follows `Use:` and the like, up to the next of these."""
    found: dict[str, list[str]] = {slot: [] for slot in SLOTS}
    before, *labelled = _LABEL.split(answer)
    for label, text in [("keywords", before), *zip(labelled[::2], labelled[1::2], strict=True)]:
        found[_LABELS[re.sub(r"[ _-]", "", label.lower())]] += _BETWEEN.split(text)
    return found


def _tokens(phrase: str, ignored: frozenset[str]) -> Iterator[str]:
    """A phrase without function words, numbers and what is no word; of a long one, each word."""
    plain = unicodedata.normalize("NFKC", phrase).lower().replace("’", "'")
    words = [word for word in _WORD.findall(plain) if len(word) <= LONGEST and not word.isdigit()]
    words = [word for word in words if word not in ignored]
    for token in [[word] for word in words] if len(words) > WORDS else [words]:
        if not _ASKED.issuperset(token):
            yield " ".join(token)
