"""Losses over a whole catalogue."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ROWS_AT_ONCE = 512  # a block of logits stays in cache
LOGITS_AT_ONCE = 1 << 24  # 64 MB in fp32: memory does not grow with batch × items, however large the catalogue
UNDERFLOWS = 1e-30  # a probability whose logarithm is no longer sure


class _CatalogueCrossEntropy(torch.autograd.Function):
    """Loss and both gradients in one sweep over blocks of rows: logits are never kept, nor computed twice.

    The gradient by a row's logits is its softmax, less 1 at the target; the 1 is taken from the small results.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.dtypes = hidden.dtype, table.dtype
        hidden, table = hidden.to(dtype), table.to(dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_table = torch.zeros(table.shape, dtype=torch.float32, device=table.device)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        # Two buffers for all blocks: fresh memory of this size costs about as much as a pass over it.
        rows = min(ROWS_AT_ONCE, max(1, LOGITS_AT_ONCE // len(table)))
        logits, probability = hidden.new_empty(2, min(rows, len(hidden)), len(table))
        for start in range(0, len(hidden), rows):
            block, wanted = hidden[start : start + rows], targets[start : start + rows, None]
            logits, probability = logits[: len(block)], probability[: len(block)]
            torch.mm(block, table.t(), out=logits)
            torch.softmax(logits, 1, out=probability)
            total += _surprise(logits, probability, wanted)
            torch.mm(probability, table, out=grad_hidden[start : start + rows])
            if hidden.dtype == torch.float32:
                torch.addmm(grad_table, probability.t(), block, out=grad_table)
            else:
                grad_table += probability.t() @ block
        grad_hidden -= table[targets]
        grad_table.index_add_(0, targets, hidden.float(), alpha=-1)
        ctx.save_for_backward(grad_hidden, grad_table)
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        scale = outer[0] / len(ctx.saved_tensors[0])
        grad_hidden, grad_table = (g.to(dtype) * scale for g, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True))
        return grad_hidden, grad_table, None, None


def _surprise(logits: Tensor, probability: Tensor, wanted: Tensor) -> Tensor:
    """The sum of -log probability of `wanted` (rows, 1); if need be by way of the largest, which never underflows."""
    found = probability.gather(1, wanted).float()
    if found.min() > UNDERFLOWS:
        return -found.log().sum()
    log_normaliser = logits.amax(1).float() - probability.amax(1).float().log()
    return (log_normaliser - logits.gather(1, wanted).squeeze(1)).sum()


def catalogue_cross_entropy(hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy of `hidden @ table.t()` against `targets`.

    Args:
        hidden: (n, size), n > 0.
        table: (n_items, size).
        targets: (n,) item numbers.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    with torch.autocast(device, enabled=False):
        loss: Tensor = _CatalogueCrossEntropy.apply(hidden, table, targets, dtype)
    return loss
