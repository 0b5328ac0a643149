"""Short tokens of items, a column of the items: parsed from a chat model's answers, or the items' attributes.

    use        what an item is used for
    audience   who it is for
    key_words  what distinguishes it from others

A token of an answer is one to three lower-case words. Answers are in English; function words and words of the prompt
itself are not tokens.
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
from llm4rec_cli.data.texts import item_column
from llm4rec_cli.llm.parsing import without_reasoning
from llm4rec_cli.llm.requests import Status

SLOTS = ("use", "audience", "key_words")
MAX_WORDS = 3  # of a token; a longer phrase is a sentence, and each of its words is a token
MAX_CHARACTERS = 25  # of a word: weak models join whole titles by hyphens
MIN_ITEMS = 2  # that share a token; one item's own token carries no more than its number

# Function words; sklearn's list includes "fire", "system" and "thin".
_FUNCTION_WORDS = """
    a about all also an and any are as at be been being both but by can can't could do does each either etc every
    for from had has have he her here his how i i'm if in into is it it's its just like may more most much no not of
    on one only or other others our out own she should so some such than that that's the their them then there these
    they this those to too up used using very was we were what when where which while who whom whose why will with
    would you your
"""
# Words of the prompt, which weak models repeat: a token needs at least one other word.
_PROMPT_WORDS = """
    answer audience audiences brand brands called categories described description example item items json kind kinds
    key keys keyword keywords list lists lower-case named none null object purpose tag tags title unknown use user
    users uses word words
"""
_STOP, _IN_PROMPT = frozenset(_FUNCTION_WORDS.split()), frozenset(_PROMPT_WORDS.split())
_LABELS = {  # labels that answers use -> slot
    **dict.fromkeys(("use", "uses", "usage", "purpose"), "use"),
    **dict.fromkeys(("audience", "audiences", "user", "users"), "audience"),
    **dict.fromkeys(("keyword", "keywords"), "key_words"),
}
_LABEL = re.compile(r"\b(uses?|usage|purpose|audiences?|users?|key[ _-]?words?)[\"'*_ ]*[:=]", re.IGNORECASE)
_SEPARATOR = re.compile(r"[\n,;:.!?|/•*\"“”()\[\]{}<>&+]+|(?:^|\s)[-–—]+\s|\b(?:and|or)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def parse_answer(answer: str, limit: int, noun: str, torn: bool = False) -> tuple[dict[str, list[str]], Status]:
    """Return the tokens of an answer by slot, each token once, and the status: ok, repaired or invalid.

    Text without a label counts as key words. If the answer has no label at all, key words get the limit of all slots.

    Args:
        limit: the most tokens per slot. The first are kept.
        noun: the prompt's word for an item, which is not part of a token.
        torn: whether the answer was cut off, so its last word may be incomplete.
    """
    if torn:
        answer = re.sub(r"[\w'’-]+$", "", answer)
    answer = without_reasoning(answer)
    from_json = _from_json(answer)
    phrases = from_json or _from_labels(answer)
    ignored = _STOP | {noun, f"{noun}s"}
    slot_limit = limit if from_json or _LABEL.search(answer) else limit * len(SLOTS)
    tokens: dict[str, list[str]] = {}
    used: set[str] = set()
    for slot in SLOTS:
        written = chain.from_iterable(_tokens(phrase, ignored) for phrase in phrases[slot])
        tokens[slot] = [token for token in dict.fromkeys(written) if token not in used][:slot_limit]
        used.update(tokens[slot])
    if not used:
        return tokens, Status.invalid
    return tokens, Status.ok if from_json else Status.repaired


def attribute_tokens(items: pd.DataFrame) -> list[list[str]]:
    """Return each item's brand as a token, then the words of its categories without function words, in lower case."""
    brands, categories = item_column(items, "brand"), item_column(items, "categories")
    brand_tokens = ([f"brand: {brand.strip().lower()}"] if brand.strip() else [] for brand in brands)
    category_words = (_WORD.findall(html.unescape(text).lower()) for text in categories)
    category_tokens = ([word for word in dict.fromkeys(words) if word not in _STOP] for words in category_words)
    return [[*brand, *words] for brand, words in zip(brand_tokens, category_tokens, strict=True)]


def with_tokens(dataset: RecDataset, tokens: Sequence[Sequence[str]]) -> RecDataset:
    """Return the dataset with an item column `tokens`, and with their hash and counts in its manifest."""
    lists = [list(item_tokens) for item_tokens in tokens]
    summary = {
        "sha256": hashlib.sha256(json.dumps(lists).encode()).hexdigest(),
        "items": sum(map(bool, tokens)),
        "shared": len(vocabulary(tokens)),
    }
    column = pd.Series(lists, index=dataset.items.index, dtype=object)
    return replace(dataset, items=dataset.items.assign(tokens=column), manifest=dataset.manifest | {"tokens": summary})


def vocabulary(tokens: Sequence[Sequence[str]]) -> list[str]:
    """Return the tokens that at least MIN_ITEMS items share, sorted."""
    counts = Counter(chain.from_iterable(map(set, tokens)))
    return sorted(token for token, n in counts.items() if n >= MIN_ITEMS)


def _from_json(answer: str) -> dict[str, list[str]] | None:
    """Return phrases by slot from a JSON object with all slots, as the prompt requests; None without such an object."""
    try:
        content, _ = json.JSONDecoder().raw_decode(answer, answer.index("{"))
    except (ValueError, RecursionError):  # none, an incomplete one, or endless brackets
        return None
    slots = {_LABELS.get(re.sub(r"[ _-]", "", key.lower())): value for key, value in content.items()}
    return {slot: list(_phrases(slots[slot])) for slot in SLOTS} if slots.keys() >= set(SLOTS) else None


def _phrases(value: Any) -> Iterator[str]:
    """Yield the phrases of a JSON value: the elements of lists, the parts of texts."""
    if isinstance(value, list):
        yield from chain.from_iterable(map(_phrases, value))
    elif isinstance(value, str):
        yield from _SEPARATOR.split(value)


def _from_labels(answer: str) -> dict[str, list[str]]:
    """Return phrases by slot from a text: what follows `Use:` or another label, up to the next label."""
    phrases: dict[str, list[str]] = {slot: [] for slot in SLOTS}
    before, *labelled = _LABEL.split(answer)
    for label, text in [("keywords", before), *zip(labelled[::2], labelled[1::2], strict=True)]:
        phrases[_LABELS[re.sub(r"[ _-]", "", label.lower())]] += _SEPARATOR.split(text)
    return phrases


def _tokens(phrase: str, ignored: frozenset[str]) -> Iterator[str]:
    """Yield a phrase without function words, numbers and symbols as one token; a long phrase word by word."""
    plain = unicodedata.normalize("NFKC", phrase).lower().replace("’", "'")
    words = [word for word in _WORD.findall(plain) if len(word) <= MAX_CHARACTERS and not word.isdigit()]
    words = [word for word in words if word not in ignored]
    for token in [[word] for word in words] if len(words) > MAX_WORDS else [words]:
        if not _IN_PROMPT.issuperset(token):
            yield " ".join(token)
