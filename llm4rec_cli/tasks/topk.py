"""The k best of many scores. Ties are ordered by item number, independent of batch, order and device."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64  # columns per block


def top_numbers(scores: Tensor, numbers: Tensor, k: int) -> Tensor:
    """Return the numbers with the highest scores, best first, ties by the lower number.

    A score and its number form one integer key, so no two keys of a row are equal.

    Args:
        scores: (n, c) float32, without NaN.
        numbers: (c,) or (n, c) int64 in [0, 2^32), different within a row.

    Returns:
        (n, min(k, c)) int64.
    """
    bits = (scores + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # integers in the order of the floats
    key = (ordered.long() << 32) - numbers
    return -key.topk(min(k, key.shape[1])).values & 0xFFFFFFFF


def top_columns(scores: Tensor, k: int) -> Tensor:
    """Return the columns with the highest scores, best first, ties by the lower column.

    Only the k blocks of columns with the highest maxima can hold one of the best k, so only those are searched:
    `torch.topk` over 12,000 columns takes as long as computing their scores.

    Args:
        scores: (n, c) float32, without NaN.

    Returns:
        (n, min(k, c)) int64.
    """
    n_columns = scores.shape[1]
    n_blocks = n_columns // BLOCK
    n_in_blocks = n_blocks * BLOCK
    columns = torch.arange(n_columns, device=scores.device)
    if n_blocks <= k:
        return top_numbers(scores, columns, k)
    maxima = scores[:, :n_in_blocks].unflatten(1, (n_blocks, BLOCK)).amax(-1)
    blocks = top_numbers(maxima, columns[:n_blocks], k)
    in_blocks = (blocks.unsqueeze(-1) * BLOCK + columns[:BLOCK]).flatten(1)
    candidates = torch.cat([in_blocks, columns[n_in_blocks:].expand(len(scores), -1)], dim=1)
    return top_numbers(scores.gather(1, candidates), candidates, k)
