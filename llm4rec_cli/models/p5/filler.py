"""Personalized prompts: templates filled with the field values of one example, as tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.config.schema import Index
from llm4rec_cli.data.examples import IntArray, slices
from llm4rec_cli.data.explanations import VERSION as EXPLANATIONS_VERSION
from llm4rec_cli.data.split import Split
from llm4rec_cli.ids.index import ItemIndex, digit_length
from llm4rec_cli.models.p5.config import P5Config
from llm4rec_cli.models.p5.prompts import Answer, Field, Prompt, parse_all
from llm4rec_cli.models.p5.settings import HistoryOrder
from llm4rec_cli.models.p5.vocabulary import END, Tokens, Vocabulary

BoolArray = NDArray[np.bool_]
Chunk = tuple[IntArray, BoolArray]  # tokens, and whether each begins a word

# Mean and standard deviation of each rating as a training target, so that 41 classes are learned (code).
JITTER = {1: (1.2, 0.1), 2: (1.95, 0.225), 3: (2.95, 0.225), 4: (3.95, 0.225), 5: (4.75, 0.125)}
MIN_LIKED_STARS = 4  # (code)
MAX_FIELD_TOKENS = 64  # of a title etc. in a source: more would leave no room for the rest of the prompt
NO_LIMIT = 1 << 30
ALL = slice(None)
TOKENS_VERSION = 1  # raised when the same tokenizer and data would give other tokens
ITEM_TEXTS = ("title", "brand", "price")
NO_ITEMS = np.zeros(0, dtype=np.int64)
SHORT, USER, ITEM = "short texts", "codes of users", "codes of items"
COMMA, ARROW = ",", "->"
# What a template may show or ask for besides its own words and the texts of the dataset.
RATING_CLASSES = [f"{tenth / 10:.1f}" for tenth in range(10, 51)]  # of jittered ratings (code)
ANSWERS = ["", "yes", "no", "like", "dislike", *map(str, range(6)), *RATING_CLASSES]


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

    @property
    def feature_place(self) -> int:
        return self.feature_row if self.feature_row >= 0 else self.row


class Part(NamedTuple):
    """A part of a prompt: of the pieces with a name, the one at a place.

    Attributes:
        pieces: SHORT, USER, ITEM, or a column of the dataset.
        place: a number, or which of the values is the number.
        is_word: whether it begins a word whatever its first token.
        limit: maximum number of tokens.
    """

    pieces: str
    place: int | str
    is_word: bool = False
    limit: int = NO_LIMIT


HISTORY, CANDIDATES, REVIEW = Part(ITEM, "history"), Part(ITEM, "candidates"), Part("review_text", "row")
LISTS = (HISTORY, CANDIDATES)
PARTS = {
    Field.history: HISTORY,
    Field.candidates: CANDIDATES,
    Field.review: REVIEW,
    Field.one: Part(ITEM, "one", is_word=True),
    Field.star: Part(SHORT, "star"),
    Field.user_name: Part("user_name", "user", limit=MAX_FIELD_TOKENS),
    Field.title: Part("title", "item", limit=MAX_FIELD_TOKENS),
    Field.brand: Part("brand", "item", limit=MAX_FIELD_TOKENS),
    Field.price: Part("price", "item", limit=MAX_FIELD_TOKENS),
    Field.headline: Part("review_title", "row", limit=MAX_FIELD_TOKENS),
    Field.feature: Part("feature", "feature_place", limit=MAX_FIELD_TOKENS),
}


class Pieces(NamedTuple):
    """n pieces of the tokens that parts of prompts take.

    Attributes:
        tokens: of all pieces; those of texts are mapped from a file.
        offsets: (n + 1,) where each piece begins in `tokens`.
        first: the number of tokens in all `Pieces` before.
    """

    tokens: NDArray[np.int32]
    offsets: IntArray
    first: int

    def at(self, places: Any) -> tuple[IntArray, IntArray]:
        """Return where the pieces at some places begin among the tokens of all `Pieces`, and their lengths."""
        begin = self.offsets[places]
        return self.first + begin, self.offsets[np.asarray(places) + 1] - begin


class Layout(NamedTuple):
    """The parts of prompts, one prompt after another: prompt, number, begin and length of each, (n_parts,)."""

    row: IntArray
    part: IntArray
    begin: IntArray
    length: IntArray

    @property
    def lengths(self) -> IntArray:
        """The length of each prompt."""
        return np.bincount(self.row, self.length).astype(np.int64)


class PromptFiller:
    """Fills templates with field values and texts of a split, for many examples at once.

    A prompt is a sequence of pieces, so that arrays of where they begin and of their lengths make the tokens of all
    examples.
    """

    def __init__(
        self, config: P5Config, split: Split, names: list[str], index: ItemIndex, vocabulary: Vocabulary, cache: Path
    ) -> None:
        self.config, self.split, self.names, self.vocabulary, self.cache = config, split, names, vocabulary, cache
        self.user_codes = user_codes(config, split.n_users, vocabulary)
        self.item_codes = [vocabulary.encode_pieces(code) for code in index.codes]
        self.starts_word = np.append(vocabulary.starts_word, np.zeros(len(vocabulary.extra), dtype=bool))
        self.prompts = parse_all(config)
        self.short_texts: dict[str, Chunk] = {}
        literals = [s for prompt in self.prompts.values() for s in prompt.segments if isinstance(s, str)]
        known = dict.fromkeys([*literals, "user_", "item_", COMMA, ARROW, *ANSWERS])
        self.number = {text: number for number, text in enumerate(known)}
        self.pieces: dict[str, Pieces] = {}
        self._add(SHORT, [*(self.short_text(text)[0] for text in known), np.array([END])])
        self._add(USER, [*self.user_codes])
        self._add(ITEM, self.item_codes)

        self.parts: list[Part] = [HISTORY, CANDIDATES, REVIEW]
        self.sources_of = {name: self._numbered(self._source(prompt)) for name, prompt in self.prompts.items()}
        self.targets_of = {name: self._numbered(self._target(prompt.answer)) for name, prompt in self.prompts.items()}
        short = self.pieces[SHORT]
        self.fixed = np.array([short.at(part.place) if isinstance(part.place, int) else (0, 0) for part in self.parts])
        self.is_word = np.array([part.is_word for part in self.parts])
        self.limit = np.array([part.limit for part in self.parts])

    def sources(self, names: Sequence[str], values: Sequence[FieldValues]) -> list[tuple[IntArray, IntArray]]:
        """Return for each prompt the tokens of its source, end token included, and each one's whole word (0 for the
        end).

        A source that is too long loses its oldest history, then the end of its review, and nothing else.
        """
        layout, is_word = self._listed(self._laid_out([self.sources_of[name] for name in names], values), values)
        tokens, begin = self._joined(layout)
        starts = self.starts_word[tokens]
        starts[begin[is_word]] = True
        ends, words = np.cumsum(layout.lengths), np.cumsum(starts)
        words -= np.repeat(np.append(0, words[ends[:-1] - 1]), layout.lengths)
        words[ends - 1] = 0
        return list(zip(np.split(tokens, ends[:-1]), np.split(words, ends[:-1]), strict=True))

    def targets(self, names: Sequence[str], values: Sequence[FieldValues], answers: Sequence[str]) -> list[IntArray]:
        """Return for each prompt the tokens of its target, end token included, at most `max_target`; the answer fills
        {star}, {yes_no} or {like}."""
        layout = self._laid_out([self.targets_of[name] for name in names], values, answers)
        is_end = np.diff(layout.row, append=-1) != 0
        layout.length[is_end] = 0
        before = np.cumsum(layout.length) - layout.length
        before -= (np.cumsum(layout.lengths) - layout.lengths)[layout.row]
        layout.length[:] = np.clip(self.config.max_target - 1 - before, 0, layout.length)
        layout.length[is_end] = 1
        return np.split(self._joined(layout)[0], np.cumsum(layout.lengths)[:-1])

    def source(self, name: str, values: FieldValues) -> tuple[IntArray, IntArray]:
        return self.sources([name], [values])[0]

    def short_text(self, text: str) -> Chunk:
        """Return a short text as tokens; cached."""
        if text not in self.short_texts:
            self.short_texts[text] = self.vocabulary.encode_one(text)
        return self.short_texts[text]

    def read_texts(self, names: Iterable[str]) -> None:
        """Tokenize the texts that these prompts need, unless they are in the cache, which is otherwise done at their
        first use."""
        for number in {number for name in names for number in (*self.sources_of[name], *self.targets_of[name])}:
            if self.parts[number] not in LISTS:
                self._pieces(self.parts[number].pieces)

    def _source(self, prompt: Prompt) -> Iterator[Part]:
        for segment in prompt.segments:
            if isinstance(segment, str):
                yield self._literal(segment)
            elif segment in (Field.user, Field.item):
                pieces = USER if segment is Field.user else ITEM
                own = self.config.user_tokens if segment is Field.user else self.config.index is Index.independent
                yield from [] if own else [self._literal(f"{segment.value}_")]
                yield Part(pieces, segment.value, is_word=own)
            else:
                yield PARTS[segment]
        yield self._end

    def _target(self, answer: Answer) -> Iterator[Part]:
        match answer:
            case Answer.item:
                yield Part(ITEM, "item")
            case Answer.headline:
                yield Part("review_title", "row")
            case Answer.explanation:
                yield Part("explanation", "row")
            case Answer.star_and_explanation:
                yield from [Part(SHORT, "answer"), self._literal(COMMA), Part("explanation", "row")]
            case _:
                yield Part(SHORT, "answer")
        yield self._end

    def _literal(self, text: str) -> Part:
        return Part(SHORT, self.number[text])

    @property
    def _end(self) -> Part:
        return Part(SHORT, len(self.number))

    def _numbered(self, parts: Iterable[Part]) -> IntArray:
        """Return the numbers of parts in `parts`, to which new ones are added."""
        parts = list(parts)
        self.parts += [part for part in dict.fromkeys(parts) if part not in self.parts]
        return np.array([self.parts.index(part) for part in parts])

    def _add(self, name: str, texts: Sequence[IntArray]) -> None:
        lengths = np.array([0, *map(len, texts)])
        self._append(name, Tokens(np.concatenate(texts, dtype=np.int32), np.cumsum(lengths)))

    def _append(self, name: str, tokens: Tokens) -> None:
        n_before = sum(len(pieces.tokens) for pieces in self.pieces.values())
        self.pieces[name] = Pieces(tokens.flat, tokens.offsets, n_before)

    def _pieces(self, name: str) -> Pieces:
        """Return pieces by name; those of a column's texts are mapped at the first use."""
        if name not in self.pieces:
            texts = partial(column_texts, self.split, name, self.names)
            key = self.split.digest(TOKENS_VERSION, EXPLANATIONS_VERSION, self.vocabulary.digest, name)
            path = self.cache / "tokens" / f"{key}.bin"
            self._append(name, self.vocabulary.tokens_in(path, n_texts(self.split, name), texts))
        return self.pieces[name]

    def _laid_out(
        self, parts: Sequence[IntArray], values: Sequence[FieldValues], answers: Sequence[str] | None = None
    ) -> Layout:
        """Return the parts of prompts, lists left empty."""
        part = np.concatenate(parts)
        row = np.repeat(np.arange(len(parts)), list(map(len, parts)))
        begin, length = self.fixed[part].T.copy()
        for number in np.unique(part):
            pieces, place, *_ = described = self.parts[number]
            if isinstance(place, int) or described in LISTS:
                continue
            at = np.flatnonzero(part == number)
            if place == "answer":
                assert answers is not None
                which = [self.number[answers[i]] for i in row[at]]
            elif place == "star":
                which = [self.number[str(values[i].star)] for i in row[at]]
            else:
                which = [getattr(values[i], place) for i in row[at]]
            begin[at], length[at] = self._pieces(pieces).at(which)
        return Layout(row, part, begin, np.minimum(length, self.limit[part]))

    def _listed(self, layout: Layout, values: Sequence[FieldValues]) -> tuple[Layout, BoolArray]:
        """Return the pieces of sources, with those of lists and without what is too long, and which begin a word."""
        row, part, begin, length = layout
        own, candidates, review = (part == self.parts.index(each) for each in (HISTORY, CANDIDATES, REVIEW))
        at, is_history = np.flatnonzero(own | candidates), own[own | candidates]
        lists = [
            _list(values[i].history if of_user else values[i].candidates)
            for i, of_user in zip(row[at], is_history, strict=True)
        ]
        n_items, listed = np.array(list(map(len, lists)), dtype=np.int64), np.concatenate([*lists, NO_ITEMS])
        arrow = is_history & np.array([values[i].arrow for i in row[at]], dtype=bool)
        separator = np.where(arrow, self.number[ARROW], self.number[COMMA])
        gap = self.pieces[SHORT].at(separator)[1]
        # Tokens until each item of all lists, and so how many the latest items of a history have.
        until = np.append(0, np.cumsum(self.pieces[ITEM].at(listed)[1] + np.repeat(gap, n_items)))
        end = np.cumsum(n_items)
        length[at] = np.where(is_history, 0, until[end] - until[end - n_items] - gap)
        review_length, length[review] = length[review], 0
        room = self.config.max_source - layout.lengths
        length[review] = np.minimum(review_length, np.maximum(room[row[review]], 1))
        of_list = np.repeat(np.arange(len(at)), n_items)
        fits = until[end][of_list] - until[:-1] <= (room[row[at]] + gap)[of_list]  # it and all later ones
        n_fitting = np.bincount(of_list, fits, minlength=len(at)).astype(np.int64)
        n_shown = np.where(is_history, np.minimum(np.maximum(n_fitting, 1), n_items), n_items)

        # The items shown, as places in all lists.
        place, offsets = slices(np.arange(len(listed)), end - n_shown, end)
        of_list = np.repeat(np.arange(len(at)), n_shown)
        if self.config.history is HistoryOrder.newest_first:
            place = np.where(is_history[of_list], (2 * end - n_shown - 1)[of_list] - place, place)

        # Each list becomes the pieces item, separator, item, …
        n_pieces = np.ones_like(row)
        n_pieces[at] = np.maximum(2 * n_shown - 1, 0)
        of_part = np.repeat(np.arange(len(row)), n_pieces)
        begin, length, is_word = begin[of_part], length[of_part], self.is_word[part[of_part]]
        rank = np.arange(len(place)) - offsets[:-1][of_list]
        to = (np.cumsum(n_pieces) - n_pieces)[at][of_list] + 2 * rank
        begin[to], length[to] = self.pieces[ITEM].at(listed[place])
        is_word[to] = True
        to, of_list = to[rank > 0] - 1, of_list[rank > 0]
        begin[to], length[to] = self.pieces[SHORT].at(separator[of_list])
        return Layout(row[of_part], part[of_part], begin, length), is_word

    def _joined(self, layout: Layout) -> tuple[IntArray, IntArray]:
        """Return the tokens of all pieces, and where each piece begins among them."""
        end = np.cumsum(layout.length)
        first = end - layout.length
        place = np.arange(end[-1]) + np.repeat(layout.begin - first, layout.length)
        pieces = [*self.pieces.values()]
        of_part = np.searchsorted([each.first for each in pieces], layout.begin, side="right") - 1
        of_token, tokens = np.repeat(of_part, layout.length), np.empty(len(place), dtype=np.int64)
        for i in np.unique(of_part):
            tokens[of_token == i] = pieces[i].tokens[place[of_token == i] - pieces[i].first]
        return tokens, first


def _list(items: IntArray | None) -> IntArray:
    assert items is not None
    return items


def named_pieces(config: P5Config, n_users: int, index: ItemIndex) -> list[str]:
    """Return the pieces that name users and items: those of numbers, of the item index, and users' own tokens."""
    own = [f"<user{user}>" for user in range(n_users)] if config.user_tokens else []
    return [*_digits(config), *(piece for code in index.codes for piece in code), *own]


def user_codes(config: P5Config, n_users: int, vocabulary: Vocabulary) -> IntArray:
    """Return (n_users, depth) the tokens that name each user: the pieces of a number, from 1, or the user's own."""
    if config.user_tokens:
        return vocabulary.encode_pieces([f"<user{user}>" for user in range(n_users)])[:, None]
    base = 10**config.digits
    powers = base ** np.arange(user_code_length(config, n_users))[::-1]
    return vocabulary.encode_pieces(_digits(config))[np.arange(1, n_users + 1)[:, None] // powers % base]


def user_code_length(config: P5Config, n_users: int) -> int:
    return 1 if config.user_tokens else digit_length(n_users, config.digits) // config.digits


def _digits(config: P5Config) -> list[str]:
    """Return all pieces of numbers in order."""
    return [f"{n:0{config.digits}d}" for n in range(10**config.digits)]


def n_texts(split: Split, column: str) -> int:
    if column == Field.user_name.value:
        return split.n_users
    return split.n_items if column in ITEM_TEXTS else len(split.dataset.interactions)


def column_texts(split: Split, column: str, names: list[str], rows: slice = ALL) -> list[str]:
    """Return the texts of a column, one per user, item or interaction; missing ones replaced as in the paper."""
    if column == Field.user_name.value:
        return names[rows]
    if column in ITEM_TEXTS:
        return split.dataset.items[column].iloc[rows].fillna(f"unknown {column}").tolist()
    return split.dataset.interactions[column].iloc[rows].fillna("").tolist()


def round_stars(ratings: NDArray[np.floating]) -> IntArray:
    """Return ratings as one to five stars, halves rounded up; a missing rating as one."""
    return np.clip(np.floor(np.nan_to_num(ratings) + 0.5), 1, 5).astype(np.int64)


def jitter_stars(star: int, rng: np.random.Generator) -> str:
    """Return stars as a training target: one of 41 classes, with one decimal (code)."""
    mean, deviation = JITTER[star]
    return f"{min(max(rng.normal(mean, deviation), 1.0), 5.0):.1f}"
