"""Prompts filled in: one question becomes the tokens of its source, and of its target."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.indexing import ItemIndex, digit_length, digit_pieces
from llm4rec_cli.data.split import Split
from llm4rec_cli.models.p5.config import P5Config
from llm4rec_cli.models.p5.families import PromptConfig
from llm4rec_cli.models.p5.vocabulary import END, Tokens, Vocabulary

Chunk = tuple[IntArray, NDArray[np.bool_]]  # tokens, and which of them begin a word

# What a number of stars becomes as a target of training, so that 41 classes are learned (code): mean, deviation.
JITTER = {1: (1.2, 0.1), 2: (1.95, 0.225), 3: (2.95, 0.225), 4: (3.95, 0.225), 5: (4.75, 0.125)}
LIKED = 4  # stars from which on an item is liked (code)
FIELD_TOKENS = 64  # of a title or the like: more would leave a question no room
CUT = ("history", "review")  # fields that give way where a source is too long


@dataclass
class Question:
    """What the fields of one prompt hold.

    Attributes:
        user, item: numbers.
        row: the interaction's, where its texts stand.
        star: stars as they are told.
        history: item numbers, oldest first.
        candidates: item numbers in the order in which they are told.
        one: an item number.
        arrow: whether histories are joined by arrows instead of commas.
    """

    user: int
    item: int
    row: int = -1
    star: int = 0
    history: IntArray | None = None
    candidates: IntArray | None = None
    one: int = -1
    arrow: bool = False


class Prompter:
    """Fills prompts in.

    Args:
        split: whose texts are told.
        names: (n_users,) what users are called.
    """

    def __init__(
        self, config: P5Config, split: Split, names: list[str], index: ItemIndex, vocabulary: Vocabulary
    ) -> None:
        self.config, self.split, self.names, self.vocabulary = config, split, names, vocabulary
        digits = config.digits
        length = digit_length(split.n_users, digits)
        self.users = [vocabulary.pieces(digit_pieces(u + 1, digits, length)) for u in range(split.n_users)]
        self.items = [vocabulary.pieces(code) for code in index.codes]
        self.prefix = {field: vocabulary.encode_one(f"{field}_") for field in ("user", "item")}
        self.comma, self.arrow = vocabulary.encode_one(","), vocabulary.encode_one("->")
        self.compiled: dict[str, list[Chunk | str]] = {}
        self.tables: dict[str, Tokens] = {}
        self.words: dict[str, Chunk] = {}

    def source(self, prompt: str, question: Question) -> tuple[IntArray, IntArray]:
        """Tokens with their end, and the number of the whole word of each (the end's is 0).

        A source too long loses its oldest history, then the end of its review; all else stands as it is.
        """
        chunks: list[Chunk | str] = [
            part if not isinstance(part, str) or part in CUT else self._field(part, question)
            for part in self._compiled(prompt)
        ]
        room = self.config.max_source - 1 - sum(len(chunk[0]) for chunk in chunks if not isinstance(chunk, str))
        for i, chunk in enumerate(chunks):
            if isinstance(chunk, str):
                chunks[i] = filled = (
                    self._history(question, room) if chunk == "history" else self._review(question, room)
                )
                room -= len(filled[0])
        tokens = np.concatenate([*(chunk[0] for chunk in chunks), [END]])
        words = np.append(np.cumsum(np.concatenate([chunk[1] for chunk in chunks])), 0)
        return tokens, words

    def target(self, prompt: str, question: Question, told: str) -> IntArray:
        """Tokens with their end, at most `max_target`.

        Args:
            told: what stands for stars, yes or no, like or dislike.
        """
        parts = []
        for part in self._compiled(prompt, "target"):
            if not isinstance(part, str):
                parts.append(part[0])
            elif part == "target":
                parts.append(self.items[question.item])
            elif part in ("explanation", "headline"):
                parts.append(self._field(part, question)[0])
            else:
                parts.append(self.word(told)[0])
        return np.append(np.concatenate(parts)[: self.config.max_target - 1], END)

    def word(self, text: str) -> Chunk:
        """A short answer as tokens, without an end."""
        if text not in self.words:
            self.words[text] = self.vocabulary.encode_one(text)
        return self.words[text]

    def _compiled(self, prompt: str, side: str = "source") -> list[Chunk | str]:
        """A template's parts: tokens, and names of fields."""
        key = f"{side} {prompt}"
        if key not in self.compiled:
            template: PromptConfig = self.config.prompts[prompt]
            parts = re.split(r"\{(\w+)\}", getattr(template, side))
            self.compiled[key] = [
                part if i % 2 else self.vocabulary.encode_one(part)
                for i, part in enumerate(parts)
                if i % 2 or part.strip()
            ]
        return self.compiled[key]

    def _field(self, field: str, question: Question) -> Chunk:
        if field == "user":
            return _joined([self.prefix["user"], _within(self.users[question.user])])
        if field == "item":
            return _joined([self.prefix["item"], _within(self.items[question.item])])
        if field == "one":
            return _bare(self.items[question.one])
        if field == "candidates":
            assert question.candidates is not None
            return self._listed(question.candidates, self.comma)
        if field == "star":
            return self.word(str(question.star))
        of_item = field in ("title", "brand", "price")
        place = question.user if field == "user_name" else question.item if of_item else question.row
        tokens, starts = self._table(field)[place]
        return tokens[:FIELD_TOKENS], starts[:FIELD_TOKENS]

    def _listed(self, items: IntArray, separator: Chunk) -> Chunk:
        chunks = [part for item in items for part in (separator, _bare(self.items[item]))]
        return _joined(chunks[1:]) if chunks else (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool))

    def _history(self, question: Question, room: int) -> Chunk:
        """The latest items that there is room for, one at least."""
        assert question.history is not None
        separator = self.arrow if question.arrow else self.comma
        size = np.array([len(self.items[item]) + len(separator[0]) for item in question.history[::-1]])
        kept = max(1, int(np.searchsorted(np.cumsum(size), room + len(separator[0]), side="right")))
        return self._listed(question.history[-kept:], separator)

    def _review(self, question: Question, room: int) -> Chunk:
        tokens, starts = self._table("review")[question.row]
        return tokens[: max(room, 1)], starts[: max(room, 1)]

    def _table(self, field: str) -> Tokens:
        """A column as tokens, when it is first asked for."""
        if field not in self.tables:
            self.tables[field] = self.vocabulary.encode(column(self.split, field, self.names))
        return self.tables[field]


COLUMNS = {"review": "review_text", "headline": "review_title"}  # field -> column of the interactions


def column(split: Split, field: str, names: list[str]) -> list[str]:
    """The texts that a field takes from: one a user, an item or an interaction; missing ones as the paper has them."""
    if field == "user_name":
        return names
    if field in ("title", "brand", "price"):
        return split.dataset.items[field].fillna(f"unknown {field}").tolist()
    return split.dataset.interactions[COLUMNS.get(field, field)].fillna("").tolist()


def whole_stars(ratings: NDArray[np.floating]) -> IntArray:
    """Ratings as one to five stars, halves rounded up; where there is none, one."""
    return np.clip(np.floor(np.nan_to_num(ratings) + 0.5), 1, 5).astype(np.int64)


def jittered(star: int, rng: np.random.Generator) -> str:
    """Stars as a target of training: one of 41 classes, with one digit behind the point (code)."""
    mean, deviation = JITTER[star]
    return f"{min(max(rng.normal(mean, deviation), 1.0), 5.0):.1f}"


def _joined(chunks: list[Chunk]) -> Chunk:
    return np.concatenate([chunk[0] for chunk in chunks]), np.concatenate([chunk[1] for chunk in chunks])


def _bare(code: IntArray) -> Chunk:
    """A number that is a word of its own."""
    starts = np.zeros(len(code), dtype=bool)
    starts[0] = True
    return code, starts


def _within(code: IntArray) -> Chunk:
    """A number that goes on with a word."""
    return code, np.zeros(len(code), dtype=bool)
