"""Fill templates with histories and candidates, as token sequences; each title is tokenized once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from tokenizers import Tokenizer

from llm4rec_cli.data.examples import Histories, IntArray
from llm4rec_cli.models.prompt4nr.config import Prompt4NRConfig
from llm4rec_cli.models.prompt4nr.templates import CANDIDATE, MASK, USER, TemplateTokens
from llm4rec_cli.models.shared.tokens import Ragged


@dataclass(frozen=True)
class FilledTemplates:
    """n filled templates.

    Attributes:
        tokens: n rows.
        mask_position: (n,) the position of [MASK] in each row.
    """

    tokens: Ragged
    mask_position: IntArray

    def __len__(self) -> int:
        return len(self.mask_position)

    def __getitem__(self, index: IntArray) -> FilledTemplates:
        return FilledTemplates(self.tokens.rows(index), self.mask_position[index])


class TemplateFiller:
    """Fills a template (reference 1.2).

    Titles keep letters, digits and spaces only. A history is its latest titles, newest first, each after an [NSEP] and
    cut to its first words. A filled template longer than `max_length` loses the end of its history, the oldest titles.
    A candidate is cut only where it would leave no room for any history. Nothing else is cut, so the mask is kept.

    Args:
        template: the template as tokens.
        titles: one per item, by item number; empty where an item has none.
        config: holds the lengths.

    Attributes:
        same_title: (n_items,) the first item whose tokens as a candidate are the same.
    """

    def __init__(
        self, template: TemplateTokens, tokenizer: Tokenizer, titles: Sequence[str], config: Prompt4NRConfig
    ) -> None:
        self.template, self.config = template, config
        words = [clean_title(title).split(" ") for title in titles]
        whole = _tokenize(tokenizer, words, config.candidate_words)
        longest = config.max_length - template.overhead - 1  # a word may have a hundred tokens
        self.candidates = whole.rows(np.arange(len(whole)), np.full(len(whole), longest))
        first: dict[bytes, int] = {}
        keys = [self.candidates.flat[begin:end].tobytes() for begin, end in pairwise(self.candidates.offsets)]
        self.same_title = np.array([first.setdefault(key, item) for item, key in enumerate(keys)])
        plain = _tokenize(tokenizer, words, config.title_words)
        # The last title is an additional, empty one: an empty history is a single [NSEP] (code).
        offsets = np.append(plain.offsets, plain.offsets[-1])
        self.history_titles = Ragged(
            np.insert(plain.flat, offsets[:-1], template.n_words), offsets + np.arange(len(offsets))
        )

    def tokenize_histories(self, histories: Histories) -> Ragged:
        """Return each history's titles as tokens, newest first, cut to `history_tokens`."""
        flat, offsets = histories.histories(self.config.titles)
        lengths = np.diff(offsets)
        row = np.repeat(np.arange(len(histories)), lengths)
        newest_first = flat[offsets[row + 1] - 1 - (np.arange(len(flat)) - offsets[row])]
        empty = np.flatnonzero(lengths == 0)
        items = np.insert(newest_first.astype(np.int64), offsets[empty], len(self.history_titles) - 1)
        offsets = np.concatenate([[0], np.cumsum(np.maximum(lengths, 1))])
        titles = self.history_titles.rows(items)
        whole = Ragged(titles.flat, titles.offsets[offsets])
        return whole.rows(np.arange(len(whole)), np.full(len(whole), self.config.history_tokens))

    def fill(self, histories: Ragged, history: IntArray, items: IntArray) -> FilledTemplates:
        """Fill the template with pairs of a history and a candidate.

        Args:
            histories: as `tokenize_histories` returns them.
            history: (n,) the history of each pair.
            items: (n,) the candidate of each pair.
        """
        candidates = self.candidates.rows(items)
        room = self.config.max_length - self.template.overhead - candidates.lengths
        n = len(items)
        parts: list[Ragged] = []
        mask_position = np.zeros(n, dtype=np.int64)
        length = np.zeros(n, dtype=np.int64)
        for part in self.template.parts:
            if part == USER:
                parts.append(histories.rows(history, room))
            elif part == CANDIDATE:
                parts.append(candidates)
            else:
                if part == MASK:
                    mask_position = length.copy()
                tokens = [self.template.mask_token] if part == MASK else part
                repeated = np.tile(np.array(tokens, dtype=np.int32), n)
                parts.append(Ragged(repeated, np.arange(n + 1) * len(tokens)))
            length = length + parts[-1].lengths
        offsets = np.concatenate([[0], np.cumsum(length)])
        flat = np.empty(offsets[-1], dtype=np.int32)
        begin = offsets[:-1].copy()
        for ragged in parts:
            place = np.repeat(begin - ragged.offsets[:-1], ragged.lengths) + np.arange(len(ragged.flat))
            flat[place] = ragged.flat
            begin += ragged.lengths
        return FilledTemplates(Ragged(flat, offsets), mask_position)


def clean_title(title: str) -> str:
    """Return a title's letters, digits and spaces (code)."""
    return re.sub(r"[^A-Za-z0-9 ]", "", title)


def _tokenize(tokenizer: Tokenizer, words: Sequence[Sequence[str]], n_words: int) -> Ragged:
    """Return the tokens of each title's first words."""
    encodings = tokenizer.encode_batch_fast([" ".join(title[:n_words]) for title in words], add_special_tokens=False)
    return Ragged.from_rows([encoding.ids for encoding in encodings])
