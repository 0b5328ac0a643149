"""Item sequences as tensors, packed by length to avoid computation on padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.base import Batch
from llm4rec_cli.models.shared.batch import as_tensors, copied_to
from llm4rec_cli.models.shared.config import Distribution


@dataclass(frozen=True)
class Packing:
    """The layout of the tokens of n sequences in one flat array.

    Sequences of similar length form a group, padded to its longest. Groups are concatenated, so that each group is a
    (rows, length) view of the flat array and everything but attention runs on the flat array as a whole.

    Attributes:
        row: (total,) the sequence of each token.
        position: (total,) its position in the sequence; beyond the sequence's length = padding.
        groups: (n_groups, 2) number of rows and length of each group.
        last: (n,) index of each sequence's last token.
    """

    row: IntArray
    position: IntArray
    groups: IntArray
    last: IntArray


def pack(lengths: IntArray, widening: float = 1.5) -> Packing:
    """Pack sequences of these lengths (>= 0; an empty one takes one padded token).

    Args:
        widening: maximum ratio between the lengths of successive groups, which limits the padding; 1 = no padding.
    """
    lengths = np.maximum(lengths, 1)
    order = np.argsort(lengths, kind="stable")
    steps = _group_lengths(int(lengths.max(initial=1)), widening)
    step = np.searchsorted(steps, lengths[order])
    bounds = np.flatnonzero(np.diff(step, prepend=-1))
    rows = np.diff(np.append(bounds, len(order)))
    width = lengths[order][np.cumsum(rows) - 1]  # the group's longest, often shorter than its step
    widths = np.repeat(width, rows)
    begin = np.concatenate([[0], np.cumsum(widths)])
    row = np.repeat(order, widths)
    position = np.arange(begin[-1]) - np.repeat(begin[:-1], widths)
    last = np.empty(len(order), dtype=np.int64)
    last[order] = begin[:-1] + lengths[order] - 1
    return Packing(row, position, np.stack([rows, width], axis=1), last)


def _group_lengths(longest: int, widening: float) -> NDArray[np.int64]:
    """Return the maximum lengths of groups, growing by `widening`; at 1.5 padding stays below a third."""
    steps = [1]
    while steps[-1] < longest:
        steps.append(max(steps[-1] + 1, int(steps[-1] * widening)))
    return np.array(steps)


class Negatives:
    """Items drawn at random for every target, as a function of (seed, epoch, row).

    They are drawn with replacement from the items that take part in training.

    Args:
        n: number for each target.
        unseen: whether to leave out the user's training items; ignored for users who have all items.
    """

    def __init__(self, split: Split, n: int, seed: int, distribution: Distribution, unseen: bool) -> None:
        items = split.softmax_items()
        self.items = np.arange(split.n_items) if items is None else items
        is_uniform = distribution is Distribution.uniform
        weight: NDArray[Any] = np.ones(len(self.items)) if is_uniform else split.train_counts()[self.items]
        self.cumulative = None if is_uniform else np.cumsum(weight) / weight.sum()
        self.log_probability = np.full(split.n_items, -np.inf, dtype=np.float32)
        drawn = np.flatnonzero(weight)
        self.log_probability[self.items[drawn]] = np.log(weight[drawn] / weight.sum())
        self.n, self.seed, self.unseen = n, seed, unseen

    def draw(self, epoch: int, row: int, seen: IntArray, n_targets: int) -> IntArray:
        """Return (n_targets, n) item numbers for a training row. `seen` are the items of its user in training."""
        random, shape = stream(self.seed, "negatives", epoch, row), (n_targets, self.n)
        if self.cumulative is not None:
            return self.items[np.searchsorted(self.cumulative, random.random(shape), side="right")]
        owned = np.unique(np.searchsorted(self.items, seen)) if self.unseen else np.empty(0, dtype=np.int64)
        if len(owned) == len(self.items):
            owned = owned[:0]
        k = random.integers(len(self.items) - len(owned), size=shape)  # of the k-th item that is not owned
        return self.items[k + np.searchsorted(owned - np.arange(len(owned)), k, side="right")]


class SequenceRows:
    """Training rows for causal encoders: one pass computes the loss of every position.

    A training sequence of n items gives the inputs 0..n-2 with targets 1..n-1: the same (prefix, target) pairs as one
    row per prefix, at the cost of one row. Sequences longer than `max_length` are covered by windows that overlap by
    half. A target carries loss only in the first window that contains it, so that after the first window it sees at
    least max_length / 2 items (max_length in the published rows).
    """

    widening = 1.5

    def __init__(
        self, split: Split, max_length: int, negatives: Negatives | None = None, widening: float | None = None
    ) -> None:
        self.widening = widening or self.widening
        self.flat, self.offsets = split.train_sequences()
        self.negatives = negatives
        self._cover(np.diff(self.offsets) - 1, max_length)

    def _cover(self, n_targets: IntArray, max_length: int) -> None:
        """Set the user, first input, length and first position with loss of each row. `n_targets` is -1 for an empty
        sequence."""
        short = np.flatnonzero((n_targets > 0) & (n_targets <= max_length))
        windows = [
            (user, begin, end - begin, covered - begin)
            for user in np.flatnonzero(n_targets > max_length)
            for begin, end, covered in _windows(int(n_targets[user]), max_length)
        ]
        long = np.array(windows, dtype=np.int64).reshape(-1, 4)
        self.users = np.concatenate([short, long[:, 0]])
        self.starts = self.offsets[self.users] + np.concatenate([np.zeros_like(short), long[:, 1]])
        self.lengths = np.concatenate([n_targets[short], long[:, 2]])
        self.first_loss = np.concatenate([np.zeros_like(short), long[:, 3]])

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Return packed `items` (total,), the n positions among them that are `read` (n,), the items that follow
        these, `targets` (n,), and `groups` (n_groups, 2), an array.

        With negatives also `negatives` (n, number for each target).
        """
        starts, lengths, first_loss = self.starts[indices], self.lengths[indices], self.first_loss[indices]
        packing = pack(lengths, self.widening)
        row, position = packing.row, packing.position
        source = starts[row] + np.minimum(position, lengths[row] - 1)
        carries_loss = (position >= first_loss[row]) & (position < lengths[row])
        read = np.flatnonzero(carries_loss)
        batch = {"items": self.flat[source], "read": read, "targets": self.flat[source[read] + 1]}
        if self.negatives is not None:
            order = row[position == 0]
            n_targets = (lengths - first_loss)[order].tolist()
            drawn = [self._negatives(epoch, indices[i], n) for i, n in zip(order, n_targets, strict=True)]
            batch["negatives"] = np.concatenate(drawn)
        return {"groups": packing.groups, **as_tensors(batch)}

    def _negatives(self, epoch: int, row: int, n_targets: int) -> IntArray:
        assert self.negatives is not None
        seen = self.flat[self.offsets[self.users[row]] : self.offsets[self.users[row] + 1]]
        return self.negatives.draw(epoch, row, seen, n_targets)


class PrefixRows(SequenceRows):
    """One row for each (prefix, target) pair, for encoders that are not causal, packed without padding.

    Its inputs are the latest `max_length` items before the target.
    """

    widening = 1.0

    def _cover(self, n_targets: IntArray, max_length: int) -> None:
        counts = np.maximum(n_targets, 0)
        self.users = np.repeat(np.arange(len(counts)), counts)
        target = np.arange(len(self.users)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        self.lengths = np.minimum(target, max_length)
        self.starts = self.offsets[self.users] + target - self.lengths
        self.first_loss = self.lengths - 1


def _windows(n: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield (begin, end, first uncovered position) of windows of at most `size` over 0..n-1, overlapping by half."""
    begin = covered = 0
    while covered < n:
        end = min(begin + size, n)
        yield begin, end, covered
        covered = end
        begin = min(begin + max(size // 2, 1), n - size)


def packed_histories(
    examples: Examples, last: int, device: torch.device, widening: float = SequenceRows.widening
) -> tuple[Tensor, IntArray, IntArray, Tensor]:
    """Pack the latest `last` items of each history: items (total,) int64, groups (n_groups, 2) and index of each
    history's last item (n,), arrays, and whether it has one (n,)."""
    flat, offsets = examples.histories(last)
    lengths = np.diff(offsets)
    packing = pack(lengths, widening)
    source = offsets[packing.row] + np.minimum(packing.position, np.maximum(lengths[packing.row] - 1, 0))
    items = np.append(flat, 0)[source]  # an empty last history points one past the array
    items, nonempty = (copied_to(torch.from_numpy(values), device) for values in (items.astype(np.int64), lengths > 0))
    return items, packing.groups, packing.last, nonempty
