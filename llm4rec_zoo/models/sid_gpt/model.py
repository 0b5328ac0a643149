"""A decoder-only model of semantic ids: GPT-2 over the codes of a user's items.

    START c₁₁ c₁₂ … START c₂₁ c₂₂ …

Each token predicts the code after it, by a softmax over the codebook of that level. So one pass over a sequence trains
every target, where an encoder-decoder (`tiger`) reads the history once for each. `rpg` is as cheap, but predicts the
codes of an item independently. Items are ranked as `generated_ids` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.data.examples import Examples, IntArray, slices
from llm4rec_cli.data.split import Split
from llm4rec_cli.ids.item_ids import END, ItemIds
from llm4rec_cli.models.base import Batch, Context
from llm4rec_cli.models.shared import decoding
from llm4rec_cli.models.shared.batch import as_tensors
from llm4rec_cli.models.shared.decoding import KeyValueCache, Memory, split_heads
from llm4rec_cli.models.shared.layers import GPT2Layer, SequenceEncoder, group_shapes, initialise, scale_residuals
from llm4rec_cli.models.shared.losses import catalogue_cross_entropy
from llm4rec_cli.models.shared.sequences import SequenceRows, pack
from llm4rec_cli.models.shared.trie import START
from llm4rec_zoo.ids.generated_ids import IdRanker, IdTokens
from llm4rec_zoo.ids.semantic import codes_of
from llm4rec_zoo.models.sid_gpt.config import SidGPTConfig


class ItemTokens:
    """START and the tokens of each item's id."""

    def __init__(self, tokens: IdTokens) -> None:
        self.padded = np.column_stack([np.full(len(tokens.of_code), START), tokens.of_code])  # by END
        self.longest = self.padded.shape[1]

    def of(self, items: IntArray) -> tuple[IntArray, IntArray]:
        """Return the tokens of items, one after another, and how many each has."""
        rows = self.padded[items]
        real = rows != END
        return rows[real], real.sum(1)


class TokenRows:
    """The tokens of a sequence in a row, or of windows of a long one, as `SequenceRows` covers it."""

    def __init__(self, split: Split, tokens: ItemTokens, first: IntArray, max_length: int) -> None:
        self.tokens, self.first, self.windows = tokens, first, SequenceRows(split, max_length)

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Return packed `tokens` (total,), the n places among them that are `read` (n,), level by level, the codes that
        follow these, `targets` (n,), and the arrays `n_of_level` and `groups` (n_groups, 2)."""
        windows, start = self.windows, self.windows.starts[indices]
        n_items = windows.lengths[indices] + 1  # the inputs, and the last one's target
        items, offsets = slices(windows.flat, start, start + n_items)
        place = np.arange(len(items)) - np.repeat(offsets[:-1], n_items)
        is_target = place > np.repeat(windows.first_loss[indices], n_items)
        tokens, n_tokens = self.tokens.of(items)
        following = np.append(tokens[1:], START)
        has_loss = (following != START) & np.repeat(is_target, n_tokens)
        lengths = np.add.reduceat(n_tokens, offsets[:-1])
        packing = pack(lengths)
        source = _sources(packing.row, packing.position, lengths)
        read = np.flatnonzero(has_loss[source] & (packing.position < lengths[packing.row]))
        level = np.searchsorted(self.first, following[source[read]], side="right") - 1
        read = read[np.argsort(level, kind="stable")]
        numbers = {"tokens": tokens[source], "read": read, "targets": following[source[read]]}
        n_of_level = np.bincount(level, minlength=len(self.first) - 1)
        return {**as_tensors(numbers), "n_of_level": n_of_level, "groups": packing.groups}


def _sources(row: IntArray, position: IntArray, lengths: IntArray) -> IntArray:
    """Return where the token at each place of a packing is, in rows one after another; the last one of a row at its
    padding."""
    first = np.cumsum(lengths) - lengths
    return first[row] + np.minimum(position, np.maximum(lengths[row] - 1, 0))


class SidGPT(IdRanker):
    """A causal Transformer over tokens of codes, whose embeddings are also its output layer."""

    averages_targets = False

    def __init__(self, config: SidGPTConfig, context: Context, ids: ItemIds) -> None:
        super().__init__(context.split, ids, config.beams)
        self.max_length, self.item_tokens = config.max_length, ItemTokens(self.id_tokens)
        self.tokens = nn.Embedding(int(self.id_tokens.first[-1]), config.hidden_size)
        sizes = config.hidden_size, config.inner_size, config.heads, config.dropout, config.attention_dropout
        layers = [GPT2Layer(*sizes) for _ in range(config.layers)]
        longest = (config.max_length + 1) * self.item_tokens.longest
        self.encoder = SequenceEncoder(config.hidden_size, longest, config.dropout, layers, norm=False)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.apply(initialise)
        scale_residuals(layers)

    def training_rows(self) -> TokenRows:
        return TokenRows(self.split, self.item_tokens, self.id_tokens.first, self.max_length)

    def forward(
        self, tokens: Tensor, read: Tensor, targets: Tensor, n_of_level: IntArray, groups: IntArray
    ) -> dict[str, Any]:
        """Return the mean cross-entropy over the codes of all targets of a batch of `TokenRows`, each within its
        level."""
        states = self.norm(self.encoder(self.tokens(tokens), groups))
        codebooks = self.tokens.weight.split([1, *self.item_codes.sizes])[1:]
        n, total = n_of_level.tolist(), states.new_zeros(())
        levels = zip(codebooks, self.id_tokens.first.tolist(), read.split(n), targets.split(n), strict=False)
        for codebook, first, places, codes in levels:
            if len(places):
                loss = catalogue_cross_entropy(states[places], codebook, codes - first)
                total = total + loss * len(places)
        return {"loss": total / len(read), "n_terms": len(read)}

    @property
    def decoder(self) -> CausalDecoder:
        return CausalDecoder(self)

    @torch.no_grad()
    def memories(self, examples: Examples) -> Iterator[tuple[Memory, IntArray]]:
        """Yield keys and values of the latest items of histories of similar length, and the indices of these."""
        items, offsets = examples.histories(self.max_length)
        tokens, n_tokens = self.item_tokens.of(items)
        total = np.append(0, np.cumsum(n_tokens))[offsets]
        lengths = np.diff(total)
        order = np.argsort(lengths, kind="stable")
        bounds = np.flatnonzero(np.diff(np.cumsum(lengths[order]) // decoding.SOURCE_TOKENS_PER_BATCH)) + 1
        for chunk in np.split(order, bounds):
            flat, _ = slices(tokens, total[chunk], total[chunk + 1])
            yield from self._memories(flat, lengths[chunk], chunk)

    def _memories(self, tokens: IntArray, lengths: IntArray, indices: IntArray) -> Iterator[tuple[Memory, IntArray]]:
        packing, device = pack(lengths), self.tokens.weight.device
        source = _sources(packing.row, packing.position, lengths)
        packed = torch.from_numpy(np.append(tokens, START)[source].astype(np.int64)).to(
            device
        )  # START: of an empty one
        shapes = group_shapes(packing.groups)
        sizes = [rows * length for rows, length in shapes]
        by_layer = self.encoder.keys_and_values(self.tokens(packed), packing.groups)
        parts = zip(*(part.split(sizes) for part in by_layer), strict=True)
        rows_of = np.split(packing.row, np.cumsum(sizes)[:-1])
        for (rows, longest), layers, row in zip(shapes, parts, rows_of, strict=True):
            row = row[::longest]
            heads = self.encoder.layers[0].heads
            kv = [part.view(rows, longest, 2, heads, -1).permute(2, 0, 3, 1, 4) for part in layers]
            padding = torch.arange(longest) >= torch.from_numpy(lengths[row])[:, None]
            mask = torch.zeros(padding.shape, device=device).masked_fill_(padding.to(device), -torch.inf)
            yield Memory([k for k, _ in kv], [v for _, v in kv], mask[:, None, None]), indices[row]


class CausalDecoder:
    """The decoder of a SidGPT, whose tokens attend to those of the history, too."""

    def __init__(self, model: SidGPT) -> None:
        self.model = model

    @property
    def output(self) -> Tensor:
        return self.model.tokens.weight

    def states(self, memory: Memory, tokens: Tensor, distance: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        assert memory.mask is not None
        encoder = self.model.encoder
        layers: Iterable[Any] = encoder.layers
        depth = distance.amax(-1)  # the root is the token farthest above
        length = memory.mask.isfinite().sum(-1).view(-1, 1)
        x = self.model.tokens(tokens) + encoder.positions(length + depth)
        past = memory.mask.expand(-1, -1, x.shape[1], -1)
        own = torch.zeros_like(distance, dtype=past.dtype).masked_fill(distance < 0, -torch.inf)[:, None]
        mask = torch.cat([past, own.expand(len(x), -1, -1, -1)], -1)
        for i, layer in enumerate(layers):
            q, k, v = (split_heads(part, layer.heads) for part in layer.qkv(layer.norm_attention(x)).chunk(3, -1))
            if cache is not None:
                k, v = cache.add(i, k, v)
            k, v = torch.cat([memory.keys[i], k], 2), torch.cat([memory.values[i], v], 2)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
            x = layer.feed_forward(x + layer.out(mixed.transpose(1, 2).flatten(2)))
        if cache is not None:
            cache.filled += tokens.shape[1]
        return self.model.norm(x).float()


def build(context: Context) -> SidGPT:
    return SidGPT(context.config, context, codes_of(context))
