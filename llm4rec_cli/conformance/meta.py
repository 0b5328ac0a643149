"""Work on the device "meta", whose tensors have no values.

To read a value there, or to make a shape of one, raises: on a GPU the work would wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

META = torch.device("meta")
OF_AUTOCAST = ("autocast", "is_autocast_enabled", "get_autocast_dtype")


@contextmanager
def without_values() -> Iterator[None]:
    """Let autocast, which does not know "meta", treat it as a CPU."""
    known = {name: getattr(torch, name) for name in OF_AUTOCAST}
    for name, function in known.items():
        as_cpu = lambda kind, *a, _of=function, **k: _of("cpu" if kind == "meta" else kind, *a, **k)  # noqa: E731
        setattr(torch, name, as_cpu)
    try:
        yield
    finally:
        for name, function in known.items():
            setattr(torch, name, function)
