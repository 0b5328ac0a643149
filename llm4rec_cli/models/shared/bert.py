"""BERT without padding: published weights and layers, run on packed tokens.

Everything but attention runs on one flat array of tokens; attention runs on groups of rows of similar length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertModel

from llm4rec_cli.arithmetic import on_cpu
from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.shared.attention import attend
from llm4rec_cli.models.shared.layers import dropped_out, group_shapes

Shapes = list[tuple[int, int]]


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
        shapes = group_shapes(groups)
        masks = padding_masks(shapes, lengths, is_real)
        x = self._embed(tokens, position)
        for layer in self.layers:
            x = self._after_attention(layer, x, self._self_attention(layer.attention, x, shapes, masks))
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
        return F.linear(x, weight, bias).to(x.dtype).view(len(x), len(names), self.heads, -1)

    def _self_attention(self, attention: Any, x: Tensor, shapes: Shapes, masks: list[Tensor | None]) -> Tensor:
        return self._attend_in_groups(self._project(attention, x, "query", "key", "value"), shapes, masks)

    def _attend_in_groups(self, qkv: Tensor, shapes: Shapes, masks: list[Tensor | None]) -> Tensor:
        """Return (total, d) attention within each row, of `qkv` (total, 3, heads, d / heads)."""
        mixed, parts = [], qkv.split([rows * length for rows, length in shapes])
        # On a CPU in fp32: a bf16 product this small costs less than the kernel set up for its shape.
        with torch.autocast("cpu", enabled=False):
            for (rows, length), part, mask in zip(shapes, parts, masks, strict=True):
                q, k, v = part.view(rows, length, *part.shape[1:]).permute(2, 0, 3, 1, 4)
                mixed.append(self._attend(q, k, v, mask).transpose(1, 2).reshape(rows * length, -1))
        return torch.cat(mixed)

    def _self_attention_at(
        self, attention: Any, x: Tensor, index: Tensor, shapes: Shapes, masks: list[Tensor | None]
    ) -> Tensor:
        """Return attention at one token per row (ascending); of the others only keys and values are computed."""
        mixed = []
        parts = self._project(attention, x, "key", "value").split([rows * length for rows, length in shapes])
        queries = self._project(attention, x[index], "query").split([rows for rows, _ in shapes])
        with torch.autocast("cpu", enabled=False):
            for (rows, length), part, query, mask in zip(shapes, parts, queries, masks, strict=True):
                k, v = part.view(rows, length, *part.shape[1:]).permute(2, 0, 3, 1, 4)
                mixed.append(self._attend(query.transpose(1, 2), k, v, mask).reshape(rows, -1))
        return torch.cat(mixed)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        dropout = self._attention_dropout()
        if dropout and on_cpu(q):  # torch has no fused attention with dropout for it
            return attend(q, k, v, mask, dropout)[0]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)

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
