"""A training step on the device "meta", whose tensors have no values: what an accelerator would be asked to do.

To read a value there, or to make a shape of one, raises: on a GPU the step would wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from llm4rec_cli.models.shared.batch import on_device

META = torch.device("meta")


@contextmanager
def known_to_autocast() -> Iterator[None]:
    """Let autocast, which does not know "meta", treat it as a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        for function in ("autocast", "is_autocast_enabled", "get_autocast_dtype"):
            known = getattr(torch, function)
            patch.setattr(torch, function, lambda kind, *a, _known=known, **k: _known("cpu", *a, **k))
        yield


def loss_on_meta(model: Any, batch: Any) -> Tensor:
    """Return the loss of a model that is on META, for a batch of its rows.

    Raises:
        NotImplementedError: the step would wait. Some reads raise a RuntimeError.
    """
    loss: Tensor = model(**on_device(batch, META))["loss"]
    return loss
