"""Attention with dropout, in as few passes over its weights as they allow.

The weights, one per query, key and head, are the largest tensor of a training step, and on a CPU passes over it take
longer than the products. Here the scores become exponentials in place, and their sum divides the output. In the
backward pass the sum over keys in the gradient of a softmax is the inner product of the output and its gradient
(FlashAttention, arXiv 2205.14135, appendix B.2), which takes no pass at all.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llm4rec_cli.models.shared.layers import draw_kept, masked


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return (..., n, d) attention with dropout of its weights, and (..., n, 1) the logarithm of the sum of
    exponentials that normalises them.

    Attention to two sets of keys is the average of attention to each, weighted with these sums. Queries are (..., n,
    d), keys and values (..., m, d), and `mask` is broadcast to (..., n, m), False where a query does not attend to a
    key. Each query attends to at least one key.
    """
    return _Attention.apply(q, k, v, mask, dropout)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float) -> tuple[Tensor, Tensor]:
        scale = 1 / math.sqrt(q.shape[-1])
        exponentials = (q * scale) @ k.transpose(-1, -2)
        if mask is not None:
            exponentials.add_(torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, -torch.inf))
        highest = exponentials.amax(-1, keepdim=True)
        exponentials.sub_(highest).exp_()
        normaliser = exponentials.sum(-1, keepdim=True)
        kept, keep_scale, used = None, 1.0, exponentials
        if p > 0:
            kept, keep_scale = draw_kept(exponentials, p)
            used = masked(exponentials, kept)
        out = (used @ v) * (keep_scale / normaliser)
        ctx.save_for_backward(q, k, v, exponentials, kept, normaliser, out)
        ctx.scale, ctx.keep_scale = scale, keep_scale
        return out, highest + normaliser.log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        of_out, of_log_sum = outer
        q, k, v, exponentials, kept, normaliser, out = ctx.saved_tensors
        used = exponentials if kept is None else masked(exponentials, kept)
        scaled = of_out * (ctx.keep_scale / normaliser)
        of_v = used.transpose(-1, -2) @ scaled
        of_exponentials = scaled @ v.transpose(-1, -2)
        if kept is not None:
            of_exponentials = masked(of_exponentials, kept)
        # The outputs depend on each exponential also through their sum.
        of_exponentials.add_((of_log_sum - (of_out * out).sum(-1, keepdim=True)) / normaliser)
        of_scores = of_exponentials.mul_(exponentials)
        return (of_scores @ k) * ctx.scale, of_scores.transpose(-1, -2) @ (q * ctx.scale), of_v, None, None
