"""PERTURB=1e-6 disturbs the arithmetic of this process about as much as the kernels of another CPU would.

Each weight of a model that is built or loaded, and each text vector, is multiplied by 1 + PERTURB · noise. Tensors of
one size get the same noise, so results still repeat. A test that fails under PERTURB compares numbers that the machine
decides.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llm4rec_cli.llm import local
from llm4rec_cli.models import base
from llm4rec_cli.text import features

SIZE = float(os.environ.get("PERTURB", "0"))


@contextmanager
def perturbed() -> Iterator[None]:
    """Perturb models and text vectors within the block; do nothing without PERTURB."""
    build, encode, load_model = base.build, features._encode, local.load_model

    def build_perturbed(context: base.Context) -> Any:
        return _disturb(build(context))

    def load_perturbed(*arguments: Any) -> Any:
        return _disturb(load_model(*arguments))

    def encode_perturbed(*arguments: Any) -> Tensor:
        vectors = encode(*arguments)
        return vectors * _factors(vectors[:1])  # one factor per column: equal vectors stay equal

    with pytest.MonkeyPatch.context() as patch:
        if SIZE:
            patch.setattr(base, "build", build_perturbed)
            patch.setattr(local, "load_model", load_perturbed)
            patch.setattr(features, "_encode", encode_perturbed)
        yield


@torch.no_grad()
def _disturb(model: Any) -> Any:
    for weight in model.parameters() if isinstance(model, nn.Module) else ():
        weight.mul_(_factors(weight))
    return model


def _factors(x: Tensor) -> Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(x.numel()))
    return (1 + SIZE * noise).to(x.device, x.dtype)
