"""From histories and candidates to token sequences: titles are tokenised once, sequences are laid of their tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from llm4rec_cli.data.examples import Histories, IntArray, slices
from llm4rec_cli.models.prompt4nr.config import Prompt4NRConfig
from llm4rec_cli.models.prompt4nr.templates import CANDIDATE, MASK, USER, Pieces
from llm4rec_cli.models.shared.sequences import pack

WIDENING = 1.1  # from one group of like length to the next: padding stays below a tenth


@dataclass(frozen=True)
class Ragged:
    """n rows of tokens behind one another: row i is flat[offsets[i]:offsets[i + 1]]."""

    flat: NDArray[np.int32]
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> IntArray:
        return np.diff(self.offsets)

    def rows(self, index: IntArray, longest: IntArray | None = None) -> Ragged:
        """Those rows, each cut to its first `longest` tokens."""
        start, end = self.offsets[index], self.offsets[index + 1]
        return Ragged(*slices(self.flat, start, end if longest is None else np.minimum(end, start + longest)))

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        flat = np.fromiter((token for row in rows for token in row), dtype=np.int32, count=int(lengths.sum()))
        return cls(flat, np.concatenate([[0], np.cumsum(lengths)]))


@dataclass(frozen=True)
class Sequences:
    """n filled templates.

    Attributes:
        tokens: (n) rows.
        mask: (n,) where in its row each blank stands.
    """

    tokens: Ragged
    mask: IntArray

    def __len__(self) -> int:
        return len(self.mask)

    def __getitem__(self, index: IntArray) -> Sequences:
        return Sequences(self.tokens.rows(index), self.mask[index])


class Filler:
    """Fills a template (reference 1.2).

    Titles are stripped of all but letters, digits and spaces. A history is its latest titles, the newest first, each
    behind a [NSEP] and cut to its first words. What a filled template exceeds `max_length` by is cut off the end of the
    history, its oldest titles; of a candidate only what would leave no room for any history; nothing else is ever cut,
    so every sequence keeps its blank.

    Args:
        pieces: the template as tokens.
        titles: one an item, in order of the item numbers; empty where an item has none.
        config: gives the lengths.

    Attributes:
        alike: (n_items,) the first item that reads as this one does as a candidate.
    """

    def __init__(self, pieces: Pieces, tokenizer: Tokenizer, titles: Sequence[str], config: Prompt4NRConfig) -> None:
        self.pieces, self.config = pieces, config
        words = [cleaned(title).split(" ") for title in titles]
        whole = _tokens(tokenizer, words, config.candidate_words)
        most = config.max_length - pieces.overhead - 1  # a word may have a hundred pieces
        self.candidates = whole.rows(np.arange(len(whole)), np.full(len(whole), most))
        first: dict[bytes, int] = {}
        read = [self.candidates.flat[begin:end].tobytes() for begin, end in pairwise(self.candidates.offsets)]
        self.alike = np.array([first.setdefault(tokens, item) for item, tokens in enumerate(read)])
        plain = _tokens(tokenizer, words, config.title_words)
        # Behind the last title one of no words: an empty history is a [NSEP] alone (code).
        offsets = np.append(plain.offsets, plain.offsets[-1])
        self.told = Ragged(np.insert(plain.flat, offsets[:-1], pieces.n_words), offsets + np.arange(len(offsets)))

    def histories(self, asked: Histories) -> Ragged:
        """The user part of each question: its titles as tokens, the newest first, cut to `history_tokens`."""
        flat, offsets = asked.histories(self.config.titles)
        lengths = np.diff(offsets)
        row = np.repeat(np.arange(len(asked)), lengths)
        newest_first = flat[offsets[row + 1] - 1 - (np.arange(len(flat)) - offsets[row])]
        empty = np.flatnonzero(lengths == 0)
        items = np.insert(newest_first.astype(np.int64), offsets[empty], len(self.told) - 1)
        offsets = np.concatenate([[0], np.cumsum(np.maximum(lengths, 1))])
        titles = self.told.rows(items)
        whole = Ragged(titles.flat, titles.offsets[offsets])
        return whole.rows(np.arange(len(whole)), np.full(len(whole), self.config.history_tokens))

    def fill(self, users: Ragged, user: IntArray, items: IntArray) -> Sequences:
        """The template of each pair.

        Args:
            users: as `histories` gives them.
            user: (n,) which of them each pair has.
            items: (n,) the candidates.
        """
        candidates = self.candidates.rows(items)
        room = self.config.max_length - self.pieces.overhead - candidates.lengths
        histories = users.rows(user, room)
        n = len(items)
        parts: list[Ragged] = []
        mask = np.zeros(n, dtype=np.int64)
        length = np.zeros(n, dtype=np.int64)
        for part in self.pieces.parts:
            if part == USER:
                parts.append(histories)
            elif part == CANDIDATE:
                parts.append(candidates)
            else:
                if part == MASK:
                    mask = length.copy()
                tokens = [self.pieces.blank] if part == MASK else part
                same = np.tile(np.array(tokens, dtype=np.int32), n)
                parts.append(Ragged(same, np.arange(n + 1) * len(tokens)))
            length = length + parts[-1].lengths
        offsets = np.concatenate([[0], np.cumsum(length)])
        flat = np.empty(offsets[-1], dtype=np.int32)
        begin = offsets[:-1].copy()
        for ragged in parts:
            place = np.repeat(begin - ragged.offsets[:-1], ragged.lengths) + np.arange(len(ragged.flat))
            flat[place] = ragged.flat
            begin += ragged.lengths
        return Sequences(Ragged(flat, offsets), mask)


def cleaned(title: str) -> str:
    """A title without all but letters, digits and spaces (code)."""
    return re.sub(r"[^A-Za-z0-9 ]", "", title)


def _tokens(tokenizer: Tokenizer, words: Sequence[Sequence[str]], n_words: int) -> Ragged:
    """The first words of each title as tokens."""
    encoded = tokenizer.encode_batch_fast([" ".join(of[:n_words]) for of in words], add_special_tokens=False)
    return Ragged.of([found.ids for found in encoded])


def packed(tokens: Ragged) -> dict[str, Tensor]:
    """Rows in groups of like length, each padded to its longest, as `PackedBert` takes them.

    Returns:
        tokens, position: (total,) int64; position counts on beyond a row's end, where tokens are 0.
        groups: (n_groups, 2) rows and length of each.
        lengths: (n,) of the rows, in the order in which they stand.
        begins: (n,) where row i begins.
    """
    packing = pack(tokens.lengths, WIDENING)
    within = packing.position < tokens.lengths[packing.row]
    source = tokens.offsets[packing.row] + np.where(within, packing.position, 0)
    begins = packing.last - tokens.lengths + 1
    return {
        "tokens": torch.from_numpy(np.where(within, tokens.flat[source], 0).astype(np.int64)),
        "position": torch.from_numpy(packing.position.astype(np.int64)),
        "groups": torch.from_numpy(packing.groups.astype(np.int64)),
        "lengths": torch.from_numpy(tokens.lengths[np.argsort(begins, kind="stable")]),
        "begins": torch.from_numpy(begins),
    }
