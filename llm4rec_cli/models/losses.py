"""Losses over a whole catalogue."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ROWS_AT_ONCE = 256  # a block of logits stays in cache, and memory does not grow with batch × items


class _CatalogueCrossEntropy(torch.autograd.Function):
    """Loss and both gradients in one sweep over blocks of rows: logits are never kept, nor computed twice."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        grad_hidden = torch.empty_like(hidden)
        grad_table = torch.zeros(table.shape, dtype=torch.float32, device=table.device)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), ROWS_AT_ONCE):
            block, wanted = hidden[start : start + ROWS_AT_ONCE], targets[start : start + ROWS_AT_ONCE]
            row = torch.arange(len(block), device=block.device)
            logits = (block @ table.t()).float()
            log_normaliser = logits.logsumexp(1, keepdim=True)
            total += (log_normaliser.squeeze(1) - logits[row, wanted]).sum()
            probability = logits.sub_(log_normaliser).exp_()
            probability[row, wanted] -= 1
            slope = probability.to(hidden.dtype)
            grad_hidden[start : start + ROWS_AT_ONCE] = slope @ table
            grad_table += slope.t() @ block
        ctx.save_for_backward(grad_hidden, grad_table)
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_hidden, grad_table = ctx.saved_tensors
        scale = outer[0] / len(grad_hidden)
        return grad_hidden * scale.to(grad_hidden.dtype), (grad_table * scale).to(grad_hidden.dtype), None


def catalogue_cross_entropy(hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy of `hidden @ table.t()` against `targets`.

    Args:
        hidden: (n, size), n > 0.
        table: (n_items, size).
        targets: (n,) item numbers.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        hidden, table = (t.to(torch.get_autocast_dtype(device)) for t in (hidden, table))
    with torch.autocast(device, enabled=False):
        loss: Tensor = _CatalogueCrossEntropy.apply(hidden, table, targets)
    return loss
