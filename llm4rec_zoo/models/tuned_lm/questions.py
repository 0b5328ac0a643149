"""Questions as rows of tokens.

Titles, questions and answers are tokenised apart, so that each has the same tokens wherever it stands: what is scored
has the form that was trained.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split
from llm4rec_zoo.models.tuned_lm.config import TunedLmConfig
from llm4rec_zoo.models.tuned_lm.packing import Row
from llm4rec_zoo.models.tuned_lm.prompts import DISLIKED, HISTORY, LIKED, NOUN, TITLE, parts
from llm4rec_zoo.models.tuned_lm.settings import Answer


class Answered(NamedTuple):
    """A question with answers.

    Attributes:
        row: its tokens, with those of the answers within or after it.
        answers: where each answer begins and ends.
        items: the item that each answer names; none for yes and no.
    """

    row: Row
    answers: list[tuple[int, int]]
    items: list[int]


class Questions:
    """Writes the questions about the items of a dataset.

    Attributes:
        titles: of each item, on one line, cut to `title_tokens`.
        codes: the tokens of each title, with the separator at their end.
        same_title: (n_items,) the first item with the same tokens.
        yes, no: the tokens of both answers.
    """

    def __init__(self, config: TunedLmConfig, split: Split, tokenizer: Tokenizer) -> None:
        tokenizer.encode_special_tokens = True  # in a text, which is untrusted, they are ordinary words
        self.config, self.prompts, self.tokenizer = config, config.prompts, tokenizer
        self.titles = [self._title(title) for title in split.dataset.items["title"].fillna("")]
        separator = self.tokens(self.prompts.separator)
        encodings = tokenizer.encode_batch(self.titles, add_special_tokens=False)
        self.codes: list[list[int]] = [[*encoding.ids, *separator] for encoding in encodings]
        first: dict[tuple[int, ...], int] = {}
        self.same_title = np.array([first.setdefault(tuple(code), item) for item, code in enumerate(self.codes)])
        self.yes, self.no = self.tokens(self.prompts.yes), self.tokens(self.prompts.no)
        before, after = self._filled(self.prompts.next, {HISTORY: ""}, HISTORY)
        self.before, self.after = tuple(self.tokens(before, first=True)), self.tokens(after)

    def tokens(self, text: str, first: bool = False) -> list[int]:
        """Return the tokens of a text; after those that begin any text for this model, if it is the `first`."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=first).ids
        return ids

    def next(self, history: IntArray) -> Row:
        """Return the question what comes after the latest `titles` items of a history."""
        latest = history[-self.config.titles :].tolist()
        return Row(self.before, [*(token for item in latest for token in self.codes[item]), *self.after])

    def next_answered(self, items: IntArray, n: int) -> Answered:
        """Return the question what comes after the first of these items, with the last n as its answers.

        What no answer depends on is left out: the title of the last item, where an answer is not its tokens.
        """
        codes = [self.codes[item] for item in items.tolist()]
        codes[-1:-1] = [self.after] if self.after else []
        own: list[int] = []
        spans = []
        for code in codes:
            begin = len(self.before) + len(own)
            own += code
            spans.append((begin, begin + len(code)))
        if self.config.answer is Answer.item_head:
            own = own[: len(own) - len(codes[-1])]
        return Answered(Row(self.before, own), spans[-n:], items[-n:].tolist())

    def click(self, history: IntArray, items: IntArray) -> list[Row]:
        """Return the question about each item whether the user chooses it, after the same history."""
        shown = self._list(history[-self.config.titles :])
        rows = []
        shared: tuple[int, ...] | None = None
        for item in items:
            before, rest = self._filled(self.prompts.click, {HISTORY: shown, TITLE: self._quoted(item)}, TITLE)
            shared = tuple(self.tokens(before, first=True)) if shared is None else shared
            rows.append(Row(shared, self.tokens(rest)))
        return rows

    def likes(self, examples: Examples) -> list[Row]:
        """Return the question about each target whether the user will like it, who liked and disliked the history."""
        flat, offsets = examples.histories()
        liked = examples.liked_in_history()
        spans = [slice(begin, end) for begin, end in pairwise(offsets)]
        return [self._like(flat[span], liked[span], item) for span, item in zip(spans, examples.target, strict=True)]

    def _like(self, history: IntArray, liked: NDArray[np.bool_], item: int) -> Row:
        shown = {LIKED: self._list(history[liked]), DISLIKED: self._list(history[~liked]), TITLE: self._quoted(item)}
        first = next(name for _, name in parts(self.prompts.like) if name in shown)
        before, rest = self._filled(self.prompts.like, shown, str(first))
        return Row(tuple(self.tokens(before, first=True)), self.tokens(rest))

    def decided(self, row: Row, yes: bool) -> Answered:
        """Return a question with its answer, yes or no."""
        answer, n = self.yes if yes else self.no, len(row.tokens)
        return Answered(Row(row.shared, [*row.own, *answer]), [(n, n + len(answer))], [])

    def _filled(self, template: str, fields: Mapping[str, str], first: str) -> tuple[str, str]:
        """Fill a template; return the text before the field `first` and the rest. A space between them begins the rest,
        as most tokens with a space have it at their beginning."""
        texts, own = ["", ""], 0
        for literal, name in parts(template):
            texts[own] += literal
            own |= name == first
            if name is not None:
                texts[own] += self.prompts.noun if name == NOUN else fields[name]
        before = texts[0].rstrip(" ")
        return before, texts[0][len(before) :] + texts[1]

    def _list(self, items: IntArray) -> str:
        return ", ".join(map(self._quoted, items))

    def _quoted(self, item: int) -> str:
        return json.dumps(self.titles[item], ensure_ascii=False)

    def title_of(self, tokens: Sequence[int]) -> str:
        """Return the title that a continuation of `next` begins with."""
        written: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return self._title(written.partition(self.prompts.separator)[0])

    def _title(self, title: str) -> str:
        """Return a title on one line, or `unknown NOUN`, cut where its last token ends."""
        text = " ".join(html.unescape(title).split()) or f"unknown {self.prompts.noun}"
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        limit = self.config.title_tokens
        return text if len(encoding.ids) <= limit else text[: encoding.offsets[limit - 1][1]].rstrip()
