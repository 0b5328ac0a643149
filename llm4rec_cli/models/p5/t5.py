"""T5 without padding: its published weights and layers, run on packed tokens, with P5's whole-word embeddings.

`transformers.T5ForConditionalGeneration` holds the weights, so a checkpoint from the hub fits. Everything but attention
runs on one flat array of tokens; attention runs on groups of rows of like length (`Groups`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.p5.config import SHAPES
from llm4rec_cli.models.shared.layers import dropped_out
from llm4rec_cli.text.weights import BACKBONE, locate_weights

MAX_WORDS = 512  # whole words that have an embedding of their own (code); later ones share the last


@dataclass(frozen=True)
class Groups:
    """Rows of like length behind one another in one flat array, each group padded to its longest.

    Attributes:
        order: (n,) the row that stands at each place.
        shapes: of each group, (rows, longest source, longest target).
        source, target: (n,) lengths, in the order of places.
    """

    order: IntArray
    shapes: list[tuple[int, int, int]]
    source: IntArray
    target: IntArray

    @classmethod
    def of(cls, order: Tensor, shapes: Tensor, lengths: Tensor) -> Groups:
        """The groups that a batch holds, as `rows.packed` gives it."""
        source, target = lengths.cpu().numpy().T
        return cls(order.cpu().numpy(), [(n, s, t) for n, s, t in shapes.tolist()], source, target)


def grouped(source: IntArray, target: IntArray) -> Groups:
    """Groups rows by the length of their source, then of their target; no length is below a group's longest by half.

    Args:
        source, target: (n,) lengths, at least 1.
    """
    steps = np.stack([_step(source), _step(target)])
    order = np.lexsort((target, source, steps[1], steps[0]))
    bounds = np.flatnonzero(np.any(np.diff(steps[:, order], axis=1, prepend=-1), axis=0))
    shapes = [(len(rows), int(source[rows].max()), int(target[rows].max())) for rows in np.split(order, bounds[1:])]
    return Groups(order, shapes, source[order], target[order])


def _step(length: IntArray) -> IntArray:
    """The step of a ladder on which a length stands, each step 1.4 times the one before."""
    return np.ceil(np.log(np.maximum(length, 4)) / np.log(1.4)).astype(np.int64)


def padded(rows: Sequence[IntArray], groups: Groups, side: int, fill: int) -> IntArray:
    """(total,) the rows' tokens as the groups have them; side 1 = sources, 2 = targets."""
    out = np.full(sum(shape[0] * shape[side] for shape in groups.shapes), fill, dtype=np.int64)
    at = place = 0
    for shape in groups.shapes:
        for row in groups.order[place : place + shape[0]]:
            out[at : at + len(rows[row])] = rows[row]
            at += shape[side]
        place += shape[0]
    return out


def load(backbone: str, n_tokens: int, dropout: float) -> T5ForConditionalGeneration:
    """The weights: from a shape of SHAPES drawn anew (by torch's own generator), or from a hub id or folder.

    Args:
        n_tokens: of the vocabulary; a published table grows by new rows where it is smaller.

    Raises:
        UsageError: nothing goes by that name.
    """
    if backbone in SHAPES:
        shape = SHAPES[backbone]
        return T5ForConditionalGeneration(
            T5Config(
                vocab_size=n_tokens,
                d_model=shape.width,
                d_kv=shape.head_size,
                d_ff=shape.inner_size,
                num_layers=shape.layers,
                num_heads=shape.heads,
                dropout_rate=dropout,
            )
        )
    folder, _ = locate_weights(backbone, BACKBONE)
    t5 = T5ForConditionalGeneration.from_pretrained(
        folder, dropout_rate=dropout, dtype=torch.float32, use_safetensors=True
    )
    if n_tokens > t5.config.vocab_size:
        t5.resize_token_embeddings(n_tokens, mean_resizing=False)
    return t5


class PackedT5(nn.Module):
    """A T5 whose encoder also reads which whole word each token belongs to.

    Args:
        t5: holds the weights.
        whole_word: whether there are whole-word embeddings (paper, section 3.2).
    """

    def __init__(self, t5: T5ForConditionalGeneration, whole_word: bool) -> None:
        super().__init__()
        self.t5 = t5
        self.words = nn.Embedding(MAX_WORDS, t5.config.d_model) if whole_word else None
        if self.words is not None:
            nn.init.normal_(self.words.weight, std=t5.config.initializer_factor)  # as T5 draws its token embeddings
        # One table goes by several names, and a file of weights holds each tensor once.
        once = {weight.data_ptr(): name for name, weight in reversed([*self.named_parameters(remove_duplicate=False)])}
        self.also = {
            name: once[weight.data_ptr()]
            for name, weight in self.named_parameters(remove_duplicate=False)
            if once[weight.data_ptr()] != name
        }
        self.register_state_dict_post_hook(_without_copies)
        self.register_load_state_dict_pre_hook(_with_copies)

    @property
    def config(self) -> Any:
        return self.t5.config

    def encode(self, tokens: Tensor, words: Tensor | None, groups: Groups) -> Tensor:
        """(total, d) states of packed source tokens.

        Args:
            tokens: (total,) int64.
            words: (total,) int64, the number of each token's whole word from 1; 0 = of none. None = not told.
        """
        x = self.t5.shared(tokens)
        if self.words is not None and words is not None:
            x = x + self.words(words.clamp(max=MAX_WORDS - 1))
        stack: Any = self.t5.encoder
        x = self._dropped(x)
        shapes = [(rows, length) for rows, length, _ in groups.shapes]
        biases = _biases(stack.block[0].layer[0].SelfAttention, shapes, groups.source, causal=False)
        for block in stack.block:
            x = x + self._dropped(self._attend_within(block.layer[0], x, shapes, biases))
            x = x + self._dropped(self._feed_forward(block.layer[1], x))
        return self._dropped(normed(x, stack.final_layer_norm))

    def decode(self, tokens: Tensor, memory: Tensor, groups: Groups) -> Tensor:
        """(total, d) states of packed decoder inputs, ready for the output embedding.

        Args:
            tokens: (total,) int64, each target behind the start token and without its last.
            memory: (total source, d) of `encode`.
        """
        stack: Any = self.t5.decoder
        x = self._dropped(self.t5.shared(tokens))
        shapes = [(rows, length) for rows, _, length in groups.shapes]
        biases = _biases(stack.block[0].layer[0].SelfAttention, shapes, groups.target, causal=True)
        seen = _masks(groups, tokens.device)
        for block in stack.block:
            x = x + self._dropped(self._attend_within(block.layer[0], x, shapes, biases))
            x = x + self._dropped(self._attend_across(block.layer[1], x, memory, groups.shapes, seen))
            x = x + self._dropped(self._feed_forward(block.layer[2], x))
        x = self._dropped(normed(x, stack.final_layer_norm))
        return x * self.config.d_model**-0.5 if self.config.scale_decoder_outputs else x

    def _dropped(self, x: Tensor) -> Tensor:
        p = self.config.dropout_rate
        return dropped_out(x, p) if self.training and p > 0 else x

    def _feed_forward(self, layer: Any, x: Tensor) -> Tensor:
        h, dense = normed(x, layer.layer_norm), layer.DenseReluDense
        if self.config.is_gated_act:
            return dense.wo(self._dropped(dense.act(dense.wi_0(h)) * dense.wi_1(h)))
        return dense.wo(self._dropped(dense.act(dense.wi(h))))

    def _attend_within(self, layer: Any, x: Tensor, shapes: list[tuple[int, int]], biases: list[Tensor]) -> Tensor:
        attention, h = layer.SelfAttention, normed(x, layer.layer_norm)
        projections = torch.cat([attention.q.weight, attention.k.weight, attention.v.weight])
        mixed, heads = [], attention.n_heads
        parts = F.linear(h, projections).to(x.dtype).split([rows * length for rows, length in shapes])
        # On a CPU in fp32: a bf16 product this small costs less than the kernel set up for its shape.
        with torch.autocast("cpu", enabled=False):
            for (rows, length), part, bias in zip(shapes, parts, biases, strict=True):
                q, k, v = part.view(rows, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
                mixed.append(self._mix(q, k, v, bias).transpose(1, 2).reshape(rows * length, -1))
        return attention.o(torch.cat(mixed))

    def _attend_across(
        self, layer: Any, x: Tensor, memory: Tensor, shapes: list[tuple[int, int, int]], seen: list[Tensor | None]
    ) -> Tensor:
        attention, h = layer.EncDecAttention, normed(x, layer.layer_norm)
        heads, mixed = attention.n_heads, []
        keys = F.linear(memory, torch.cat([attention.k.weight, attention.v.weight])).to(x.dtype)
        sources = keys.split([rows * source for rows, source, _ in shapes])
        targets = attention.q(h).to(x.dtype).split([rows * target for rows, _, target in shapes])
        with torch.autocast("cpu", enabled=False):
            for (rows, source, target), kv, wanted, mask in zip(shapes, sources, targets, seen, strict=True):
                k, v = kv.view(rows, source, 2, heads, -1).permute(2, 0, 3, 1, 4)
                q = wanted.view(rows, target, heads, -1).transpose(1, 2)
                mixed.append(self._mix(q, k, v, mask).transpose(1, 2).reshape(rows * target, -1))
        return attention.o(torch.cat(mixed))

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """T5's attention, which does not scale: the relative bias is added to the plain inner products."""
        scores = q @ k.transpose(-1, -2)
        if bias is not None:
            scores = scores + bias.to(scores.dtype)
        return self._dropped(scores.softmax(-1)) @ v


def normed(x: Tensor, layer: Any) -> Tensor:
    """T5's layer norm: over the root mean square, without a mean taken off."""
    out: Tensor = _Normed.apply(x, layer.weight, layer.variance_epsilon)
    return out


class _Normed(torch.autograd.Function):
    """Written out, it takes fifteen passes over the tokens; its gradient by hand, five."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = size.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, scale, weight = ctx.saved_tensors
        product = outer[0] * unit
        along = (product @ weight).div_(-unit.shape[-1]).unsqueeze(-1)
        by_weight = product.t() @ product.new_ones(len(product))
        return (outer[0] * weight).addcmul_(unit, along).mul_(scale), by_weight, None


def _without_copies(module: PackedT5, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    for name in module.also:
        del state[prefix + name]


def _with_copies(module: PackedT5, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, first in module.also.items():
        state[prefix + name] = state[prefix + first]


def _biases(attention: T5Attention, shapes: list[tuple[int, int]], lengths: IntArray, causal: bool) -> list[Tensor]:
    """Of each group what is added to self-attention's scores: the relative bias, -inf where nothing may be seen."""
    table = attention.relative_attention_bias.weight
    found, place = [], 0
    for rows, length in shapes:
        position = torch.arange(length, device=table.device)
        bucket = attention._relative_position_bucket(
            position[None, :] - position[:, None],
            bidirectional=not causal,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        bias = F.embedding(bucket, table).permute(2, 0, 1)
        if causal:  # which also keeps padding, at the end of a row, out of every real position
            future = torch.ones(length, length, dtype=torch.bool, device=table.device).triu(1)
            bias = bias.masked_fill(future, -torch.inf)
        elif (mask := _unseen(lengths[place : place + rows], length, table.device)) is not None:
            bias = bias + mask
        found.append(bias)
        place += rows
    return found


def _masks(groups: Groups, device: torch.device) -> list[Tensor | None]:
    """Of each group (rows, 1, 1, longest source): 0, or -inf at padding; None where nothing is padded."""
    found, place = [], 0
    for rows, longest, _ in groups.shapes:
        found.append(_unseen(groups.source[place : place + rows], longest, device))
        place += rows
    return found


def _unseen(lengths: IntArray, longest: int, device: torch.device) -> Tensor | None:
    if lengths.min() == longest:
        return None
    beyond = torch.arange(longest) >= torch.from_numpy(lengths)[:, None]
    return torch.zeros(len(lengths), 1, 1, longest).masked_fill_(beyond[:, None, None, :], -torch.inf).to(device)
