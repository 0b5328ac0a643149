"""Attention with dropout, in as few passes over its weights as they allow.

The weights, one per query, key and head, are the largest tensor of a training step, and on a CPU passes over it take
longer than the products. Here the scores become the weights in place. In the gradient of the softmax, the sum over keys
of a weight times its gradient is the sum over dimensions of the output times its own (FlashAttention, arXiv 2205.14135,
appendix B.2), which takes no pass at all.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llm4rec_cli.models.shared.layers import draw_kept, masked


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return attention with dropout of its weights, and the logarithm of the sum that normalises them.

    Attention to two sets of keys is the mean of the attention to each, weighted with these sums.

    Args:
        q: (..., n, d); k and v: (..., m, d).
        mask: broadcast to (..., n, m), False where a query does not attend to a key; each attends to one at least.
        dropout: the probability of dropping a weight, rounded to 1/256.

    Returns:
        (..., n, d) and (..., n, 1).
    """
    attended: tuple[Tensor, Tensor] = _Attention.apply(q, k, v, mask, min(round(dropout * 256), 255))
    return attended


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropped: int) -> tuple[Tensor, Tensor]:
        scale = 1 / math.sqrt(q.shape[-1])
        weights = (q * scale) @ k.transpose(-1, -2)
        if mask is not None:
            weights.add_(torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, -torch.inf))
        highest = weights.amax(-1, keepdim=True)
        weights.sub_(highest).exp_()
        total = weights.sum(-1, keepdim=True)
        kept, keep_scale = None, 1.0
        used = weights
        if dropped:
            kept, keep_scale = draw_kept(weights, dropped), 256 / (256 - dropped)
            used = masked(weights, kept)
        out = (used @ v) * (keep_scale / total)
        ctx.save_for_backward(q, k, v, weights, kept, total, out)
        ctx.scale, ctx.keep_scale = scale, keep_scale
        return out, highest + total.log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        of_out, of_log_total = outer
        q, k, v, weights, kept, total, out = ctx.saved_tensors
        used = weights if kept is None else masked(weights, kept)
        scaled = of_out * (ctx.keep_scale / total)
        of_v = used.transpose(-1, -2) @ scaled
        of_weights = scaled @ v.transpose(-1, -2)
        if kept is not None:
            of_weights = masked(of_weights, kept)
        # Of exponentials whose sum normalises them.
        of_weights.add_((of_log_total - (of_out * out).sum(-1, keepdim=True)) / total)
        of_scores = of_weights.mul_(weights)
        return (of_scores @ k) * ctx.scale, of_scores.transpose(-1, -2) @ (q * ctx.scale), of_v, None, None
