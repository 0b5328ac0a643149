"""Rows of tokens as one flat array, packed by length into the tensors that `bert.PackedEncoder` takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from llm4rec_cli.arithmetic import at_once
from llm4rec_cli.data.examples import IntArray, slices
from llm4rec_cli.models.base import Batch
from llm4rec_cli.models.shared.sequences import pack

TOKENS_PER_BATCH = {"cpu": 1 << 12, "accelerator": 1 << 16}  # in scoring
WIDENING = 1.1  # length ratio of successive groups: padding stays below a tenth


@dataclass(frozen=True)
class Ragged:
    """n concatenated rows of tokens: row i is flat[offsets[i]:offsets[i + 1]]."""

    flat: NDArray[np.int32]
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> IntArray:
        return np.diff(self.offsets)

    def rows(self, index: IntArray, longest: IntArray | None = None) -> Ragged:
        """Return some rows, each cut to its first `longest` tokens."""
        start, end = self.offsets[index], self.offsets[index + 1]
        return Ragged(*slices(self.flat, start, end if longest is None else np.minimum(end, start + longest)))

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        flat = np.fromiter((token for row in rows for token in row), dtype=np.int32, count=int(lengths.sum()))
        return cls(flat, np.concatenate([[0], np.cumsum(lengths)]))


def token_batches(order: IntArray, lengths: IntArray, device: torch.device) -> list[IntArray]:
    """Split rows, in this order, into batches of about TOKENS_PER_BATCH tokens; `lengths` covers all rows."""
    limit = at_once(TOKENS_PER_BATCH, device.type)
    bounds = np.flatnonzero(np.diff(np.cumsum(lengths[order]) // limit)) + 1
    return np.split(order, bounds) if len(order) else []


def pack_rows(tokens: Ragged, first_position: IntArray | None = None) -> Batch:
    """Pack rows into groups of similar length, each padded to its longest row, as `bert.PackedEncoder` takes them.

    Args:
        first_position: (n,) the position of each row's first token; None = 0.

    Returns:
        tokens, position: (total,) int64; at padding the token is 0 and the position counts on.
        is_real: (total,) whether it is not padding.
        starts: (n,) the flat index at which row i starts.
        groups: (n_groups, 2) rows and length of each group, an array.
        lengths: (n,) of the rows, in packed order, an array.
    """
    packing = pack(tokens.lengths, WIDENING)
    is_real = packing.position < tokens.lengths[packing.row]
    source = tokens.offsets[packing.row] + np.where(is_real, packing.position, 0)
    starts = packing.last - tokens.lengths + 1
    first = 0 if first_position is None else np.where(is_real, first_position[packing.row], 0)
    return {
        "tokens": torch.from_numpy(np.where(is_real, tokens.flat[source], 0).astype(np.int64)),
        "position": torch.from_numpy((packing.position + first).astype(np.int64)),
        "is_real": torch.from_numpy(is_real),
        "starts": torch.from_numpy(starts),
        "groups": packing.groups,
        "lengths": tokens.lengths[np.argsort(starts, kind="stable")],
    }
