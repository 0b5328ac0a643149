"""BERT without padding: published weights and layers, run on packed tokens.

Everything but attention runs on one flat array of tokens; attention runs on groups of rows of similar length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertModel

from llm4rec_cli.arithmetic import on_cpu
from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.shared.attention import attend
from llm4rec_cli.models.shared.blocks import Blocks, Keys, blocks_of, starts_of
from llm4rec_cli.models.shared.layers import dropped_out, group_shapes

Shapes = list[tuple[int, int]]


@dataclass(frozen=True)
class Groups:
    """Packed rows, as layers take them.

    Attributes:
        shapes: number of rows and padded length of each group.
        lengths: (n,) of the rows, in packed order.
        masks: of `padding_masks`; none on an accelerator.
        blocks: how an accelerator attends; None on a CPU, which attends group by group.
    """

    shapes: Shapes
    lengths: IntArray
    masks: list[Tensor | None]
    blocks: Blocks | None

    @property
    def widths(self) -> IntArray:
        """(n,) the padded lengths of the rows."""
        return np.repeat([longest for _, longest in self.shapes], [rows for rows, _ in self.shapes])


def grouped(x: Tensor, groups: IntArray, lengths: IntArray, is_real: Tensor) -> Groups:
    """Return the groups of rows of `x` (total, d); `tokens.pack_rows` returns the other arguments."""
    shapes = group_shapes(groups)
    if on_cpu(x):
        return Groups(shapes, lengths, padding_masks(shapes, lengths, is_real), None)
    packed = Groups(shapes, lengths, [], None)
    return replace(packed, blocks=blocks_of(x, packed.widths, lengths))


class PackedEncoder(nn.Module):
    """BERT's embeddings and layers, without its pooler."""

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.heads = bert.config.num_attention_heads
        self.dropout = bert.config.hidden_dropout_prob
        self.attention_dropout = bert.config.attention_probs_dropout_prob
        self.words = bert.embeddings.word_embeddings
        self.positions = bert.embeddings.position_embeddings
        self.kind = nn.Parameter(bert.embeddings.token_type_embeddings.weight[0].detach().clone())
        self.norm = bert.embeddings.LayerNorm
        self.layers = bert.encoder.layer

    def states(self, tokens: Tensor, position: Tensor, is_real: Tensor, groups: IntArray, lengths: IntArray) -> Tensor:
        """Return (total, d) the top layer's state at each token, arbitrary at padding. `tokens.pack_rows` returns the
        arguments."""
        x = self._embed(tokens, position)
        packed = grouped(x, groups, lengths, is_real)
        for layer in self.layers:
            x = self._after_attention(layer, x, self._self_attention(layer.attention, x, packed))
        return x

    def _embed(self, tokens: Tensor, position: Tensor) -> Tensor:
        return self._dropout(self.norm(self._token_vectors(tokens) + self.positions(position) + self.kind))

    def _token_vectors(self, tokens: Tensor) -> Tensor:
        return self.words(tokens)

    def _after_attention(self, layer: Any, x: Tensor, attended: Tensor) -> Tensor:
        x = layer.attention.output.LayerNorm(x + self._dropout(layer.attention.output.dense(attended)))
        up = layer.intermediate(x)
        return layer.output.LayerNorm(x + self._dropout(layer.output.dense(up)))

    def _project(self, attention: Any, x: Tensor, *names: str) -> Tensor:
        """Return (n, len(names), heads, d / heads) the named ones of `query`, `key` and `value`."""
        parts = [getattr(attention.self, name) for name in names]
        weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
        projected = F.linear(x, weight, bias)
        if on_cpu(x):
            # In fp32: a bf16 product as small as those of attention costs less than the kernel set up for its shape.
            projected = projected.to(x.dtype)
        return projected.view(len(x), len(names), self.heads, -1)

    def _self_attention(self, attention: Any, x: Tensor, groups: Groups) -> Tensor:
        """Return (total, d) attention within each row."""
        qkv = self._project(attention, x, "query", "key", "value")
        if groups.blocks is not None:
            q, kv = qkv.split([1, 2], dim=1)
            return groups.blocks.attend(q.squeeze(1), kv, self._attention_dropout())
        mixed, parts = [], qkv.split([rows * length for rows, length in groups.shapes])
        with torch.autocast("cpu", enabled=False):
            for (rows, length), part, mask in zip(groups.shapes, parts, groups.masks, strict=True):
                q, k, v = part.view(rows, length, *part.shape[1:]).permute(2, 0, 3, 1, 4)
                mixed.append(self._attend(q, k, v, mask).transpose(1, 2).reshape(rows * length, -1))
        return torch.cat(mixed)

    def _self_attention_at(self, attention: Any, x: Tensor, index: Tensor, groups: Groups) -> Tensor:
        """Return attention at one token per row (ascending); of the others only keys and values are computed."""
        kv, query = self._project(attention, x, "key", "value"), self._project(attention, x[index], "query")
        if groups.blocks is not None:
            one = np.ones_like(groups.lengths)
            blocks = blocks_of(x, one, one, Keys.own(starts_of(groups.widths), groups.lengths))
            return blocks.attend(query.squeeze(1), kv, self._attention_dropout())
        mixed, parts = [], kv.split([rows * length for rows, length in groups.shapes])
        queries = query.split([rows for rows, _ in groups.shapes])
        with torch.autocast("cpu", enabled=False):
            for (rows, length), part, query, mask in zip(groups.shapes, parts, queries, groups.masks, strict=True):
                k, v = part.view(rows, length, *part.shape[1:]).permute(2, 0, 3, 1, 4)
                mixed.append(self._attend(query.transpose(1, 2), k, v, mask).reshape(rows, -1))
        return torch.cat(mixed)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        dropout = self._attention_dropout()
        if dropout:  # torch has no fused attention with dropout for a CPU
            return attend(q, k, v, mask, dropout)[0]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def _attention_dropout(self) -> float:
        return self.attention_dropout if self.training else 0.0

    def _dropout(self, x: Tensor) -> Tensor:
        return dropped_out(x, self.dropout) if self.training and self.dropout > 0 else x


def padding_masks(shapes: Shapes, lengths: IntArray, is_real: Tensor) -> list[Tensor | None]:
    """Return each group's mask (rows, 1, 1, longest), False at padding; None where nothing is padded. `lengths` (n,) of
    rows and `is_real` (total,) of tokens, in packed order."""
    parts = is_real.split([rows * longest for rows, longest in shapes])
    of_groups = np.split(lengths, np.cumsum([rows for rows, _ in shapes])[:-1])
    return [
        part.view(rows, 1, 1, longest) if (own < longest).any() else None
        for (rows, longest), part, own in zip(shapes, parts, of_groups, strict=True)
    ]
