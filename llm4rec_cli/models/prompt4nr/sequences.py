"""Fill templates with histories and candidates, as token sequences. Each title is tokenized once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from tokenizers import Tokenizer

from llm4rec_cli.data.examples import Histories, IntArray
from llm4rec_cli.models.base import Batch
from llm4rec_cli.models.prompt4nr.config import Prompt4NRConfig
from llm4rec_cli.models.prompt4nr.templates import CANDIDATE, MASK, USER, TemplateTokens
from llm4rec_cli.models.shared.tokens import Ragged, pack_rows

TOKENS_PER_WORD = 2  # of a candidate, as many as few titles exceed, where a shared history leaves room for it


@dataclass(frozen=True)
class SharedHistories:
    """Histories, with the rest of their side of the template, that n rows share.

    Attributes:
        tokens: of each history.
        first_position: the position of each history's first token in the template.
        of_row: (n,) the history of each row.
        row_position: (n,) the position of each row's first token in the template.
    """

    tokens: Ragged
    first_position: IntArray
    of_row: IntArray
    row_position: IntArray

    def __getitem__(self, rows: IntArray) -> SharedHistories:
        used, of_row = np.unique(self.of_row[rows], return_inverse=True)
        return SharedHistories(self.tokens.rows(used), self.first_position[used], of_row, self.row_position[rows])


@dataclass(frozen=True)
class FilledTemplates:
    """n filled templates, without the tokens in `histories`, and (n,) the index of [MASK] in each."""

    tokens: Ragged
    mask_position: IntArray
    histories: SharedHistories | None = None

    def __len__(self) -> int:
        return len(self.mask_position)

    def __getitem__(self, rows: IntArray) -> FilledTemplates:
        histories = None if self.histories is None else self.histories[rows]
        return FilledTemplates(self.tokens.rows(rows), self.mask_position[rows], histories)

    def packed(self) -> Batch:
        """Return the inputs of `PackedBert`."""
        at_mask = torch.from_numpy(self.mask_position)
        if self.histories is None:
            return {"mask_positions": at_mask, **pack_rows(self.tokens)}
        shared = pack_rows(self.histories.tokens, self.histories.first_position)
        rows = pack_rows(self.tokens, self.histories.row_position)
        place = np.argsort(np.argsort(np.asarray(shared["starts"])))  # of each history
        owner = place[self.histories.of_row[np.argsort(np.asarray(rows["starts"]))]]
        padded, length = (np.repeat(*np.asarray(x["groups"]).T[::-1]) for x in (shared, rows))
        of_token = np.concatenate([np.repeat(np.arange(len(padded)), padded), np.repeat(owner, length)])
        orders = {"token_order": of_token, "row_order": owner}
        return {
            "mask_positions": at_mask,
            **rows,
            "owner": owner,
            **{name: torch.from_numpy(np.argsort(of, kind="stable")) for name, of in orders.items()},
            **{f"history_{name}": value for name, value in shared.items()},
        }


class TemplateFiller:
    """Fills a template (reference 1.2).

    Titles keep letters, digits and spaces only. A history is its latest titles, newest first, each after an [NSEP] and
    cut to its first words. A filled template longer than `max_length` loses the end of its history, the oldest titles.
    A candidate is cut only where it would leave no room for any history; where candidates share their histories, to two
    tokens a word. Nothing else is cut, so the mask is kept.

    Attributes:
        longest_candidate: tokens to which a candidate is cut.
        same_title: (n_items,) the first item whose tokens as a candidate are the same.
    """

    def __init__(
        self, template: TemplateTokens, tokenizer: Tokenizer, titles: Sequence[str], config: Prompt4NRConfig
    ) -> None:
        self.template, self.config = template, config
        words = [clean_title(title).split(" ") for title in titles]
        whole = _tokenize(tokenizer, words, config.candidate_words)
        # A word may have a hundred tokens.
        self.longest_candidate = config.max_length - template.overhead - 1
        if config.shares_histories:
            self.longest_candidate = TOKENS_PER_WORD * config.candidate_words
        self.candidates = whole.rows(np.arange(len(whole)), np.full(len(whole), self.longest_candidate))
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
        """Fill the template with pairs of an item and a history, an index into what `tokenize_histories` returned."""
        candidates = self.candidates.rows(items)
        if self.config.shares_histories:
            return self._fill_shared(histories, history, candidates)
        room = self.config.max_length - self.template.overhead - candidates.lengths
        fields = {USER: histories.rows(history, room), CANDIDATE: candidates}
        return FilledTemplates(*self._joined(self.template.parts, fields))

    def _fill_shared(self, histories: Ragged, history: IntArray, candidates: Ragged) -> FilledTemplates:
        """Fill the two sides of the template.

        Positions and room are those with the longest candidate that is kept whole, so that a history's states do not
        depend on the candidate.
        """
        comes_first, history_side, candidate_side = self.template.sides
        room = self.config.max_length - self.template.overhead - self.longest_candidate
        cut = histories.rows(np.arange(len(histories)), np.full(len(histories), room))
        shared, _ = self._joined(history_side, {USER: cut})
        rows, mask_position = self._joined(candidate_side, {CANDIDATE: candidates})
        reserved = self.template.n_tokens(candidate_side) + self.longest_candidate
        first_position = np.full(len(shared), 0 if comes_first else reserved)
        row_position = shared.lengths[history] if comes_first else np.zeros(len(history), dtype=np.int64)
        return FilledTemplates(rows, mask_position, SharedHistories(shared, first_position, history, row_position))

    def _joined(self, parts: Sequence[list[int] | str], fields: Mapping[str, Ragged]) -> tuple[Ragged, IntArray]:
        """Return parts of the template with their fields filled, each n rows of tokens, and (n,) the index of
        [MASK]."""
        n = len(next(iter(fields.values())))
        length: IntArray = np.zeros(n, dtype=np.int64)
        mask_position = length
        pieces: list[Ragged] = []
        for part in parts:
            if isinstance(part, str) and part in fields:
                pieces.append(fields[part])
            else:
                tokens = [self.template.mask_token] if part == MASK else part
                pieces.append(Ragged(np.tile(np.array(tokens, dtype=np.int32), n), np.arange(n + 1) * len(tokens)))
            if part == MASK:
                mask_position = length
            length = length + pieces[-1].lengths
        offsets = np.concatenate([[0], np.cumsum(length)])
        flat = np.empty(offsets[-1], dtype=np.int32)
        begin = offsets[:-1].copy()
        for rows in pieces:
            flat[np.repeat(begin - rows.offsets[:-1], rows.lengths) + np.arange(len(rows.flat))] = rows.flat
            begin += rows.lengths
        return Ragged(flat, offsets), mask_position


def clean_title(title: str) -> str:
    """Return a title's letters, digits and spaces (code)."""
    return re.sub(r"[^A-Za-z0-9 ]", "", title)


def _tokenize(tokenizer: Tokenizer, words: Sequence[Sequence[str]], n_words: int) -> Ragged:
    """Return the tokens of each title's first words."""
    encodings = tokenizer.encode_batch_fast([" ".join(title[:n_words]) for title in words], add_special_tokens=False)
    return Ragged.from_rows([encoding.ids for encoding in encodings])
