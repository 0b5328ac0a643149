"""Work on the device "meta", whose tensors have no values: what an accelerator would be asked to do.

To read a value there, or to make a shape of one, raises: on a GPU the work would wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

META = torch.device("meta")
GRU = 3  # the number that cuDNN has for it


def efficient_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention as one operator, as fused kernels of accelerators, which "meta" would not choose."""
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    *batch, length, _ = q.shape
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=q.dtype).masked_fill_(~attn_mask, -math.inf)
        attn_mask = attn_mask.expand(*batch, length, k.shape[-2]).to(q.dtype)
    flat = [x.reshape(-1, *x.shape[-3:]) for x in (q, k, v)]
    bias = None if attn_mask is None else attn_mask.reshape(-1, *attn_mask.shape[-3:])
    needs_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in flat)
    mixed = torch.ops.aten._scaled_dot_product_efficient_attention(
        *flat, bias, needs_gradient, dropout_p, is_causal, scale=scale
    )[0]
    return mixed.reshape(*batch, length, v.shape[-1])


def fused_gru(
    x: Tensor,
    initial: Tensor,
    weights: Sequence[Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    """All steps and layers of a GRU as one operator, as in cuDNN. "meta" would choose some for every step."""
    of_each_layer, nothing = (4 if has_biases else 2), x.new_empty(0)
    sizes = initial.shape[-1], 0, layers
    flags = batch_first, dropout, train, bidirectional
    states, last, *_ = torch.ops.aten._cudnn_rnn(
        x, weights, of_each_layer, nothing, initial, None, GRU, *sizes, *flags, [], None
    )
    return states, last


@torch.library.impl("aten::_cudnn_rnn_backward", "Meta")
def _gradients(x: Tensor, weights: Sequence[Tensor], _: int, buffer: Tensor, initial: Tensor, *more: Any) -> Any:
    return torch.empty_like(x), torch.empty_like(initial), buffer, [torch.empty_like(weight) for weight in weights]


@contextmanager
def without_values() -> Iterator[None]:
    """Let work on "meta" be what a GPU would be asked: autocast, which does not know "meta", treats it as a CPU, and
    attention and GRUs are fused."""
    with ExitStack() as stack:
        for name in ("autocast", "is_autocast_enabled", "get_autocast_dtype"):
            known = getattr(torch, name)
            as_cpu = lambda kind, *a, _known=known, **k: _known("cpu" if kind == "meta" else kind, *a, **k)  # noqa: E731
            stack.enter_context(mock.patch.object(torch, name, as_cpu))
        stack.enter_context(mock.patch.object(F, "scaled_dot_product_attention", efficient_attention))
        stack.enter_context(mock.patch.object(torch._VF, "gru", fused_gru))
        yield


@contextmanager
def read_as_zeros() -> Iterator[None]:
    """Let what is read from "meta" be zeros, so that an evaluation, which reads its scores, can be counted there."""

    def zeros(x: Tensor) -> Tensor:
        return torch.zeros(x.shape, dtype=x.dtype) if x.device.type == "meta" else x

    with ExitStack() as stack:
        for name in ("cpu", "numpy", "tolist", "item", "__bool__", "__int__", "__float__"):
            known = getattr(Tensor, name)
            read = lambda x, *a, _known=known, **k: _known(zeros(x), *a, **k)  # noqa: E731
            stack.enter_context(mock.patch.object(Tensor, name, read))
        yield
