"""BERT with its masked-language-model head, without unused outputs.

`BertForMaskedLM` supplies the weights. The top layer and the head are computed at the masks only, and there only the
logits of the two answer words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertForMaskedLM

from llm4rec_cli.models.shared.bert import PackedEncoder, Shapes, padding_masks
from llm4rec_cli.models.shared.layers import INITIAL_STD


class Keys(NamedTuple):
    """What the rows of a group attend to.

    Attributes:
        shape: number of rows, and their length.
        history_index: (rows, longest) flat indices of the tokens of each row's history.
        mask: (rows, 1, 1, longest + length) False at padding of a history or a row.
    """

    shape: tuple[int, int]
    history_index: Tensor
    mask: Tensor


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
        keys = _keys(shapes, lengths, starts, history, history_lengths, history_starts)
        n = len(history_tokens)
        x = self._embed(torch.cat([history_tokens, tokens]), torch.cat([history_position, position]))
        layers: list[Any] = list(self.layers)
        for layer in layers[:-1]:
            qkv = self._project(layer.attention, x, "query", "key", "value")
            of_histories = self._attend_in_groups(qkv[:n], history_shapes, history_masks)
            queries = qkv[n:, :1].split([rows * length for rows, length in shapes])
            x = self._after_attention(
                layer, x, torch.cat([of_histories, *self._attend_to_both(queries, qkv[:, 1:], n, keys)])
            )
        top = layers[-1]
        kv = self._project(top.attention, x, "key", "value")
        index, order = (starts + mask_positions).sort()
        at_mask = x[n + index]
        queries = self._project(top.attention, at_mask, "query").split([rows for rows, _ in shapes])
        attended = torch.cat(self._attend_to_both(queries, kv, n, keys))
        return self.transform(self._after_attention(top, at_mask, attended)[order.argsort()])

    def _attend_to_both(self, queries: Sequence[Tensor], kv: Tensor, n: int, keys: Sequence[Keys]) -> list[Tensor]:
        """Return, for each group, attention of its rows to their histories and to themselves.

        Args:
            queries: for each group, (m, 1, heads, d / heads) those of all tokens of its rows, or of one a row.
            kv: (n + total, 2, heads, d / heads) of the tokens of histories, then of those of rows.
        """
        mixed, begin = [], n
        with torch.autocast("cpu", enabled=False):
            for query, group in zip(queries, keys, strict=True):
                rows, length = group.shape
                own = kv[begin : begin + rows * length].view(rows, length, *kv.shape[1:])
                of_history = kv.index_select(0, group.history_index.flatten()).view(rows, -1, *kv.shape[1:])
                k, v = torch.cat([of_history, own], dim=1).permute(2, 0, 3, 1, 4)
                q = query.view(rows, -1, *kv.shape[2:]).transpose(1, 2)
                mixed.append(self._attend(q, k, v, group.mask).transpose(1, 2).reshape(len(query), -1))
                begin += rows * length
        return mixed

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


def _keys(
    shapes: Shapes, lengths: Tensor, starts: Tensor, history: Tensor, history_lengths: Tensor, history_starts: Tensor
) -> list[Keys]:
    """Return the keys of each group of rows; arguments as in `PackedBert.forward`."""
    length_of = history_lengths[history_starts.argsort().argsort()]
    n_rows = [rows for rows, _ in shapes]
    in_order = history[starts.argsort()].split(n_rows)
    keys = []
    for shape, owner, own_lengths in zip(shapes, in_order, lengths.split(n_rows), strict=True):
        index = torch.arange(int(length_of[owner].max()), device=owner.device)
        is_real = index < length_of[owner, None]
        is_own = torch.arange(shape[1], device=owner.device) < own_lengths[:, None]
        history_index = torch.where(is_real, history_starts[owner, None] + index, 0)
        keys.append(Keys(shape, history_index, torch.cat([is_real, is_own], dim=1)[:, None, None, :]))
    return keys
