"""Personalized prompts: templates filled with the field values of one example, as tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.config.schema import Index
from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.ids.index import Code, ItemIndex, digit_length, digit_pieces
from llm4rec_cli.models.p5.config import P5Config
from llm4rec_cli.models.p5.prompts import FIELD_COLUMNS, Answer, Field, parse_all
from llm4rec_cli.models.p5.settings import HistoryOrder
from llm4rec_cli.models.p5.vocabulary import END, Tokens, Vocabulary

Chunk = tuple[IntArray, NDArray[np.bool_]]  # tokens, and whether each begins a word

# Mean and standard deviation of each rating as a training target, so that 41 classes are learned (code).
JITTER = {1: (1.2, 0.1), 2: (1.95, 0.225), 3: (2.95, 0.225), 4: (3.95, 0.225), 5: (4.75, 0.125)}
MIN_LIKED_STARS = 4  # (code)
MAX_FIELD_TOKENS = 64  # of a title etc. in a source: more would leave no room for the rest of the prompt
SHORTENED_FIELDS = (Field.history, Field.review)  # where a source is too long; no prompt has both


@dataclass
class FieldValues:
    """The values that fill the fields of one prompt.

    Attributes:
        user, item: numbers.
        row: the interaction with the texts.
        star: as the source shows it.
        history: item numbers, oldest first.
        candidates: item numbers, in the order shown.
        one: the item number of `{one}`.
        arrow: whether arrows instead of commas join the history.
        feature_row: the interaction with the feature; -1 = `row`.
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
    """Fills templates with field values and texts of a split."""

    def __init__(
        self, config: P5Config, split: Split, names: list[str], index: ItemIndex, vocabulary: Vocabulary
    ) -> None:
        self.config, self.split, self.names, self.vocabulary = config, split, names, vocabulary
        self.user_codes = [vocabulary.encode_pieces(code) for code in user_codes(config, split.n_users)]
        self.item_codes = [vocabulary.encode_pieces(code) for code in index.codes]
        self.item_chunks = [_bare_number(code) for code in self.item_codes]
        self.comma, self.arrow = vocabulary.encode_one(","), vocabulary.encode_one("->")
        self.prompts = parse_all(config)
        self.columns: dict[str, Tokens] = {}
        self.short_texts: dict[str, Chunk] = {}

    def source(self, name: str, values: FieldValues) -> tuple[IntArray, IntArray]:
        """Return the tokens of a prompt's source, end token included, and each one's whole word (0 for the end).

        A source that is too long loses its oldest history, then the end of its review, and nothing else.
        """
        segments = self.prompts[name].segments
        whole = {segment: self._fill(segment, values) for segment in segments if segment not in SHORTENED_FIELDS}
        room = self.config.max_source - 1 - sum(len(whole[segment][0]) for segment in segments if segment in whole)
        chunks = [whole[s] if s in whole else self._shorten(s, values, room) for s in segments]
        tokens = np.concatenate([*(chunk[0] for chunk in chunks), [END]])
        words = np.append(np.cumsum(np.concatenate([chunk[1] for chunk in chunks])), 0)
        return tokens, words

    def target(self, name: str, values: FieldValues, answer: str) -> IntArray:
        """Return the tokens of a prompt's target, end token included, at most `max_target`; `answer` fills {star},
        {yes_no} or {like}."""
        match self.prompts[name].answer:
            case Answer.item:
                tokens = self.item_codes[values.item]
            case Answer.headline:
                tokens = self._column("review_title")[values.row][0]
            case Answer.explanation:
                tokens = self._column("explanation")[values.row][0]
            case Answer.star_and_explanation:
                stars = [self.short_text(answer)[0], self.comma[0]]
                tokens = np.concatenate([*stars, self._column("explanation")[values.row][0]])
            case _:
                tokens = self.short_text(answer)[0]
        return np.append(tokens[: self.config.max_target - 1], END)

    def short_text(self, text: str) -> Chunk:
        """Return a short text as tokens; cached."""
        if text not in self.short_texts:
            self.short_texts[text] = self.vocabulary.encode_one(text)
        return self.short_texts[text]

    def _fill(self, segment: str | Field, values: FieldValues) -> Chunk:
        """Return a literal text, or a field with its value, as tokens."""
        match segment:
            case str():
                return self.short_text(segment)
            case Field.user:
                return self._named(segment, self.user_codes[values.user], self.config.user_tokens)
            case Field.item:
                return self._named(segment, self.item_codes[values.item], self.config.index is Index.independent)
            case Field.one:
                return self.item_chunks[values.one]
            case Field.candidates:
                assert values.candidates is not None
                return self._item_list(values.candidates, self.comma)
            case Field.star:
                return self.short_text(str(values.star))
            case Field.user_name:
                place = values.user
            case Field.title | Field.brand | Field.price:
                place = values.item
            case Field.feature if values.feature_row >= 0:
                place = values.feature_row
            case _:
                place = values.row
        tokens, starts = self._column(FIELD_COLUMNS.get(segment, segment.value))[place]
        return tokens[:MAX_FIELD_TOKENS], starts[:MAX_FIELD_TOKENS]

    def _named(self, field: Field, code: IntArray, own_token: bool) -> Chunk:
        """Return a user or an item as a word: `user_` or `item_` and a number, or a token of its own."""
        if own_token:
            return _bare_number(code)
        return _concatenate([self.short_text(f"{field.value}_"), (code, np.zeros(len(code), dtype=bool))])

    def _item_list(self, items: IntArray, separator: Chunk) -> Chunk:
        chunks = [part for item in items for part in (separator, self.item_chunks[item])]
        return _concatenate(chunks[1:]) if chunks else (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool))

    def _shorten(self, field: str | Field, values: FieldValues, room: int) -> Chunk:
        """Return the latest items of the history, or the beginning of the review, that fit; at least one."""
        if field is Field.review:
            tokens, starts = self._column("review_text")[values.row]
            return tokens[: max(room, 1)], starts[: max(room, 1)]
        assert values.history is not None
        separator = self.arrow if values.arrow else self.comma
        size = np.array([len(self.item_codes[item]) + len(separator[0]) for item in values.history[::-1]])
        n_items = max(1, int(np.searchsorted(np.cumsum(size), room + len(separator[0]), side="right")))
        items = values.history[-n_items:]
        return self._item_list(items[::-1] if self.config.history is HistoryOrder.newest_first else items, separator)

    def _column(self, column: str) -> Tokens:
        """Return all texts of a column as tokens; tokenized at the first use."""
        if column not in self.columns:
            self.columns[column] = self.vocabulary.encode(column_texts(self.split, column, self.names))
        return self.columns[column]


def user_codes(config: P5Config, n_users: int) -> list[Code]:
    """Return the pieces by which each user is named: the digits of a number, from 1, or a token of the user's own."""
    if config.user_tokens:
        return [(f"<user{user}>",) for user in range(n_users)]
    length = digit_length(n_users, config.digits)
    return [digit_pieces(user + 1, config.digits, length) for user in range(n_users)]


def column_texts(split: Split, column: str, names: list[str]) -> list[str]:
    """Return the texts of a column, one per user, item or interaction; missing ones replaced as in the paper."""
    if column == Field.user_name.value:
        return names
    if column in ("title", "brand", "price"):
        return split.dataset.items[column].fillna(f"unknown {column}").tolist()
    return split.dataset.interactions[column].fillna("").tolist()


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
    """Return a number that stands as a separate word."""
    starts = np.zeros(len(code), dtype=bool)
    starts[0] = True
    return code, starts
