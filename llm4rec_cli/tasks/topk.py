"""The k best of many scores. Ties are ordered by item number, independent of batch, order and device."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64  # columns per block


def top_scored(scores: Tensor, numbers: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return (n, min(k, c)) int64 numbers with the highest scores, best first, ties by the lower number, and their
    scores.

    A score and its number form one integer key, so no two keys of a row are equal.

    Args:
        scores: (n, c) float32, without NaN.
        numbers: (c,) or (n, c) int64 in [0, 2^32), different within a row.
    """
    bits = (scores + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # integers in the order of the floats
    key = (ordered.long() << 32) - numbers
    best = key.topk(min(k, key.shape[1]))
    return -best.values & 0xFFFFFFFF, scores.gather(1, best.indices)


def block_maxima(scores: Tensor) -> Tensor:
    """Return (n, b) the highest score of each block of BLOCK columns. The columns left over are the last block.

    A NaN is the maximum of its block.
    """
    n_blocks = scores.shape[1] // BLOCK
    whole, rest = scores[:, : n_blocks * BLOCK], scores[:, n_blocks * BLOCK :]
    maxima = whole.unflatten(1, (n_blocks, BLOCK)).amax(-1)
    return torch.cat([maxima, rest.amax(1, keepdim=True)], 1) if rest.shape[1] else maxima


def best_blocks(scores: Tensor, maxima: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return (n, m) scores and numbers that hold the k best of each row, ties by the lower column, for `top_scored`.

    Only the k blocks of columns with the highest maxima can hold one of the best k, and the columns left over:
    `torch.topk` over 12,000 columns takes as long as computing their scores.

    Args:
        scores: (n, c) float32, without NaN.
        maxima: of its blocks.
    """
    n_blocks = scores.shape[1] // BLOCK
    columns = torch.arange(scores.shape[1], device=scores.device)
    if k == 0:
        return scores[:, :0], columns[:0].expand(len(scores), 0)
    if n_blocks <= k:
        return scores.clone(), columns.expand(len(scores), -1)
    blocks, _ = top_scored(maxima[:, :n_blocks], columns[:n_blocks], k)
    in_blocks = (blocks.unsqueeze(-1) * BLOCK + columns[:BLOCK]).flatten(1)
    numbers = torch.cat([in_blocks, columns[n_blocks * BLOCK :].expand(len(scores), -1)], dim=1)
    return scores.gather(1, numbers), numbers
