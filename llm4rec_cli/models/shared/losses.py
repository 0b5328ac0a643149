"""Losses over a whole catalogue, and over the batches of all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llm4rec_cli import processes

ROWS_AT_ONCE = 512  # a block of logits stays near the cache
LOGITS_AT_ONCE = (
    1 << 24
)  # two buffers of 64 MB in fp32: memory does not grow with batch × items, however large the catalogue
SURE = 0.5  # a probability from which on its distance to 1 is better summed
UNDERFLOWS = 1e-30  # a probability whose logarithm is no longer sure


class _CatalogueCrossEntropy(torch.autograd.Function):
    """Loss and both gradients in one sweep over blocks of rows: logits are never kept, nor computed twice.

    The gradient by a row's logits is its softmax, less 1 at the target.
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
            _less_one(probability, wanted)
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


def _less_one(probability: Tensor, wanted: Tensor) -> None:
    """Takes 1 from each row's probability of `wanted` (rows, 1), in place.

    Where that probability is near 1, bf16 cannot hold what it lacks: there it is the sum of all the others.
    """
    slope = probability.gather(1, wanted).float() - 1
    probability.scatter_(1, wanted, 0)
    sure = torch.nonzero(slope[:, 0] > SURE - 1)[:, 0]
    slope[sure] = -probability[sure].sum(1, keepdim=True, dtype=torch.float32)
    probability.scatter_(1, wanted, slope.to(probability.dtype))


def _surprise(logits: Tensor, probability: Tensor, wanted: Tensor) -> Tensor:
    """The sum of -log probability of `wanted` (rows, 1); if need be by way of the largest, which never underflows."""
    found = probability.gather(1, wanted).float()
    if found.min() > UNDERFLOWS:
        return -found.log().sum()
    log_normaliser = logits.amax(1).float() - probability.amax(1).float().log()
    return (log_normaliser - logits.gather(1, wanted).squeeze(1)).sum()


def catalogue_cross_entropy(hidden: Tensor, table: Tensor, targets: Tensor, among: Tensor | None = None) -> Tensor:
    """The mean cross-entropy of `hidden @ table.t()` against `targets`, over all items or `among` some.

    Args:
        hidden: (n, size), n > 0.
        table: (n_items, size).
        targets: (n,) item numbers.
        among: (k,) the sorted numbers of the items that take part in the softmax, targets among them; None = all.
    """
    if among is not None:
        table, targets = table.index_select(0, among), torch.searchsorted(among, targets)
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    with torch.autocast(device, enabled=False):
        loss: Tensor = _CatalogueCrossEntropy.apply(hidden, table, targets, dtype)
    return loss


class _RowsOfAll(torch.autograd.Function):
    """The gradient of a process's rows is summed over what every process makes of them."""

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
    """(n, …) rows of this process to (total, …) of all, in order of rank, with gradient: each process must ask.

    As every process's loss reaches the rows of all, the mean of gradients over processes is that of the mean loss.
    """
    if processes.world_size() == 1:
        return rows
    everything: Tensor = _RowsOfAll.apply(rows)
    return everything
