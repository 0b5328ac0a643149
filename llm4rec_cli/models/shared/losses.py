"""Losses over the catalogue or over sampled items, and gathering rows of all processes with gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from llm4rec_cli import processes
from llm4rec_cli.arithmetic import at_once, on_cpu
from llm4rec_cli.models.shared.config import NextItemConfig, NextItemLoss

ROWS_AT_ONCE = {"cpu": 512, "accelerator": 1 << 16}  # on a CPU, keeps a block of logits near the cache
# Two buffers of 64 MB in fp32, or of 512 MB, so that memory does not grow with batch × items.
LOGITS_AT_ONCE = {"cpu": 1 << 24, "accelerator": 1 << 27}
# Elements of the vectors gathered at once, so that memory does not grow with rows × items × size; on a CPU, 2 MB
# stay in the cache.
VECTORS_AT_ONCE = {"cpu": 1 << 19, "accelerator": 1 << 22}
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
        needs_table = ctx.needs_input_grad[1]  # not the output layer of a frozen language model
        grad_table = torch.zeros(table.shape if needs_table else 0, dtype=torch.float32, device=table.device)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        # All blocks reuse two buffers: allocating memory of this size costs about as much as a pass over it.
        device = hidden.device.type
        rows = min(at_once(ROWS_AT_ONCE, device), max(1, at_once(LOGITS_AT_ONCE, device) // len(table)))
        logits, probability = hidden.new_empty(2, min(rows, len(hidden)), len(table))
        for start in range(0, len(hidden), rows):
            block, target = hidden[start : start + rows], targets[start : start + rows]
            logits, probability = logits[: len(block)], probability[: len(block)]
            torch.mm(block, table.t(), out=logits)
            torch.softmax(logits, 1, out=probability)
            total += _negative_log_likelihood(logits, probability, target)
            _subtract_one_at(probability, target)
            torch.mm(probability, table, out=grad_hidden[start : start + rows])
            if not needs_table:
                continue
            if hidden.dtype == torch.float32:
                torch.addmm(grad_table, probability.t(), block, out=grad_table)
            else:
                grad_table += probability.t() @ block
        ctx.save_for_backward(grad_hidden, grad_table)
        return total / len(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        scale = outer[0] / len(ctx.saved_tensors[0])
        grad_hidden, grad_table = (g.to(dtype) * scale for g, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True))
        return grad_hidden, grad_table if ctx.needs_input_grad[1] else None, None, None


def _subtract_one_at(probability: Tensor, target: Tensor) -> None:
    """Subtract 1 from each row's probability of `target` (rows,), in place.

    Near 1, bf16 cannot represent p - 1. There it is computed as minus the sum of the other probabilities.
    """
    place = torch.arange(len(target), device=target.device), target  # scatter_ would copy all probabilities
    difference = probability[place].float() - 1
    probability[place] = 0
    is_high = difference > HIGH - 1
    if on_cpu(probability):  # the others of these rows only; on a GPU, to find these rows is to wait
        high = torch.nonzero(is_high)[:, 0]
        difference[high] = -probability[high].sum(1, dtype=torch.float32)
    else:
        difference = torch.where(is_high, -probability.sum(1, dtype=torch.float32), difference)
    probability[place] = difference.to(probability.dtype)


def _negative_log_likelihood(logits: Tensor, probability: Tensor, target: Tensor) -> Tensor:
    """Return the sum of -log probability of `target` (rows,); from the logits where a probability underflows."""
    target = target.unsqueeze(1)
    likelihood = probability.gather(1, target).float().squeeze(1)
    if on_cpu(likelihood) and likelihood.min() > TINY:  # on a GPU, to know it is to wait
        return -likelihood.log().sum()
    log_normaliser = logits.amax(1).float() - probability.amax(1).float().log()
    of_logits = log_normaliser - logits.gather(1, target).squeeze(1)
    return torch.where(likelihood > TINY, -likelihood.log(), of_logits).sum()


def catalogue_cross_entropy(hidden: Tensor, table: Tensor, targets: Tensor, items: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of `hidden @ table.t()` (n, n_items), n > 0, against `targets`, over all items or
    over `items` (k,), sorted, which include the targets."""
    if items is not None:
        table, targets = table.index_select(0, items), torch.searchsorted(items, targets)
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    with torch.autocast(device, enabled=False):
        return _CatalogueCrossEntropy.apply(hidden, table, targets, dtype)


SampledLoss = Callable[[Tensor, Tensor], Tensor]  # logits (n, 1 + k), the target's first, and their items -> sum


class _OverSampledItems(torch.autograd.Function):
    """A loss of the logits of sampled items, and its gradients, in one pass.

    Item vectors are gathered for few rows at a time, so that they stay in the cache and never take rows × items × size.
    Gradients are weighted sums of vectors, which `embedding_bag` adds up where they are.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, items: Tensor, loss: SampledLoss) -> Tensor:
        logits = hidden.new_empty(items.shape)
        bound = at_once(VECTORS_AT_ONCE, hidden.device.type)
        rows = max(1, bound // (items.shape[1] * table.shape[1]))
        for block in (slice(start, start + rows) for start in range(0, len(hidden), rows)):
            logits[block] = torch.einsum("nh,nkh->nk", hidden[block], F.embedding(items[block], table))
        with torch.enable_grad():
            value = loss(logits.requires_grad_(), items)
            (slope,) = torch.autograd.grad(value, logits)
        grad_hidden = F.embedding_bag(items, table, mode="sum", per_sample_weights=slope)
        by_item, order = items.flatten().sort(stable=True)
        first = torch.searchsorted(by_item, torch.arange(len(table), device=items.device))
        row, weights = order // items.shape[1], slope.flatten()[order]
        grad_table = F.embedding_bag(row, hidden, first, mode="sum", per_sample_weights=weights)
        ctx.save_for_backward(grad_hidden, grad_table)
        return value.detach() / len(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_table = ctx.saved_tensors
        scale = outer[0] / len(grad_hidden)
        return grad_hidden * scale, grad_table * scale, None, None


def sampled_loss(hidden: Tensor, table: Tensor, items: Tensor, loss: SampledLoss) -> Tensor:
    """Return the mean over rows of a loss of the inner products of `hidden` (n, size), n > 0, with a few items each,
    (n, 1 + k): the target, then negatives.

    Products are in fp32, as bf16 would save little where vectors are gathered.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        hidden, table = (x.float() if x.dtype == torch.bfloat16 else x for x in (hidden, table))
        return _OverSampledItems.apply(hidden, table, items, loss)


def loss_over_samples(config: NextItemConfig, log_probability: Tensor, n_drawn: int) -> SampledLoss:
    """Return the loss of the logits of a target and of sampled items, for a `loss` other than `cross_entropy`.
    `log_probability` (n_items,) of drawing each item as a negative; -inf for all but `n_drawn` items."""
    if config.loss is NextItemLoss.binary:
        return _binary
    if config.loss is NextItemLoss.sampled_softmax:
        return partial(_sampled_softmax, log_probability=log_probability if config.logq else None)
    return partial(_generalised_binary, beta=gbce_beta(config.calibration, config.negatives, n_drawn))


def gbce_beta(calibration: float, negatives: int, n_items: int) -> float:
    """Return β, the exponent of the positive's probability in gBCE (Petrov and Macdonald, RecSys 2023).

    With the sampling rate α = k / (n_items - 1), β = α (t (1 - 1/α) + 1/α), which is 1 - t (1 - α). t = 0 is binary
    cross-entropy; with t = 1 a model that minimises it has the probabilities of one trained without sampling. α is at
    most 1, as k items drawn with replacement are fewer distinct ones.
    """
    rate = min(1.0, negatives / max(1, n_items - 1))
    return 1 - calibration * (1 - rate)


def _binary(logits: Tensor, items: Tensor) -> Tensor:
    """Return the sum of -log σ(s⁺) - Σ log(1 - σ(s⁻)): SASRec's loss (Kang and McAuley, ICDM 2018)."""
    return F.softplus(-logits[:, 0]).sum() + F.softplus(logits[:, 1:]).sum()


def _generalised_binary(logits: Tensor, items: Tensor, beta: float) -> Tensor:
    """Return the sum of -(log σ(s⁺)^β + Σ log(1 - σ(s⁻))) / (k + 1): gBCE."""
    return (beta * F.softplus(-logits[:, 0]).sum() + F.softplus(logits[:, 1:]).sum()) / logits.shape[1]


def _sampled_softmax(logits: Tensor, items: Tensor, log_probability: Tensor | None) -> Tensor:
    """Return the summed cross-entropy of the target among the sampled items, draws of the target itself left out.

    With logQ correction (Bengio and Senécal, 2008) a negative's logit is lowered by the logarithm of its expected
    number among the k draws, log(k Q), so that the sum over negatives estimates the sum over the catalogue.
    """
    negatives, negative_logits = items[:, 1:], logits[:, 1:]
    if log_probability is not None:
        negative_logits = negative_logits - log_probability[negatives] - math.log(negatives.shape[1])
    negative_logits = negative_logits.masked_fill(negatives == items[:, :1], float("-inf"))
    return (torch.logsumexp(torch.cat([logits[:, :1], negative_logits], 1), 1) - logits[:, 0]).sum()


class _GatherRows(torch.autograd.Function):
    """Gathers rows. The gradient of a process's rows is the sum of the gradients of all processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.begin = sum(sizes[: processes.rank()])
        ctx.end = ctx.begin + len(rows)
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, sizes, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        gradient = outer[0].clone()
        torch.distributed.all_reduce(gradient)
        return gradient[ctx.begin : ctx.end], None


def gather_rows(rows: Tensor, sizes: list[int]) -> Tensor:
    """Return (total, …) rows of all processes in order of rank, with gradient. Every process must call it.

    Each process's loss reaches all rows, so the mean of the gradients over processes is the gradient of the mean loss.

    Args:
        sizes: the number of rows of each process. To exchange them would make a step wait.
    """
    return rows if processes.world_size() == 1 else _GatherRows.apply(rows, sizes)
