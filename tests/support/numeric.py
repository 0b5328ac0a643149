"""Comparing numbers that were computed in another order: by another kernel, batch or formula."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def assert_close(
    found: Tensor | Sequence[Tensor], expected: Tensor | Sequence[Tensor], rel: float, msg: str | None = None
) -> None:
    """Equal up to `rel` times the largest finite element of what is expected; of several tensors, each of its own.

    An element's rounding error goes with the sums that it comes from, not with the element: a gradient near 0 may be
    the difference of two large ones.

    Args:
        rel: fp32 resolves 6e-8, and a sum of thousands of terms is good to some 1e-6.
    """
    if not isinstance(expected, Tensor):
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other, rel, msg)
        return
    finite = expected[expected.isfinite()]
    scale = finite.abs().max().item() if finite.numel() else 1.0
    torch.testing.assert_close(found, expected, atol=rel * (scale or 1.0), rtol=0, msg=msg)
