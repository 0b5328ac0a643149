"""BERT with its masked-language-model head, without unused outputs.

`BertForMaskedLM` supplies the weights. The top layer and the head are computed at the masks only, and there only the
logits of the two answer words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertForMaskedLM

from llm4rec_cli.models.shared.attention import attend
from llm4rec_cli.models.shared.bert import PackedEncoder, Shapes, padding_masks
from llm4rec_cli.models.shared.layers import INITIAL_STD


class Keys(NamedTuple):
    """To what the rows attend.

    Attributes:
        shapes: of the groups of rows.
        masks: of the groups, as `padding_masks` returns them.
        padded: tokens of each history with its padding.
        lengths: the same without.
    """

    shapes: Shapes
    masks: list[Tensor | None]
    padded: list[int]
    lengths: list[int]


class Queries(NamedTuple):
    """Which tokens of the rows attend, m in all.

    Attributes:
        of_groups: number of them in each group of rows.
        of_histories: number of them in rows of each history.
        order: (m,) indices that sort them by history.
        inverse: (m,) indices that undo this.
    """

    of_groups: list[int]
    of_histories: list[int]
    order: Tensor
    inverse: Tensor

    @classmethod
    def sorted(cls, of_groups: list[int], history: Tensor, n_histories: int) -> Queries:
        """Return tokens with the history of each, (m,)."""
        order = history.argsort(stable=True)
        return cls(of_groups, history.bincount(minlength=n_histories).tolist(), order, order.argsort())


class PackedBert(PackedEncoder):
    """A masked language model with extra embeddings for new tokens.

    Args:
        bert: the weights.
        n_new: number of new tokens, with ids after the backbone's; initialised N(0, 0.02²), as BERT (reference 1.5).

    Attributes:
        new: (n_new, d) embeddings of the new tokens.
    """

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
        groups: Tensor,
        lengths: Tensor,
        starts: Tensor,
        **histories: Tensor,
    ) -> Tensor:
        """Return (n, d) the head's state at one token per row; its product with a word's embedding is the word's logit.

        Args:
            mask_positions: (n,) that token's index in its row.
            tokens, position, groups, lengths, starts: as `tokens.pack_rows` returns them.
            histories: where rows share them, `history` (n,), the history of each row, and `history_tokens` and so on.
        """
        if histories:
            return self._forward_shared(mask_positions, tokens, position, groups, lengths, starts, **histories)
        shapes = _shapes(groups)
        masks = padding_masks(shapes, lengths)
        x = self._embed(tokens, position)
        *below, top = self.layers
        for layer in below:
            x = self._after_attention(layer, x, self._self_attention(layer.attention, x, shapes, masks))
        index, order = (starts + mask_positions).sort()
        attended = self._self_attention_at(top.attention, x, index, shapes, masks)
        states = self._after_attention(top, x[index], attended)
        return self.transform(states[order.argsort()])

    def _forward_shared(
        self,
        mask_positions: Tensor,
        tokens: Tensor,
        position: Tensor,
        groups: Tensor,
        lengths: Tensor,
        starts: Tensor,
        history: Tensor,
        history_tokens: Tensor,
        history_position: Tensor,
        history_groups: Tensor,
        history_lengths: Tensor,
        history_starts: Tensor,
    ) -> Tensor:
        """Return the states where each row attends to its history and to itself, and a history to itself alone.

        A history is computed once, however many rows attend to it.
        """
        shapes, history_shapes = _shapes(groups), _shapes(history_groups)
        history_masks = padding_masks(history_shapes, history_lengths)
        padded = [length for rows, length in history_shapes for _ in range(rows)]
        keys = Keys(shapes, padding_masks(shapes, lengths), padded, history_lengths.tolist())
        owner = history_starts.argsort().argsort()[history[starts.argsort()]]
        owner_of_token = owner.repeat_interleave(groups[:, 1].repeat_interleave(groups[:, 0]))
        all_tokens = Queries.sorted([rows * length for rows, length in shapes], owner_of_token, len(padded))
        masks_only = Queries.sorted([rows for rows, _ in shapes], owner, len(padded))
        n = [len(history_tokens), len(tokens)]
        x = self._embed(torch.cat([history_tokens, tokens]), torch.cat([history_position, position]))
        layers: list[Any] = list(self.layers)
        for layer in layers[:-1]:
            of_histories, of_rows = self._project(layer.attention, x, "query", "key", "value").split(n)
            to_themselves = self._attend_in_groups(of_histories, history_shapes, history_masks)
            attended = self._attend_to_both(of_rows[:, 0], of_histories[:, 1:], of_rows[:, 1:], keys, all_tokens)
            x = self._after_attention(layer, x, torch.cat([to_themselves, attended]))
        top = layers[-1]
        index, order = (starts + mask_positions).sort()
        at_mask = x[n[0] + index]
        query = self._project(top.attention, at_mask, "query")[:, 0]
        of_histories, of_rows = self._project(top.attention, x, "key", "value").split(n)
        attended = self._attend_to_both(query, of_histories, of_rows, keys, masks_only)
        return self.transform(self._after_attention(top, at_mask, attended)[order.argsort()])

    def _attend_to_both(
        self, query: Tensor, of_histories: Tensor, of_rows: Tensor, keys: Keys, queries: Queries
    ) -> Tensor:
        """Return (m, d) attention of tokens of rows to the history of their row and to the row itself.

        Each history is read once for all its rows: attention to both is the mean of attention to either.

        Args:
            query: (m, heads, d / heads) of these tokens.
            of_histories, of_rows: (tokens, 2, heads, d / heads) keys and values.
        """
        dropout = self.attention_dropout if self.training else 0.0
        to_history, to_row = [], []
        with torch.autocast(query.device.type, enabled=False):
            sorted_query = query[queries.order].split(queries.of_histories)
            for q, kv, length in zip(sorted_query, of_histories.split(keys.padded), keys.lengths, strict=True):
                k, v = kv[:length].permute(1, 2, 0, 3)
                mixed = attend(q.transpose(0, 1), k, v, dropout=dropout)
                to_history.append([part.transpose(0, 1) for part in mixed])
            groups = zip(
                query.split(queries.of_groups),
                of_rows.split([rows * length for rows, length in keys.shapes]),
                keys.shapes,
                keys.masks,
                strict=True,
            )
            for q, kv, (rows, length), mask in groups:
                k, v = kv.view(rows, length, *kv.shape[1:]).permute(2, 0, 3, 1, 4)
                mixed = attend(q.view(rows, -1, *q.shape[1:]).transpose(1, 2), k, v, mask, dropout)
                to_row.append([part.transpose(1, 2).flatten(0, 1) for part in mixed])
            history, history_sum = (torch.cat(parts)[queries.inverse] for parts in zip(*to_history, strict=True))
            row, row_sum = (torch.cat(parts) for parts in zip(*to_row, strict=True))
            return torch.lerp(row, history, (history_sum - row_sum).sigmoid()).flatten(1)

    def states_at(self, index: Tensor, tokens: Tensor, position: Tensor, groups: Tensor, lengths: Tensor) -> Tensor:
        """Return (m, d) the head's states at any tokens.

        Args:
            index: (m,) indices into the flat tokens.
        """
        return self.transform(self.states(tokens, position, groups, lengths)[index])

    def logits(self, states: Tensor, words: Tensor) -> Tensor:
        """Return (n, k) the logits of some words of the backbone's vocabulary, in fp32 also under autocast.

        Two words' logits are close to one another, so that rounding both to bf16 would tie candidates.
        """
        with torch.autocast(states.device.type, enabled=False):
            return F.linear(states.float(), self.words(words), self.bias[words])

    def _token_vectors(self, tokens: Tensor) -> Tensor:
        n_words = self.words.num_embeddings
        x = self.words(tokens.clamp(max=n_words - 1))
        is_new = torch.nonzero(tokens >= n_words).squeeze(1)
        return x.index_copy(0, is_new, self.new[tokens[is_new] - n_words])


def _shapes(groups: Tensor) -> Shapes:
    return [(rows, longest) for rows, longest in groups.tolist()]
