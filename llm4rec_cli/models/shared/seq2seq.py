"""T5 without padding: published weights and layers, run on packed tokens, optionally with whole-word embeddings.

`transformers.T5ForConditionalGeneration` holds the weights, so a checkpoint from the hub fits. Everything but attention
runs on one flat array of tokens; attention runs on groups of rows of similar length (`Groups`).
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

from llm4rec_cli.arithmetic import on_cpu
from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.base import Batch
from llm4rec_cli.models.shared.batch import as_tensors
from llm4rec_cli.models.shared.blocks import Blocks, Keys, blocks_of, dtype_of, starts_of
from llm4rec_cli.models.shared.layers import dropped_out
from llm4rec_cli.models.shared.t5_shapes import T5_SHAPES, T5Shape
from llm4rec_cli.text.loading import load_pretrained
from llm4rec_cli.text.weights import BACKBONE, locate_weights

PAD = 0  # T5's padding token, which also starts its decoder
Shapes = list[tuple[int, int]]  # of groups: rows and padded length
Pairs = list[tuple[int, int, int]]  # rows, padded source and padded target
MAX_WORDS = 512  # whole words with an embedding of their own (P5's code); later ones share the last


@dataclass(frozen=True)
class Groups:
    """Rows of similar length, stored group by group in one flat array, each group padded to its longest row.

    Attributes:
        order: (n,) the row stored at each place.
        shapes: (rows, longest source, longest target) of each group.
        n_tokens: (n, 2) the lengths of source and target, by place.
    """

    order: IntArray
    shapes: list[tuple[int, int, int]]
    n_tokens: IntArray

    @property
    def rows(self) -> list[int]:
        return [rows for rows, _, _ in self.shapes]

    def source_masks(self, lengths: Tensor) -> list[Tensor | None]:
        """Return for each group (rows, 1, 1, longest) 0, or -inf at padding; None where nothing is padded. Without any
        on an accelerator, which attends in blocks. `lengths` (n,) of the sources, by place."""
        masks: list[Tensor | None] = []
        if not on_cpu(lengths):
            return masks
        first = np.append(0, np.cumsum(self.rows)[:-1])
        shortest = np.minimum.reduceat(self.n_tokens[:, 0], first).tolist()
        for (_, longest, _), least, own in zip(self.shapes, shortest, lengths.split(self.rows), strict=True):
            if least == longest:
                masks.append(None)
                continue
            padding = torch.arange(longest, device=lengths.device) >= own[:, None, None, None]
            masks.append(torch.zeros(padding.shape, device=lengths.device).masked_fill_(padding, -torch.inf))
        return masks

    def widths(self, side: int) -> IntArray:
        """Return (n,) the padded lengths by place; side 1 = sources, 2 = targets."""
        return np.repeat([shape[side] for shape in self.shapes], self.rows)


def groups_of(batch: Batch) -> Groups:
    """Return the groups of a batch of `pack_batch`."""
    order, shapes, n_tokens = (np.asarray(batch[name]) for name in ("order", "shapes", "n_tokens"))
    return Groups(order, [(n, s, t) for n, s, t in shapes.tolist()], n_tokens)


def group_by_length(source: IntArray, target: IntArray) -> Groups:
    """Group rows by the lengths of source and target (>= 1); within a group they differ by less than a factor of
    1.4."""
    steps = np.stack([_length_step(source), _length_step(target)])
    order = np.lexsort((target, source, steps[1], steps[0]))
    bounds = np.flatnonzero(np.any(np.diff(steps[:, order], axis=1, prepend=-1), axis=0))
    parts = np.split(order, bounds[1:])
    shapes = [(len(rows), int(source[rows].max()), int(target[rows].max())) for rows in parts]
    return Groups(order, shapes, np.stack([source, target], axis=1)[order])


def _length_step(length: IntArray) -> IntArray:
    """Return the number of each length's interval. Each interval ends 1.4 times as far as its predecessor."""
    return np.ceil(np.log(np.maximum(length, 4)) / np.log(1.4)).astype(np.int64)


def pack_batch(rows: list[tuple[IntArray, IntArray, IntArray]]) -> Batch:
    """Pack rows of (source, whole words, target) into groups of similar length.

    Returns:
        `source`, `words`: (total source,); `decoder_inputs`: (total target,); of the m tokens of all targets their
        places there, `read` (m,), the tokens, `targets` (m,), and the place of the row of each, `row` (m,);
        `lengths` (n, 2) of source and target, by place; and arrays for `groups_of`.
    """
    sources, words, targets = zip(*rows, strict=True)
    lengths = np.array([[len(source), len(target)] for source, target in zip(sources, targets, strict=True)])
    groups = group_by_length(*lengths.T)
    lengths = groups.n_tokens
    longest = np.repeat([longest for _, _, longest in groups.shapes], groups.rows)
    row = np.repeat(np.arange(len(rows)), lengths[:, 1])
    first = np.repeat(np.cumsum(longest) - longest - np.cumsum(lengths[:, 1]) + lengths[:, 1], lengths[:, 1])
    columns = {
        "source": _pad(sources, groups, 1, PAD),
        "words": _pad(words, groups, 1, 0),
        "decoder_inputs": _pad([target[:-1] for target in targets], groups, 2, PAD, shift=1),
        "read": first + np.arange(len(row)),
        "targets": np.concatenate([targets[i] for i in groups.order]),
        "row": row,
        "lengths": lengths,
    }
    layout = {"order": groups.order, "shapes": np.array(groups.shapes), "n_tokens": lengths}
    return {**as_tensors(columns), **layout}


def _pad(rows: Sequence[IntArray], groups: Groups, side: int, fill: int, shift: int = 0) -> IntArray:
    """Return (total,) the rows' tokens, laid out by group, each row `shift` places from its begin; side 1 = sources,
    2 = targets."""
    in_order = [rows[i] for i in groups.order]
    lengths = np.array(list(map(len, in_order)))
    widths = np.repeat([shape[side] for shape in groups.shapes], groups.rows)
    out = np.full(widths.sum(), fill, dtype=np.int64)
    begin = np.cumsum(widths) - widths + shift
    out[np.arange(lengths.sum()) + np.repeat(begin - np.cumsum(lengths) + lengths, lengths)] = np.concatenate(in_order)
    return out


def load_t5(backbone: str, n_tokens: int, dropout: float) -> T5ForConditionalGeneration:
    """Return a T5: with random weights (by torch's global generator) for a name of T5_SHAPES, else a published one.

    Args:
        backbone: a name of T5_SHAPES, a hub id or a folder.
        n_tokens: size of the vocabulary. A smaller published embedding table gets new rows; of a larger one, as T5's,
            rows that no token has are cut, as P5's code does, so that the softmax leaves them out.

    Raises:
        UsageError: the backbone does not exist.
    """
    if backbone in T5_SHAPES:
        return random_t5(T5_SHAPES[backbone], n_tokens, dropout)
    folder, _ = locate_weights(backbone, BACKBONE)
    t5: T5ForConditionalGeneration = load_pretrained(
        T5ForConditionalGeneration, folder, dropout_rate=dropout, dtype=torch.float32
    )
    if n_tokens != t5.config.vocab_size:
        t5.resize_token_embeddings(n_tokens, mean_resizing=False)
    return t5


def random_t5(shape: T5Shape, n_tokens: int, dropout: float) -> T5ForConditionalGeneration:
    """Return a T5 with random weights, by torch's global generator."""
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


class PackedT5(nn.Module):
    """A T5 whose encoder also reads which whole word each token belongs to, if `whole_word` (P5, section 3.2)."""

    def __init__(self, t5: T5ForConditionalGeneration, whole_word: bool) -> None:
        super().__init__()
        self.t5 = t5
        self.words = nn.Embedding(MAX_WORDS, t5.config.d_model) if whole_word else None
        if self.words is not None:
            nn.init.normal_(self.words.weight, std=t5.config.initializer_factor)  # as T5 draws its token embeddings
        # The embedding table has several names, and a safetensors file stores each tensor once.
        first = {weight.data_ptr(): name for name, weight in reversed([*self.named_parameters(remove_duplicate=False)])}
        self.tied_names = {
            name: first[weight.data_ptr()]
            for name, weight in self.named_parameters(remove_duplicate=False)
            if first[weight.data_ptr()] != name
        }
        self.register_state_dict_post_hook(_drop_tied_weights)
        self.register_load_state_dict_pre_hook(_restore_tied_weights)

    @property
    def config(self) -> Any:
        return self.t5.config

    def encode(self, tokens: Tensor, words: Tensor | None, groups: Groups, masks: list[Tensor | None]) -> Tensor:
        """Return (total, d) states of packed source tokens.

        Args:
            words: numbers each token's whole word, from 1; 0 = no word.
            masks: of `Groups.source_masks`.
        """
        x = self.t5.shared(tokens)
        if self.words is not None and words is not None:
            x = x + self.words(words.clamp(max=MAX_WORDS - 1))
        stack: Any = self.t5.encoder
        x = self._dropout(x)
        rows: Shapes | Blocks = [(rows, length) for rows, length, _ in groups.shapes]
        if not on_cpu(x):
            rows = blocks_of(x, groups.widths(1), groups.n_tokens[:, 0])
        biases = _relative_biases(stack.block[0].layer[0].SelfAttention, rows, masks)
        for block in stack.block:
            x = x + self._dropout(self._self_attention(block.layer[0], x, rows, biases))
            x = x + self._dropout(self._feed_forward(block.layer[1], x))
        return self._dropout(rms_norm(x, stack.final_layer_norm))

    def decode(self, tokens: Tensor, memory: Tensor, groups: Groups, masks: list[Tensor | None]) -> Tensor:
        """Return (total, d) states of packed decoder inputs, ready for the output embedding, from the states of
        `encode` and its masks."""
        stack: Any = self.t5.decoder
        x = self._dropout(self.t5.shared(tokens))
        rows: Shapes | Blocks = [(rows, length) for rows, _, length in groups.shapes]
        pairs: Pairs | Blocks = groups.shapes
        if not on_cpu(x):
            targets, (n_source, n_target) = groups.widths(2), groups.n_tokens.T
            rows = blocks_of(x, targets, n_target, causal=True)
            pairs = blocks_of(x, targets, n_target, Keys.own(starts_of(groups.widths(1)), n_source))
        biases = _relative_biases(stack.block[0].layer[0].SelfAttention, rows, None)
        for block in stack.block:
            x = x + self._dropout(self._self_attention(block.layer[0], x, rows, biases))
            x = x + self._dropout(self._cross_attention(block.layer[1], x, memory, pairs, masks))
            x = x + self._dropout(self._feed_forward(block.layer[2], x))
        x = self._dropout(rms_norm(x, stack.final_layer_norm))
        return x * self.config.d_model**-0.5 if self.config.scale_decoder_outputs else x

    def target_logits(
        self,
        source: Tensor,
        words: Tensor | None,
        decoder_inputs: Tensor,
        read: Tensor,
        lengths: Tensor,
        **layout: IntArray,
    ) -> Tensor:
        """Return (m, tokens) the logits of each target token, by `Groups`, from a batch of `pack_batch`."""
        groups = groups_of({**layout})
        masks = groups.source_masks(lengths[:, 0])
        states = self.decode(decoder_inputs, self.encode(source, words, groups, masks), groups, masks)
        logits: Tensor = self.t5.lm_head(states[read])
        return logits

    def losses(self, targets: Tensor, **batch: Any) -> Tensor:
        """Return (m,) the cross-entropy over all tokens of each target token, from a batch of `pack_batch`."""
        return F.cross_entropy(self.target_logits(**batch).float(), targets, reduction="none")

    def _dropout(self, x: Tensor) -> Tensor:
        p = self.config.dropout_rate
        return dropped_out(x, p) if self.training and p > 0 else x

    def _feed_forward(self, layer: Any, x: Tensor) -> Tensor:
        h, dense = rms_norm(x, layer.layer_norm), layer.DenseReluDense
        if self.config.is_gated_act:
            return dense.wo(self._dropout(dense.act(dense.wi_0(h)) * dense.wi_1(h)))
        return dense.wo(self._dropout(dense.act(dense.wi(h))))

    def _self_attention(self, layer: Any, x: Tensor, rows: Shapes | Blocks, biases: list[Tensor]) -> Tensor:
        attention, h = layer.SelfAttention, rms_norm(x, layer.layer_norm)
        projections = torch.cat([attention.q.weight, attention.k.weight, attention.v.weight])
        mixed, heads, qkv = [], attention.n_heads, F.linear(h, projections)
        if isinstance(rows, Blocks):
            q, kv = qkv.view(len(x), 3, heads, -1).split([1, 2], dim=1)
            return attention.o(rows.attend(q.squeeze(1), kv, self._attention_dropout(), scale=1.0, masks=biases))
        parts = qkv.to(x.dtype).split([n * length for n, length in rows])
        # In fp32: a bf16 product this small costs less than the kernel set up for its shape.
        with torch.autocast("cpu", enabled=False):
            for (n, length), part, bias in zip(rows, parts, biases, strict=True):
                q, k, v = part.view(n, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
                mixed.append(self._attend(q, k, v, bias).transpose(1, 2).reshape(n * length, -1))
        return attention.o(torch.cat(mixed))

    def _cross_attention(
        self, layer: Any, x: Tensor, memory: Tensor, pairs: Pairs | Blocks, masks: list[Tensor | None]
    ) -> Tensor:
        attention, h = layer.EncDecAttention, rms_norm(x, layer.layer_norm)
        heads, mixed = attention.n_heads, []
        keys, queries = F.linear(memory, torch.cat([attention.k.weight, attention.v.weight])), attention.q(h)
        if isinstance(pairs, Blocks):
            q, kv = queries.view(len(x), heads, -1), keys.view(len(memory), 2, heads, -1)
            return attention.o(pairs.attend(q, kv, self._attention_dropout(), scale=1.0))
        sources = keys.to(x.dtype).split([rows * source for rows, source, _ in pairs])
        targets = queries.to(x.dtype).split([rows * target for rows, _, target in pairs])
        with torch.autocast("cpu", enabled=False):
            for (rows, source, target), kv, q, mask in zip(pairs, sources, targets, masks, strict=True):
                k, v = kv.view(rows, source, 2, heads, -1).permute(2, 0, 3, 1, 4)
                q = q.view(rows, target, heads, -1).transpose(1, 2)
                mixed.append(self._attend(q, k, v, mask).transpose(1, 2).reshape(rows * target, -1))
        return attention.o(torch.cat(mixed))

    def _attention_dropout(self) -> float:
        return self.config.dropout_rate if self.training else 0.0

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """T5's attention: the relative bias is added to unscaled inner products."""
        scores = q @ k.transpose(-1, -2)
        if bias is not None:
            scores = scores + bias.to(scores.dtype)
        return self._dropout(scores.softmax(-1)) @ v


def rms_norm(x: Tensor, layer: Any) -> Tensor:
    """T5's layer norm: division by the root mean square, without subtracting the mean."""
    return _RMSNorm.apply(x, layer.weight, layer.variance_epsilon)


class _RMSNorm(torch.autograd.Function):
    """Five passes over the tokens instead of fifteen, by a hand-written gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = size.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, scale, weight = ctx.saved_tensors
        product = grad[0] * unit
        along = (product @ weight).div_(-unit.shape[-1]).unsqueeze(-1)
        by_weight = product.t() @ product.new_ones(len(product))
        return (grad[0] * weight).addcmul_(unit, along).mul_(scale), by_weight, None


def _drop_tied_weights(module: PackedT5, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    for name in module.tied_names:
        del state[prefix + name]


def _restore_tied_weights(module: PackedT5, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, first in module.tied_names.items():
        state[prefix + name] = state[prefix + first]


def _relative_biases(attention: T5Attention, rows: Shapes | Blocks, masks: list[Tensor | None] | None) -> list[Tensor]:
    """Return the bias on self-attention scores of each group or block: T5's relative bias, -inf at masked positions;
    without masks at later positions, which hides the padding at the end of a row, too."""
    if isinstance(rows, Blocks):
        table = attention.relative_attention_bias.weight
        longest = _relative_bias(attention, max(length for _, length, _ in rows.shapes), not rows.causal)
        longest = longest.to(dtype_of(table))
        parts = [longest[:, :length, :length] for _, length, _ in rows.shapes]
        return [part if mask is None else part + mask for part, mask in zip(parts, rows.masks, strict=True)]
    of_groups = [_relative_bias(attention, length, masks is not None) for _, length in rows]
    if masks is None:
        return of_groups
    return [bias if mask is None else bias + mask for bias, mask in zip(of_groups, masks, strict=True)]


def _relative_bias(attention: T5Attention, length: int, bidirectional: bool) -> Tensor:
    """Return (heads, length, length) the bias by relative position, -inf at later ones unless `bidirectional`."""
    position = torch.arange(length, device=attention.relative_attention_bias.weight.device)
    bias = bias_of_positions(attention, position[None, :] - position[:, None], bidirectional).permute(2, 0, 1)
    if bidirectional:
        return bias
    return bias.masked_fill(torch.ones_like(bias[0], dtype=torch.bool).triu(1), -torch.inf)


def bias_of_positions(attention: T5Attention, relative: Tensor, bidirectional: bool) -> Tensor:
    """Return (…, heads) T5's bias of relative positions (…): those of the tokens attended to, minus the token's own."""
    bucket = attention._relative_position_bucket(
        relative,
        bidirectional=bidirectional,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    return F.embedding(bucket, attention.relative_attention_bias.weight)
