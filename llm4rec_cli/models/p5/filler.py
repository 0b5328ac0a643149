"""Personalized prompts: templates filled with the field values of one example, as tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.config.schema import Index
from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.indexing import Code, ItemIndex, digit_length, digit_pieces
from llm4rec_cli.data.split import Split
from llm4rec_cli.models.p5.config import HistoryOrder, P5Config
from llm4rec_cli.models.p5.vocabulary import END, Tokens, Vocabulary

Chunk = tuple[IntArray, NDArray[np.bool_]]  # tokens, and whether each begins a word

# Mean and standard deviation of each rating as a training target, so that 41 classes are learned (code).
JITTER = {1: (1.2, 0.1), 2: (1.95, 0.225), 3: (2.95, 0.225), 4: (3.95, 0.225), 5: (4.75, 0.125)}
MIN_LIKED_STARS = 4  # (code)
MAX_FIELD_TOKENS = 64  # of a title etc. in a source: more would leave no room for the rest of the prompt
TRUNCATED_FIELDS = ("history", "review")  # shortened where a source is too long
FIELD_COLUMNS = {"review": "review_text", "headline": "review_title"}  # of the interactions, where the names differ


@dataclass
class FieldValues:
    """The values that fill the fields of one prompt.

    Attributes:
        user, item: numbers.
        row: the interaction that holds the texts.
        star: as the source shows it.
        history: item numbers, oldest first.
        candidates: item numbers, in the order shown.
        one: the item number of `{one}`.
        arrow: whether arrows instead of commas join the history.
        feature_row: the interaction that holds the feature; -1 = `row`.
    """

    user: int
    item: int
    row: int = -1
    star: int = 0
    history: IntArray | None = None
    candidates: IntArray | None = None
    one: int = -1
    arrow: bool = False
    feature_row: int = -1


class PromptFiller:
    """Fills templates with field values.

    Args:
        split: holds the texts.
        names: (n_users,) user names.
    """

    def __init__(
        self, config: P5Config, split: Split, names: list[str], index: ItemIndex, vocabulary: Vocabulary
    ) -> None:
        self.config, self.split, self.names, self.vocabulary = config, split, names, vocabulary
        self.user_codes = [vocabulary.encode_pieces(code) for code in user_codes(config, split.n_users)]
        self.item_codes = [vocabulary.encode_pieces(code) for code in index.codes]
        self.item_chunks = [_bare_number(code) for code in self.item_codes]
        self.prefix = {field: vocabulary.encode_one(f"{field}_") for field in ("user", "item")}
        self.comma, self.arrow = vocabulary.encode_one(","), vocabulary.encode_one("->")
        self.templates: dict[str, list[Chunk | str]] = {}
        self.columns: dict[str, Tokens] = {}
        self.short_texts: dict[str, Chunk] = {}

    def source(self, prompt: str, values: FieldValues) -> tuple[IntArray, IntArray]:
        """Return a source's tokens, end token included, and the number of each token's whole word (0 for the end).

        A source that is too long loses its oldest history, then the end of its review, and nothing else.
        """
        chunks: list[Chunk | str] = [
            part if not isinstance(part, str) or part in TRUNCATED_FIELDS else self._fill(part, values)
            for part in self._template(prompt, "source")
        ]
        room = self.config.max_source - 1 - sum(len(chunk[0]) for chunk in chunks if not isinstance(chunk, str))
        for i, chunk in enumerate(chunks):
            if isinstance(chunk, str):
                chunks[i] = filled = self._history(values, room) if chunk == "history" else self._review(values, room)
                room -= len(filled[0])
        tokens = np.concatenate([*(chunk[0] for chunk in chunks), [END]])
        words = np.append(np.cumsum(np.concatenate([chunk[1] for chunk in chunks])), 0)
        return tokens, words

    def target(self, prompt: str, values: FieldValues, answer: str) -> IntArray:
        """Return a target's tokens, end token included, at most `max_target`.

        Args:
            answer: what fills {star}, {yes_no} or {like}.
        """
        parts = []
        for part in self._template(prompt, "target"):
            if not isinstance(part, str):
                parts.append(part[0])
            elif part == "target":
                parts.append(self.item_codes[values.item])
            elif part in ("explanation", "headline"):
                parts.append(self._column(part)[values.row][0])
            else:
                parts.append(self.short_text(answer)[0])
        return np.append(np.concatenate(parts)[: self.config.max_target - 1], END)

    def short_text(self, text: str) -> Chunk:
        """Return a short text as tokens, without an end token; cached."""
        if text not in self.short_texts:
            self.short_texts[text] = self.vocabulary.encode_one(text)
        return self.short_texts[text]

    def _template(self, prompt: str, side: str) -> list[Chunk | str]:
        """Return the parts of a template: literal text as tokens, and names of fields; cached."""
        key = f"{side} {prompt}"
        if key not in self.templates:
            parts = re.split(r"\{(\w+)\}", getattr(self.config.prompts[prompt], side))
            self.templates[key] = [
                part if i % 2 else self.vocabulary.encode_one(part)
                for i, part in enumerate(parts)
                if i % 2 or part.strip()
            ]
        return self.templates[key]

    def _fill(self, field: str, values: FieldValues) -> Chunk:
        if field == "user":
            return self._named(field, self.user_codes[values.user], self.config.user_tokens)
        if field == "item":
            return self._named(field, self.item_codes[values.item], self.config.index is Index.independent)
        if field == "one":
            return self.item_chunks[values.one]
        if field == "candidates":
            assert values.candidates is not None
            return self._item_list(values.candidates, self.comma)
        if field == "star":
            return self.short_text(str(values.star))
        of_item = field in ("title", "brand", "price")
        place = values.user if field == "user_name" else values.item if of_item else values.row
        if field == "feature" and values.feature_row >= 0:
            place = values.feature_row
        tokens, starts = self._column(field)[place]
        return tokens[:MAX_FIELD_TOKENS], starts[:MAX_FIELD_TOKENS]

    def _named(self, field: str, code: IntArray, own_token: bool) -> Chunk:
        """Return a user or an item as a word: `user_` or `item_` and a number, or a token of its own."""
        return _bare_number(code) if own_token else _concatenate([self.prefix[field], _suffix(code)])

    def _item_list(self, items: IntArray, separator: Chunk) -> Chunk:
        chunks = [part for item in items for part in (separator, self.item_chunks[item])]
        return _concatenate(chunks[1:]) if chunks else (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool))

    def _history(self, values: FieldValues, room: int) -> Chunk:
        """Return the latest items that fit, at least one."""
        assert values.history is not None
        separator = self.arrow if values.arrow else self.comma
        size = np.array([len(self.item_codes[item]) + len(separator[0]) for item in values.history[::-1]])
        kept = max(1, int(np.searchsorted(np.cumsum(size), room + len(separator[0]), side="right")))
        shown = values.history[-kept:]
        return self._item_list(shown[::-1] if self.config.history is HistoryOrder.newest_first else shown, separator)

    def _review(self, values: FieldValues, room: int) -> Chunk:
        tokens, starts = self._column("review")[values.row]
        return tokens[: max(room, 1)], starts[: max(room, 1)]

    def _column(self, field: str) -> Tokens:
        """Return all texts of a field as tokens; tokenized at the first use."""
        if field not in self.columns:
            self.columns[field] = self.vocabulary.encode(field_texts(self.split, field, self.names))
        return self.columns[field]


def user_codes(config: P5Config, n_users: int) -> list[Code]:
    """Return the pieces by which each user is named: the digits of a number, from 1, or a token of the user's own."""
    if config.user_tokens:
        return [(f"<user{user}>",) for user in range(n_users)]
    length = digit_length(n_users, config.digits)
    return [digit_pieces(user + 1, config.digits, length) for user in range(n_users)]


def field_texts(split: Split, field: str, names: list[str]) -> list[str]:
    """Return the texts of a field, one per user, item or interaction; missing ones replaced as in the paper."""
    if field == "user_name":
        return names
    if field in ("title", "brand", "price"):
        return split.dataset.items[field].fillna(f"unknown {field}").tolist()
    return split.dataset.interactions[FIELD_COLUMNS.get(field, field)].fillna("").tolist()


def round_stars(ratings: NDArray[np.floating]) -> IntArray:
    """Return ratings as one to five stars, halves rounded up; a missing rating as one."""
    return np.clip(np.floor(np.nan_to_num(ratings) + 0.5), 1, 5).astype(np.int64)


def jitter_stars(star: int, rng: np.random.Generator) -> str:
    """Return stars as a training target: one of 41 classes, with one decimal (code)."""
    mean, deviation = JITTER[star]
    return f"{min(max(rng.normal(mean, deviation), 1.0), 5.0):.1f}"


def _concatenate(chunks: list[Chunk]) -> Chunk:
    return np.concatenate([chunk[0] for chunk in chunks]), np.concatenate([chunk[1] for chunk in chunks])


def _bare_number(code: IntArray) -> Chunk:
    """Return a number that is a word by itself."""
    starts = np.zeros(len(code), dtype=bool)
    starts[0] = True
    return code, starts


def _suffix(code: IntArray) -> Chunk:
    """Return a number that continues a word."""
    return code, np.zeros(len(code), dtype=bool)
