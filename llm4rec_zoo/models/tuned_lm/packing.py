"""Prompts as one sequence of tokens without padding, and causal attention within each.

Rows that begin with the same tokens share them: these are computed once, and the rest of each row attends to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.base import Batch
from llm4rec_cli.models.shared import attention
from llm4rec_cli.models.shared.blocks import Blocks, Keys, blocks_of, starts_of

NAME = "packed_causal"  # of this implementation in transformers' registry


class Row(NamedTuple):
    """A sequence of tokens in two parts. Rows with an equal first part share it."""

    shared: tuple[int, ...]
    own: Sequence[int]

    @property
    def tokens(self) -> list[int]:
        return [*self.shared, *self.own]


@dataclass(frozen=True)
class Packed:
    """The tokens of n rows in one sequence.

    Attributes:
        batch: `tokens` and `position` (total,) int64, of each token its position in its row; `segments` (m, 5), an
            array, consecutive blocks of the sequence: first token, rows, tokens per row, and the first and the number
            of the tokens that come before each of these rows.
        starts: of each row, the index in the sequence of its shared and own part's first token, and the shared length.
    """

    batch: Batch
    starts: list[tuple[int, int, int]]

    def place(self, row: int, token: int) -> int:
        """Return the index in the sequence of a row's token."""
        shared, own, n_shared = self.starts[row]
        return shared + token if token < n_shared else own + token - n_shared


def pack(rows: Sequence[Row]) -> Packed:
    """Pack rows, none of which is empty. Rows with the same shared part and length form a segment."""
    tokens: list[int] = []
    position: list[int] = []
    segments: list[tuple[int, int, int, int, int]] = []
    start_of: dict[tuple[int, ...], int] = {(): 0}
    for row in rows:
        if row.shared not in start_of:
            start_of[row.shared] = len(tokens)
            segments.append((len(tokens), 1, len(row.shared), 0, 0))
            tokens += row.shared
            position += range(len(row.shared))
    groups: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault((row.shared, len(row.own)), []).append(number)
    own_start = [0] * len(rows)
    for (shared, length), numbers in groups.items():
        if not length:
            continue
        segments.append((len(tokens), len(numbers), length, start_of[shared], len(shared)))
        for number in numbers:
            own_start[number] = len(tokens)
            tokens += rows[number].own
            position += range(len(shared), len(shared) + length)
    batch: Batch = {
        "tokens": torch.tensor(tokens, dtype=torch.int64),
        "position": torch.tensor(position, dtype=torch.int64),
        "segments": np.array(segments, dtype=np.int64),
    }
    starts = [(start_of[row.shared], start, len(row.shared)) for row, start in zip(rows, own_start, strict=True)]
    return Packed(batch, starts)


def blocks_of_segments(x: Tensor, segments: IntArray) -> Blocks:
    """Return the blocks where each row of a packed sequence attends to the tokens before it and, causally, to itself;
    `x` has the device and the dtype of the states."""
    start, rows, length, first, n_shared = segments.T
    of_row, number = np.repeat(np.arange(len(segments)), rows), np.arange(rows.sum()) - np.repeat(starts_of(rows), rows)
    lengths = length[of_row]
    keys = Keys(start[of_row] + number * lengths, lengths, first[of_row], n_shared[of_row])
    return blocks_of(x, lengths, lengths, keys, causal=True)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    segments: list[list[int]] | None = None,
    blocks: Blocks | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Compute causal attention within each row of a packed sequence, by `segments` or `blocks`; without either as
    transformers' `sdpa`.

    Returns:
        (1, total, heads, d).
    """
    if blocks is not None:
        q, kv = query[0].transpose(0, 1), torch.stack([key[0], value[0]]).permute(2, 0, 1, 3)
        return blocks.attend(q, kv, scale=options["scaling"]).view(1, *q.shape), None
    if segments is None:
        attended: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return attended
    scale = options["scaling"]
    outputs = []
    for start, rows, length, first, n_shared in segments:
        part, before = slice(start, start + rows * length), slice(first, first + n_shared)
        q, k, v = (x[0, :, part].unflatten(1, (rows, length)).transpose(0, 1) for x in (query, key, value))
        if not n_shared:
            output = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        elif n_shared > length:
            with torch.autocast(q.device.type, enabled=False):
                output = _attend_both(q, k, v, key[0, :, before], value[0, :, before], scale)
        else:
            k, v = (torch.cat([x[:, :, before].expand(rows, -1, -1, -1), own], 2) for x, own in ((key, k), (value, v)))
            mask = torch.ones(length, n_shared + length, dtype=torch.bool, device=q.device).tril_(n_shared)
            output = scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=True)
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[None], None


def _attend_both(q: Tensor, k: Tensor, v: Tensor, shared_k: Tensor, shared_v: Tensor, scale: float) -> Tensor:
    """Attend to the shared tokens and, causally, to the own ones, in fp32, without a copy of the shared ones for each
    row.

    Args:
        q: (rows, heads, length, d)
        k, v: (rows, key heads, length, d)
        shared_k, shared_v: (key heads, n, d)

    Returns:
        (rows, heads, length, d).
    """
    rows, heads, length, d = q.shape
    grouped = (q.float() * (scale * d**0.5)).unflatten(1, (len(shared_k), -1))
    of_shared = attention.attend(grouped.transpose(0, 1).flatten(1, 3), shared_k.float(), shared_v.float())
    causal = torch.ones(length, length, dtype=torch.bool, device=q.device).tril_().repeat(grouped.shape[2], 1)
    of_own = attention.attend(grouped.flatten(2, 3), k.float(), v.float(), causal)
    output, log_sum = (x.unflatten(1, (rows, -1)).transpose(0, 1) for x in of_shared)
    own_output, own_log_sum = of_own
    merged = own_output + (log_sum - own_log_sum).sigmoid() * (output - own_output)
    return merged.reshape(rows, heads, length, d).to(q.dtype)


AttentionInterface.register(NAME, attend)
