"""Cross-entropy over the whole catalogue, and gathering rows of all processes with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llm4rec_cli import processes

ROWS_AT_ONCE = 512  # keeps a block of logits near the cache
LOGITS_AT_ONCE = 1 << 24  # two buffers of 64 MB in fp32, so that memory does not grow with batch × items
HIGH = 0.5  # probabilities above it compute 1 - p as the sum of the others
TINY = 1e-30  # the logarithm of a smaller probability is inaccurate


class _CatalogueCrossEntropy(torch.autograd.Function):
    """Loss and both gradients in one pass over blocks of rows, so that logits are neither stored nor recomputed.

    The gradient with respect to a row's logits is its softmax minus 1 at the target.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.dtypes = hidden.dtype, table.dtype
        hidden, table = hidden.to(dtype), table.to(dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_table = torch.zeros(table.shape, dtype=torch.float32, device=table.device)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        # All blocks reuse two buffers: allocating memory of this size costs about as much as a pass over it.
        rows = min(ROWS_AT_ONCE, max(1, LOGITS_AT_ONCE // len(table)))
        logits, probability = hidden.new_empty(2, min(rows, len(hidden)), len(table))
        for start in range(0, len(hidden), rows):
            block, target = hidden[start : start + rows], targets[start : start + rows, None]
            logits, probability = logits[: len(block)], probability[: len(block)]
            torch.mm(block, table.t(), out=logits)
            torch.softmax(logits, 1, out=probability)
            total += _negative_log_likelihood(logits, probability, target)
            _subtract_one_at(probability, target)
            torch.mm(probability, table, out=grad_hidden[start : start + rows])
            if hidden.dtype == torch.float32:
                torch.addmm(grad_table, probability.t(), block, out=grad_table)
            else:
                grad_table += probability.t() @ block
        ctx.save_for_backward(grad_hidden, grad_table)
        return total / len(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        scale = outer[0] / len(ctx.saved_tensors[0])
        grad_hidden, grad_table = (g.to(dtype) * scale for g, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True))
        return grad_hidden, grad_table, None, None


def _subtract_one_at(probability: Tensor, target: Tensor) -> None:
    """Subtract 1 from each row's probability of `target` (rows, 1), in place.

    Near 1, bf16 cannot represent p - 1; there it is computed as minus the sum of the other probabilities.
    """
    difference = probability.gather(1, target).float() - 1
    probability.scatter_(1, target, 0)
    high = torch.nonzero(difference[:, 0] > HIGH - 1)[:, 0]
    difference[high] = -probability[high].sum(1, keepdim=True, dtype=torch.float32)
    probability.scatter_(1, target, difference.to(probability.dtype))


def _negative_log_likelihood(logits: Tensor, probability: Tensor, target: Tensor) -> Tensor:
    """Return the sum of -log probability of `target` (rows, 1); from the logits where a probability underflows."""
    likelihood = probability.gather(1, target).float()
    if likelihood.min() > TINY:
        return -likelihood.log().sum()
    log_normaliser = logits.amax(1).float() - probability.amax(1).float().log()
    return (log_normaliser - logits.gather(1, target).squeeze(1)).sum()


def catalogue_cross_entropy(hidden: Tensor, table: Tensor, targets: Tensor, items: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of `hidden @ table.t()` against `targets`, over all items or a subset.

    Args:
        hidden: (n, size), n > 0.
        table: (n_items, size).
        targets: (n,) item numbers.
        items: (k,) sorted numbers of the items in the softmax, which include the targets; None = all.
    """
    if items is not None:
        table, targets = table.index_select(0, items), torch.searchsorted(items, targets)
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    with torch.autocast(device, enabled=False):
        loss: Tensor = _CatalogueCrossEntropy.apply(hidden, table, targets, dtype)
    return loss


class _GatherRows(torch.autograd.Function):
    """Gathers rows; the gradient of a process's rows is the sum of the gradients of all processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        counts = processes.gathered(len(rows))
        ctx.begin, ctx.end = sum(counts[: processes.rank()]), sum(counts[: processes.rank() + 1])
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Tensor:
        gradient = outer[0].clone()
        torch.distributed.all_reduce(gradient)
        return gradient[ctx.begin : ctx.end]


def gather_rows(rows: Tensor) -> Tensor:
    """Return (total, …) rows of all processes in order of rank, with gradient; every process must call it.

    Since each process's loss reaches all rows, the mean of gradients over processes is that of the mean loss.
    """
    if processes.world_size() == 1:
        return rows
    all_rows: Tensor = _GatherRows.apply(rows)
    return all_rows
