"""PERTURB=1e-6 disturbs the arithmetic of this process about as much as the kernels of another CPU would.

Each initial weight of a run's model and of a chat model, and each text vector, is multiplied by 1 + PERTURB · noise;
each matrix product by 1 + PERTURB / 10 · noise. The noise is a function of the shapes, so results still
repeat. A test that fails under PERTURB compares numbers that the machine decides.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from llm4rec_cli.llm import local
from llm4rec_cli.run import stages
from llm4rec_cli.text import features

SIZE = float(os.environ.get("PERTURB", "0"))
aten = torch.ops.aten
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.linear.default}
PRODUCTS |= {aten.mv.default, aten.dot.default}


@contextmanager
def perturbed() -> Iterator[None]:
    """Perturb models, text vectors and products within the block; do nothing without PERTURB."""
    if not SIZE:
        yield
        return
    build, encode, load_model = stages.build, features._encode, local.load_model

    def build_perturbed(*arguments: Any, **named: Any) -> Any:
        return _disturb(build(*arguments, **named))

    def load_perturbed(*arguments: Any) -> Any:
        return _disturb(load_model(*arguments))

    def encode_perturbed(*arguments: Any) -> Tensor:
        vectors = encode(*arguments)
        return vectors * _factors(vectors[:1].shape, SIZE)  # one factor per column: equal vectors stay equal

    with pytest.MonkeyPatch.context() as patch, _OtherProducts():
        patch.setattr(stages, "build", build_perturbed)
        patch.setattr(local, "load_model", load_perturbed)
        patch.setattr(features, "_encode", encode_perturbed)
        yield


class _OtherProducts(TorchDispatchMode):
    """Disturbs products by factors that depend on the shapes, by which libraries choose kernels."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in PRODUCTS and result.dtype == torch.float32:
            shapes = tuple(tuple(x.shape) for x in args if isinstance(x, Tensor))
            of_one = result.shape[-2:]  # the matrices of a batch are multiplied by one kernel
            result.mul_(_factors(of_one, SIZE / 10, shapes).to(result.device))
        return result


@torch.no_grad()
def _disturb(model: Any) -> Any:
    for weight in model.parameters() if isinstance(model, nn.Module) else ():
        weight.mul_(_factors(weight.shape, SIZE).to(weight.device, weight.dtype))
    return model


@lru_cache(maxsize=64)
def _factors(shape: tuple[int, ...], size: float, of: tuple[tuple[int, ...], ...] = ()) -> Tensor:
    """Return 1 + size · noise, which depends on `shape` and on `of`."""
    generator = torch.Generator().manual_seed(hash((*shape, *of)) % 2**62)
    return 1 + size * torch.randn(shape, generator=generator)
