"""BERT with its masked-language-model head, without unused outputs.

`BertForMaskedLM` supplies the weights. The top layer and the head are computed at the masks only, and there only the
logits of the two answer words.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertForMaskedLM

from llm4rec_cli.arithmetic import on_cpu
from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.shared.attention import attend
from llm4rec_cli.models.shared.bert import PackedEncoder, Shapes, grouped, padding_masks
from llm4rec_cli.models.shared.blocks import Blocks, Keys, blocks_of, starts_of
from llm4rec_cli.models.shared.layers import INITIAL_STD, group_shapes


class HistoriesAndRows(NamedTuple):
    """Where the keys of histories and of rows lie: the tokens of each history in packed order, with and without its
    padding, and the shape and mask of each group of rows."""

    padded: list[int]
    lengths: list[int]
    shapes: Shapes
    masks: list[Tensor | None]


class Queries(NamedTuple):
    """The m tokens that attend: first those of histories (absent in the top layer), then those of rows.

    Attributes:
        order: (m,) indices that sort them by history.
        inverse: (m,) indices that undo this.
        per_history: number of them for each history.
        per_group: number of them in each group of rows.
    """

    order: Tensor
    inverse: Tensor
    per_history: list[int]
    per_group: list[int]


def blocks_of_both(
    x: Tensor, padded: IntArray, history_lengths: IntArray, widths: IntArray, lengths: IntArray, owner: IntArray
) -> tuple[Blocks, Blocks]:
    """Return the blocks where a history's tokens attend to the history, and a row's to its history and to the row: of
    all tokens, and of one token per row.

    Args:
        x: (total, d) the tokens of histories, then those of rows.
        padded, history_lengths: of the histories, with and without padding.
        widths, lengths: the same of the rows.
        owner: (n,) the history of each row.
    """
    n, all_widths, all_lengths = len(padded), np.append(padded, widths), np.append(history_lengths, lengths)
    start, nothing = starts_of(all_widths), np.zeros_like(padded)
    before, n_before = start[owner], history_lengths[owner]
    keys = Keys(start, all_lengths, np.append(nothing, before), np.append(nothing, n_before))
    one = np.ones_like(lengths)
    at_one = blocks_of(x, one, one, Keys(start[n:], lengths, before, n_before))
    return blocks_of(x, all_widths, all_lengths, keys), at_one


class PackedBert(PackedEncoder):
    """A masked language model with extra embeddings for new tokens, whose ids follow the backbone's, drawn from N(0,
    0.02²) as BERT's (reference 1.5)."""

    def __init__(self, bert: BertForMaskedLM, n_new: int) -> None:
        super().__init__(bert.bert)
        self.transform = bert.cls.predictions.transform
        self.bias = nn.Parameter(bert.cls.predictions.bias.detach().clone())
        self.new = nn.Parameter(torch.empty(n_new, bert.config.hidden_size).normal_(std=INITIAL_STD))

    def forward(
        self,
        mask_positions: Tensor,
        tokens: Tensor,
        position: Tensor,
        is_real: Tensor,
        starts: Tensor,
        groups: IntArray,
        lengths: IntArray,
        **histories: Any,
    ) -> Tensor:
        """Return (n, d) the head's state at `mask_positions`, an index in each row. Its product with a word's embedding
        is the word's logit.

        `tokens.pack_rows` returns the other arguments. Where rows share histories, `FilledTemplates.packed` does.
        """
        if histories:
            rows = groups, lengths, is_real
            return self._forward_shared(mask_positions, tokens, position, starts, *rows, **histories)
        x = self._embed(tokens, position)
        packed = grouped(x, groups, lengths, is_real)
        *below, top = self.layers
        for layer in below:
            x = self._after_attention(layer, x, self._self_attention(layer.attention, x, packed))
        index, order = (starts + mask_positions).sort()
        attended = self._self_attention_at(top.attention, x, index, packed)
        states = self._after_attention(top, x[index], attended)
        return self.transform(states[order.argsort()])

    def _forward_shared(
        self,
        mask_positions: Tensor,
        tokens: Tensor,
        position: Tensor,
        starts: Tensor,
        groups: IntArray,
        lengths: IntArray,
        is_real: Tensor,
        owner: IntArray,
        token_order: Tensor,
        row_order: Tensor,
        history_tokens: Tensor,
        history_position: Tensor,
        history_groups: IntArray,
        history_lengths: IntArray,
        **_: Tensor,
    ) -> Tensor:
        """Return the states where each row attends to its history and to itself, and a history only to itself.

        A history is computed once, however many rows attend to it.

        Args:
            owner: (n,) the place of the history of each row, both in packed order.
            token_order: (total,) what sorts the tokens of histories and of rows by history.
            row_order: (n,) what sorts the rows so.
        """
        x = self._embed(torch.cat([history_tokens, tokens]), torch.cat([history_position, position]))
        shapes, padded = group_shapes(groups), np.repeat(history_groups[:, 1], history_groups[:, 0])
        width_of_row = np.repeat(groups[:, 1], groups[:, 0])
        if on_cpu(x):
            keys = HistoriesAndRows(
                padded.tolist(), history_lengths.tolist(), shapes, padding_masks(shapes, lengths, is_real)
            )
            of_rows, masked = (np.bincount(owner, weights, len(padded)).astype(int) for weights in (width_of_row, None))
            n_tokens = [rows * length for rows, length in shapes]
            all_tokens = Queries(token_order, token_order.argsort(), (padded + of_rows).tolist(), n_tokens)
            masks_only = Queries(row_order, row_order.argsort(), masked.tolist(), [rows for rows, _ in shapes])
            attend_all = partial(self._attend_to_both, keys=keys, queries=all_tokens)
            attend_at_masks = partial(self._attend_to_both, keys=keys, queries=masks_only)
        else:
            attend_all, attend_at_masks = (
                partial(blocks.attend, dropout=self._attention_dropout())
                for blocks in blocks_of_both(x, padded, history_lengths, width_of_row, lengths, owner)
            )
        layers: list[Any] = list(self.layers)
        for layer in layers[:-1]:
            query, kv = self._project(layer.attention, x, "query", "key", "value").split([1, 2], dim=1)
            x = self._after_attention(layer, x, attend_all(query.squeeze(1), kv))
        top = layers[-1]
        index, order = (starts + mask_positions).sort()
        at_mask = x[len(history_tokens) + index]
        query, kv = self._project(top.attention, at_mask, "query"), self._project(top.attention, x, "key", "value")
        attended = attend_at_masks(query.squeeze(1), kv)
        return self.transform(self._after_attention(top, at_mask, attended)[order.argsort()])

    def _attend_to_both(self, query: Tensor, kv: Tensor, keys: HistoriesAndRows, queries: Queries) -> Tensor:
        """Return (m, d) attention: a history's tokens attend to the history, a row's to its history and to the row.

        A history is read once for all its rows. Attention to both is the average of attention to each, weighted with
        the sums that normalise them.
        """
        n_in_rows = sum(queries.per_group)
        n = [len(query) - n_in_rows, n_in_rows]
        of_histories, of_rows = kv.split([sum(keys.padded), len(kv) - sum(keys.padded)])
        with torch.autocast(query.device.type, enabled=False):
            (in_histories, in_rows), (_, log_sum) = (
                part.split(n) for part in self._attend_to_histories(query, of_histories, keys, queries)
            )
            to_row, row_log_sum = self._attend_to_rows(query.split(n)[1], of_rows, keys, queries)
            to_both = torch.lerp(to_row, in_rows, (log_sum - row_log_sum).sigmoid())
            return torch.cat([in_histories, to_both]).flatten(1)

    def _attend_to_histories(
        self, query: Tensor, kv: Tensor, keys: HistoriesAndRows, queries: Queries
    ) -> tuple[Tensor, Tensor]:
        parts = query.index_select(0, queries.order).split(queries.per_history), kv.split(keys.padded)
        mixed = []
        for q, part, length in zip(*parts, keys.lengths, strict=True):
            k, v = part[:length].permute(1, 2, 0, 3)
            out, log_sum = attend(q.transpose(0, 1), k, v, dropout=self._attention_dropout())
            mixed.append((out.transpose(0, 1), log_sum.transpose(0, 1)))
        outs, log_sums = zip(*mixed, strict=True)
        inverse = queries.inverse
        return torch.cat(outs).index_select(0, inverse), torch.cat(log_sums).index_select(0, inverse)

    def _attend_to_rows(
        self, query: Tensor, kv: Tensor, keys: HistoriesAndRows, queries: Queries
    ) -> tuple[Tensor, Tensor]:
        parts = query.split(queries.per_group), kv.split([rows * length for rows, length in keys.shapes])
        mixed = []
        for q, part, (rows, length), mask in zip(*parts, keys.shapes, keys.masks, strict=True):
            k, v = part.view(rows, length, *part.shape[1:]).permute(2, 0, 3, 1, 4)
            q = q.view(rows, -1, *q.shape[1:]).transpose(1, 2)
            out, log_sum = attend(q, k, v, mask, self._attention_dropout())
            mixed.append((out.transpose(1, 2).flatten(0, 1), log_sum.transpose(1, 2).flatten(0, 1)))
        outs, log_sums = zip(*mixed, strict=True)
        return torch.cat(outs), torch.cat(log_sums)

    def states_at(self, index: Tensor, **packed: Any) -> Tensor:
        """Return (m, d) the head's states at flat indices of tokens."""
        return self.transform(self.states(**packed)[index])

    def logits(self, states: Tensor, words: Tensor) -> Tensor:
        """Return (n, k) the logits of some words of the backbone's vocabulary, in fp32 also under autocast.

        Two words' logits are close to one another, so that rounding both to bf16 would tie candidates.
        """
        with torch.autocast(states.device.type, enabled=False):
            return F.linear(states.float(), self.words(words), self.bias[words])

    def _token_vectors(self, tokens: Tensor) -> Tensor:
        n_words = self.words.num_embeddings
        x = self.words(tokens.clamp(max=n_words - 1))
        if not len(self.new):
            return x
        new = F.embedding((tokens - n_words).clamp(min=0), self.new)
        return torch.where((tokens >= n_words).unsqueeze(1), new, x)
