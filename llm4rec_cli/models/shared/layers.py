"""Layers shared by several models: dropout, self-attention, Transformer layers, and SASRec's sequence encoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from llm4rec_cli.arithmetic import on_cpu, product
from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.shared.batch import copied_to
from llm4rec_cli.models.shared.blocks import Blocks, Keys, blocks_of, starts_of

INITIAL_STD = 0.02  # RecBole's initializer_range, of every linear and embedding weight
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # of the same width as a float of that many bytes


def dropped_out(x: Tensor, p: float) -> Tensor:
    """Return `x` with each element zeroed with probability `p`, scaled to keep its mean."""
    return _Dropout.apply(x, p) if on_cpu(x) else F.dropout(x, p)


class _Dropout(torch.autograd.Function):
    """Fast dropout: on a CPU, drawing an ordinary mask can cost more than the matrix product that follows it.

    One 64-bit draw decides four elements, and elements are kept by multiplying their bits, read as integers, by 0 or 1.
    Both are several times as fast as the usual operations.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        kept, ctx.scale = draw_kept(x, p)
        ctx.save_for_backward(kept)
        return masked(x * ctx.scale, kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        return masked(outer[0] * ctx.scale, *ctx.saved_tensors), None


def draw_kept(x: Tensor, p: float) -> tuple[Tensor, float]:
    """Return bools of the shape of `x`, False with probability `p` (to 16 bits), and the scale that keeps the mean."""
    n, dropped = x.numel(), min(round(p * 65536), 65535)
    bits = torch.empty((n + 3) // 4, dtype=torch.int64, device=x.device).random_(-(2**63), None)
    return bits.view(torch.int16)[:n].view(x.shape) >= dropped - 32768, 65536 / (65536 - dropped)


def masked(x: Tensor, kept: Tensor) -> Tensor:
    """Return `x` where `kept` is true, 0 elsewhere."""
    return (x.view(INTEGERS[x.element_size()]) * kept).view(x.dtype)


class Dropout(nn.Module):
    """`dropped_out` as a layer."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropped_out(x, self.p) if self.training and self.p > 0 else x


class _PairwiseProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return product(left, right)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, Tensor | None]:
        left, right = ctx.saved_tensors
        of_left, of_right = ctx.needs_input_grad
        return (
            product(outer[0], right.t()) if of_left else None,
            product(outer[0].t(), left.t()) if of_right else None,
        )


def pairwise_products(left: Tensor, right: Tensor) -> Tensor:
    """Return (n, m) the inner products of vectors, (n, size) and (m, size) fp32, by the faster `arithmetic.product`."""
    return _PairwiseProducts.apply(left, right)


@dataclass(frozen=True)
class Groups:
    """Packed sequences, as the layers of an encoder take them.

    Attributes:
        shapes: the number of rows and the length of each group.
        blocks: how an accelerator attends within them; None on a CPU, which attends group by group.
        at_last: how the last token of each sequence attends there, where only these are computed.
    """

    shapes: list[tuple[int, int]]
    blocks: Blocks | None
    at_last: Blocks | None = None

    def parts(self, x: Tensor) -> list[Tensor]:
        """Return packed vectors as (rows, length, size) of each group, or on an accelerator of each block, with zeros
        after the end of a sequence."""
        if self.blocks is not None:
            return self.blocks.parts(x)
        parts = x.split([rows * length for rows, length in self.shapes])
        return [part.view(rows, length, -1) for (rows, length), part in zip(self.shapes, parts, strict=True)]

    def packed(self, parts: list[Tensor]) -> Tensor:
        """Return (total, size) what was computed of `parts`, of the same shapes."""
        flat = torch.cat([part.flatten(0, 1) for part in parts])
        return flat if self.blocks is None else flat.index_select(0, self.blocks.outputs)


class SelfAttention(nn.Module):
    """Multi-head self-attention within packed sequences.

    Args:
        causal: whether a position attends to itself and earlier ones only. Otherwise to the whole sequence, which must
            then be packed without padding (`pack(lengths, widening=1)`).
    """

    def __init__(self, hidden: int, heads: int, attention_dropout: float, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.attention_dropout = Dropout(attention_dropout)

    def attend(self, x: Tensor, groups: Groups) -> Tensor:
        """Return (total, hidden) attention outputs of packed vectors."""
        p = self.attention_dropout.p if self.training else 0.0
        if groups.blocks is not None:
            q, kv = self.qkv(x).view(len(x), 3, self.heads, -1).split([1, 2], dim=1)
            return self.out(groups.blocks.attend(q.squeeze(1), kv, p))
        hidden, mixed = x.shape[-1], []
        # Split, because each slice would give a gradient as large as the whole. In fp32, because a bf16 product this
        # small costs less than setting up the kernel for its shape, which is new in nearly every batch.
        parts = self.qkv(x).to(x.dtype).split([rows * length for rows, length in groups.shapes])
        with torch.autocast("cpu", enabled=False):
            for (rows, length), part in zip(groups.shapes, parts, strict=True):
                q, k, v = part.view(rows, length, 3, self.heads, hidden // self.heads).permute(2, 0, 3, 1, 4)
                mixed.append(self._mix(q, k, v, p).transpose(1, 2).reshape(rows * length, hidden))
        return self.out(torch.cat(mixed))

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, p: float) -> Tensor:
        if p == 0:  # torch has no fused attention with dropout for a CPU
            return F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        if self.causal:
            future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
            scores = scores.masked_fill(future, float("-inf"))
        return self.attention_dropout(scores.softmax(-1)) @ v

    def keys_and_values(self, x: Tensor) -> Tensor:
        """Return (total, 2 * hidden) the keys, then the values, of vectors."""
        hidden = x.shape[-1]
        return F.linear(x, self.qkv.weight[hidden:], self.qkv.bias[hidden:])

    def attend_at(self, x: Tensor, groups: Groups, tokens: Tensor) -> Tensor:
        """Return `attend` at the last token of each sequence, (n,) ascending, without dropout. The others only give
        keys and values."""
        hidden, kv = x.shape[-1], self.keys_and_values(x)
        q = F.linear(x[tokens], self.qkv.weight[:hidden], self.qkv.bias[:hidden])
        if groups.at_last is not None:
            q, kv = (y.view(len(y), -1, self.heads, hidden // self.heads) for y in (q, kv))
            return self.out(groups.at_last.attend(q.squeeze(1), kv))
        q = q.view(-1, self.heads, 1, hidden // self.heads)
        mixed, first, start = [], 0, 0
        for rows, length in groups.shapes:
            group = kv[start : start + rows * length].view(rows, length, 2, self.heads, hidden // self.heads)
            k, v = group.permute(2, 0, 3, 1, 4)
            position = (tokens[first : first + rows] - start) % length
            seen = torch.arange(length, device=x.device) <= position.view(rows, 1, 1, 1) if self.causal else None
            mixed.append(F.scaled_dot_product_attention(q[first : first + rows], k, v, attn_mask=seen))
            first, start = first + rows, start + rows * length
        return self.out(torch.cat(mixed).view(-1, hidden))


class TransformerLayer(SelfAttention):
    """One Transformer layer of SASRec as in RecBole: post-LayerNorm, GELU."""

    def __init__(
        self, hidden: int, inner: int, heads: int, dropout: float, attention_dropout: float, causal: bool = True
    ) -> None:
        super().__init__(hidden, heads, attention_dropout, causal)
        self.norm_attention = nn.LayerNorm(hidden, eps=1e-12)
        self.up = nn.Linear(hidden, inner)
        self.down = nn.Linear(inner, hidden)
        self.norm_feedforward = nn.LayerNorm(hidden, eps=1e-12)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, groups: Groups) -> Tensor:
        return self.feed_forward(self.norm_attention(x + self.dropout(self.attend(x, groups))))

    def at(self, x: Tensor, groups: Groups, tokens: Tensor) -> Tensor:
        """Return `forward` at the last token of each sequence, without dropout; `tokens` as in `attend_at`."""
        return self.feed_forward(self.norm_attention(x[tokens] + self.attend_at(x, groups, tokens)))

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.norm_feedforward(x + self.dropout(self.down(F.gelu(self.up(x)))))


class GPT2Layer(SelfAttention):
    """A layer of GPT-2: LayerNorm before attention and before the feed-forward part."""

    def __init__(self, hidden: int, inner: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__(hidden, heads, attention_dropout)
        self.norm_attention, self.norm_feedforward = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.up, self.down = nn.Linear(hidden, inner), nn.Linear(inner, hidden)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, groups: Groups) -> Tensor:
        return self.feed_forward(x + self.dropout(self.attend(self.norm_attention(x), groups)))

    def at(self, x: Tensor, groups: Groups, tokens: Tensor) -> Tensor:
        return self.feed_forward(x[tokens] + self.attend_at(self.norm_attention(x), groups, tokens))

    def feed_forward(self, x: Tensor) -> Tensor:
        inner = F.gelu(self.up(self.norm_feedforward(x)), approximate="tanh")
        return x + self.dropout(self.down(inner))


def scale_residuals(layers: Sequence[GPT2Layer]) -> None:
    """Shrink the initial outputs of the layers' branches as GPT-2 does, so that their sum keeps its scale."""
    for layer in layers:
        for weight in (layer.out.weight, layer.down.weight):
            weight.data /= (2 * len(layers)) ** 0.5


class SequenceEncoder(nn.Module):
    """Positions, LayerNorm and dropout over item vectors, then layers: SASRec's encoder with `TransformerLayer`.

    Sequences are packed (`sequences.pack`) and padded at the right within their group. Causality keeps padding from
    affecting real positions, so no padding mask is needed; outputs at padded positions are never read.

    Args:
        layers: at least one module with `forward(x, groups)` and `at(x, groups, tokens)`.
        norm: whether the sum of item and position is normalised.
        from_last: whether positions are counted from the last item. Sequences must then be packed without padding.
    """

    def __init__(
        self,
        hidden: int,
        max_length: int,
        dropout: float,
        layers: Iterable[nn.Module],
        norm: bool = True,
        from_last: bool = False,
    ) -> None:
        super().__init__()
        self.max_length, self.from_last = max_length, from_last
        self.positions = nn.Embedding(max_length, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-12) if norm else nn.Identity()
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, groups: IntArray) -> Tensor:
        """Return (total, hidden) states of packed vectors, for (n_groups, 2) numbers of rows and lengths. The state at
        position t depends on items 0..t, and on the sequence's length if positions are counted from its last item."""
        packed = self._groups(x, groups)
        x = self._with_positions(x, groups)
        for layer in self.layers:
            x = layer(x, packed)
        return x

    def last(self, x: Tensor, groups: IntArray, last: IntArray) -> Tensor:
        """Return (n, hidden) `forward` at the last token of each sequence, skipping most of the top layer for the
        others."""
        order = np.argsort(last)
        packed = self._groups(x, groups, last[order])
        x = self._with_positions(x, groups)
        *below, top = self.layers
        for layer in below:
            x = layer(x, packed)
        tokens, place = copied_to(torch.from_numpy(np.stack([last[order], np.argsort(order)])), x.device)
        return top.at(x, packed, tokens)[place]  # type: ignore[operator]

    def keys_and_values(self, x: Tensor, groups: IntArray) -> list[Tensor]:
        """Return (total, 2 * hidden) for each layer what tokens after a sequence attend to, of `GPT2Layer`s."""
        packed, found = self._groups(x, groups), list[Tensor]()
        x = self._with_positions(x, groups)
        for layer in self.layers:
            found.append(layer.keys_and_values(layer.norm_attention(x)))  # type: ignore[operator]
            if len(found) < len(self.layers):
                x = layer(x, packed)
        return found

    def _groups(self, x: Tensor, groups: IntArray, last: IntArray | None = None) -> Groups:
        if on_cpu(x):
            return Groups(group_shapes(groups), None)
        widths = np.repeat(groups[:, 1], groups[:, 0])
        causal: bool = self.layers[0].causal  # type: ignore[assignment]
        packed = Groups(group_shapes(groups), blocks_of(x, widths, widths, causal=causal))
        if last is None:
            return packed
        starts, one = starts_of(widths), np.ones_like(widths)
        return replace(packed, at_last=blocks_of(x, one, one, Keys.own(starts, last - starts + 1)))

    def _with_positions(self, x: Tensor, groups: IntArray) -> Tensor:
        places = [np.tile(np.arange(length), rows) for rows, length in groups]
        if self.from_last:
            places = [place[::-1] for place in places]
        position = copied_to(torch.from_numpy(np.concatenate(places)), x.device)
        return self.dropout(self.norm(x + self.positions(position)))


def sasrec_encoder(config: Any, causal: bool = True, from_last: bool = False) -> SequenceEncoder:
    sizes = config.hidden_size, config.inner_size, config.heads, config.dropout, config.attention_dropout
    layers = [TransformerLayer(*sizes, causal) for _ in range(config.layers)]
    return SequenceEncoder(config.hidden_size, config.max_length, config.dropout, layers, from_last=from_last)


def group_shapes(groups: IntArray) -> list[tuple[int, int]]:
    """Return the number of rows and the length of each group of a packing, (n_groups, 2)."""
    return [(rows, length) for rows, length in groups.tolist()]


def initialise(module: nn.Module) -> None:
    """Initialise a module as RecBole does: weights N(0, 0.02²), biases 0, LayerNorm (1, 0). For `module.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
