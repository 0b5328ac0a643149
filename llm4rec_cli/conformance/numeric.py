"""Compare numbers computed in a different order: by another kernel, batch or formula."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def assert_close(
    actual: Tensor | Sequence[Tensor], expected: Tensor | Sequence[Tensor], rel: float, msg: str | None = None
) -> None:
    """Assert equality up to `rel` times the largest finite element of `expected`, for each tensor separately.

    Rounding errors scale with the sums that an element comes from, not with the element: a gradient near 0 may be the
    difference of two large ones.

    Args:
        rel: tolerance; fp32 resolves 6e-8, and a sum of thousands of terms is accurate to about 1e-6.
    """
    if not isinstance(expected, Tensor):
        for actual_tensor, expected_tensor in zip(actual, expected, strict=True):
            assert_close(actual_tensor, expected_tensor, rel, msg)
        return
    finite = expected[expected.isfinite()]
    scale = finite.abs().max().item() if finite.numel() else 1.0
    torch.testing.assert_close(actual, expected, atol=rel * (scale or 1.0), rtol=0, msg=msg)
