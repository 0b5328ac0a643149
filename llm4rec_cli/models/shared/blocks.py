"""Attention on an accelerator: rows of any lengths in at most eight padded blocks, each one fused operator.

Everything but attention runs on one flat array of tokens. Queries, keys and values are gathered from it into the
blocks, and the outputs back. NumPy lengths decide on the blocks, so that nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.shared.batch import copied_to

MOST_BLOCKS = 8
LITTLE = 1.1  # padded tokens for each real one that are not worth another block
CUTS = 64  # lengths at which a block may end: bounds the time to choose among them


@dataclass(frozen=True)
class Keys:
    """What each of n rows attends to in a flat array: `length` (n,) tokens from `start` (n,) on, at least one; and
    before these `n_before` (n,) tokens from `before` (n,) on, which several rows may share."""

    start: IntArray
    length: IntArray
    before: IntArray
    n_before: IntArray

    @classmethod
    def own(cls, start: IntArray, length: IntArray) -> Keys:
        nothing = np.zeros_like(start)
        return cls(start, length, nothing, nothing)

    @property
    def n(self) -> IntArray:
        return self.n_before + self.length

    def index(self, rows: IntArray, width: int) -> IntArray:
        """Return (len(rows), width) the places of the keys of some rows; after the last one its place again."""
        before, n_before = self.before[rows, None], self.n_before[rows, None]
        place = np.minimum(np.arange(width), self.n[rows, None] - 1)
        return np.where(place < n_before, before + place, self.start[rows, None] + place - n_before)


@dataclass(frozen=True)
class Blocks:
    """Rows of queries, and the keys of each row, in padded blocks.

    Attributes:
        shapes: rows, queries and keys of each block.
        queries, keys: (padded total,) the place of each in its flat array.
        outputs: (total,) the place in the blocks of each query of the flat array.
        masks: of each block (rows, 1, 1 or queries, keys) 0, or -inf at keys that are not attended to; None where each
            query attends to all keys, or with `causal` to all but later ones.
    """

    shapes: list[tuple[int, int, int]]
    queries: Tensor
    keys: Tensor
    outputs: Tensor
    masks: list[Tensor | None]
    causal: bool

    def parts(self, x: Tensor) -> list[Tensor]:
        """Return vectors of the flat array as (rows, queries, size) of each block, with zeros after a row's end."""
        of_queries = x.index_select(0, self.queries)
        is_padding = F.pad(self.queries[1:] == self.queries[:-1], (1, 0))  # which repeats the row's last place
        parts = of_queries.masked_fill(is_padding.unsqueeze(1), 0).split([rows * n for rows, n, _ in self.shapes])
        return [part.unflatten(0, (rows, n)) for part, (rows, n, _) in zip(parts, self.shapes, strict=True)]

    def attend(
        self,
        q: Tensor,
        kv: Tensor,
        dropout: float = 0.0,
        scale: float | None = None,
        masks: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """Return (total queries, heads * d) attention.

        Args:
            q, kv: (total queries, heads, d) and (total keys, 2, key heads, d). Heads share key heads evenly.
            scale: of the inner products; None = 1 / sqrt(d).
            masks: replace those of the blocks.
        """
        q, kv = q.index_select(0, self.queries), kv.index_select(0, self.keys)
        if (sharing := q.shape[1] // kv.shape[2]) > 1:
            kv = kv.unsqueeze(3).expand(-1, -1, -1, sharing, -1).flatten(2, 3)
        parts_of_q = q.split([rows * queries for rows, queries, _ in self.shapes])
        parts_of_kv = kv.split([rows * keys for rows, _, keys in self.shapes])
        mixed = []
        blocks = zip(self.shapes, parts_of_q, parts_of_kv, masks or self.masks, strict=True)
        for (rows, _, _), part_of_q, part_of_kv, mask in blocks:
            of_q, of_k, of_v = (x.unflatten(0, (rows, -1)).transpose(1, 2) for x in (part_of_q, *part_of_kv.unbind(1)))
            out = F.scaled_dot_product_attention(
                of_q, of_k, of_v, attn_mask=mask, dropout_p=dropout, is_causal=self.causal and mask is None, scale=scale
            )
            mixed.append(out.transpose(1, 2).flatten(2).flatten(0, 1))
        return torch.cat(mixed).index_select(0, self.outputs)


def blocks_of(x: Tensor, widths: IntArray, lengths: IntArray, keys: Keys | None = None, causal: bool = False) -> Blocks:
    """Return the blocks of rows of queries that lie one after another.

    Args:
        x: a tensor of the flat array, for its device and its dtype.
        widths, lengths: (n,) the queries of each row, with and without padding at its end.
        keys: what each row attends to; None = to itself.
        causal: whether a query attends to none of its row's own keys after itself.
    """
    starts = starts_of(widths)
    keys = keys or Keys.own(starts, lengths)
    parts = partition(lengths, keys.n)
    shapes = [(len(rows), int(lengths[rows].max()), int(keys.n[rows].max())) for rows in parts]
    in_blocks = Keys.own(starts, lengths)
    queries = [in_blocks.index(rows, width).ravel() for rows, (_, width, _) in zip(parts, shapes, strict=True)]
    of_keys = [keys.index(rows, width).ravel() for rows, (_, _, width) in zip(parts, shapes, strict=True)]
    order = np.concatenate(parts)
    begin = np.empty_like(widths)
    begin[order] = starts_of(np.repeat([width for _, width, _ in shapes], [rows for rows, _, _ in shapes]))
    position = np.arange(widths.sum()) - np.repeat(starts, widths)
    outputs = np.repeat(begin, widths) + np.minimum(position, np.repeat(lengths, widths) - 1)
    last = keys.n_before if causal else keys.n - 1  # that the row's first query attends to
    arrays = [np.concatenate(queries), np.concatenate(of_keys), outputs, last[order]]
    copied = copied_to(torch.from_numpy(np.concatenate(arrays).astype(np.int64)), x.device)
    of_queries, of_keys_, of_outputs, of_last = copied.split([len(array) for array in arrays])
    is_masked = [
        bool(keys.n_before[rows].any() if causal else (keys.n[rows] < width).any())
        for rows, (_, _, width) in zip(parts, shapes, strict=True)
    ]
    masks = [
        _mask(part, shape, causal, dtype_of(x)) if masked else None
        for part, shape, masked in zip(of_last.split([len(rows) for rows in parts]), shapes, is_masked, strict=True)
    ]
    return Blocks(shapes, of_queries, of_keys_, of_outputs, masks, causal)


def _mask(last: Tensor, shape: tuple[int, int, int], causal: bool, dtype: torch.dtype) -> Tensor:
    """Return (rows, 1, 1 or queries, keys) 0, or -inf after the last key that a query attends to, `last` (rows,) for
    its row's first query."""
    _, queries, keys = shape
    last = last.view(-1, 1, 1, 1)
    if causal:
        last = last + torch.arange(queries, device=last.device).unsqueeze(1)
    hidden = torch.arange(keys, device=last.device) > last
    return torch.zeros(hidden.shape, dtype=dtype, device=last.device).masked_fill_(hidden, -torch.inf)


def dtype_of(x: Tensor) -> torch.dtype:
    """Return the dtype of products of `x`: autocast's, or its own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def starts_of(lengths: IntArray) -> IntArray:
    """Return where each of some spans begins that lie one after another."""
    return np.cumsum(lengths) - lengths


def partition(n_queries: IntArray, n_keys: IntArray, most: int = MOST_BLOCKS) -> list[IntArray]:
    """Divide rows into the fewest blocks that LITTLE bounds the padded queries and keys of, or into `most` blocks with
    the fewest of these, among blocks of consecutive numbers of keys that end at one of CUTS lengths."""
    order = np.lexsort((n_queries, n_keys))
    step = -(-int(n_keys.max()) // CUTS)
    ends = np.flatnonzero(np.diff(-(-n_keys[order] // step), append=-1))  # the last row of each length
    first = np.append(0, ends[:-1] + 1)
    rows = np.arange(len(ends))
    most_queries = np.maximum.reduceat(n_queries[order], first)
    longest = np.maximum.accumulate(np.where(rows >= rows[:, None], most_queries, 0), axis=1)
    cost = (ends + 1 - first[:, None]) * (longest + n_keys[order][ends]).astype(float)
    cost[rows < rows[:, None]] = np.inf
    least, begins, enough = cost[0], [], LITTLE * (n_queries.sum() + n_keys.sum())
    for _ in range(min(most, len(ends)) - 1):
        if least[-1] <= enough:
            break
        total = np.append(0, least[:-1])[:, None] + cost  # of the rows before the last block, and of the block
        begins.append(total.argmin(axis=0))
        least = total.min(axis=0)
    bounds, end = [], len(ends) - 1
    for begin in reversed(begins):
        if not (start := int(begin[end])):
            break
        bounds.append(first[start])
        end = start - 1
    return np.split(order, bounds[::-1])
