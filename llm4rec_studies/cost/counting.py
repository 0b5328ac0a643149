"""What a piece of work asks of a machine, counted and not timed: operations, bytes, operators and peak memory.

Nothing depends on the machine: a training step is counted on the device "meta", whose tensors have a shape and no
values.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from llm4rec_studies.cost.work import Work

VIEWS = {
    *("view", "t", "transpose", "permute", "expand", "unsqueeze", "squeeze", "slice", "select", "split", "alias"),
    *("detach", "as_strided", "_unsafe_view", "unbind", "split_with_sizes", "_reshape_alias", "diagonal", "unfold"),
    *("empty", "empty_like", "new_empty", "empty_strided"),  # which compute nothing
}
READ_IN_PART = {"embedding", "index", "index_select", "gather"}  # of their input only what they return
WRITTEN_IN_PART = {"index_put_", "_index_put_impl_", "index_add_", "index_copy_", "scatter_", "scatter_add_"}


class Counter(TorchDispatchMode):
    """Counts what runs within it.

    Attributes:
        names: how often each operator ran, views left out.
        peak: the most bytes of tensors made within it that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, int] = {}
        self.operations = self.bytes = self.peak = self._alive = 0
        self._known: set[int] = set()
        self._shapes: dict[Any, Any] = {}  # of results on "meta", by what they depend on

    @property
    def work(self) -> Work:
        return Work(self.operations, self.bytes, sum(self.names.values()))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = list(_tensors((args, kwargs)))
        before = [x.untyped_storage()._cdata for x in given]
        result = self.run(func, args, kwargs)
        name = func.overloadpacket.__name__
        outputs = list(_tensors(result))
        if name not in VIEWS and not name.startswith("sym_"):
            self.names[name] = self.names.get(name, 0) + 1
            buffers = [kwargs[key] for key in _schema_of(func).buffers if key in kwargs]
            inputs = [x for x in given if not any(x is buffer for buffer in buffers)]
            operations = _operations(func.overloadpacket, args, kwargs, result)
            self.add(func, inputs, operations, _bytes(name, inputs, outputs))
        for x in outputs:
            self._follow(x, before)
        return result

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return the result of an operator. On "meta", where that takes long, one of the same shapes as before is made
        from what is known of that."""
        given = list(_tensors((args, kwargs)))
        if not given or not all(x.is_meta for x in given) or not _schema_of(func).is_pure:
            return func(*args, **kwargs)
        key = func, _key(args), _key(tuple(kwargs.items()))
        if key not in self._shapes:
            result = func(*args, **kwargs)
            self._shapes[key] = _layout(result)
            return result
        return _empty(self._shapes[key])

    def add(self, func: Any, inputs: list[Tensor], operations: int, moved: int) -> None:
        """Add what an operator that has just run computed and moved."""
        self.operations += operations
        self.bytes += moved

    def _follow(self, x: Tensor, before: list[int]) -> None:
        storage = x.untyped_storage()
        key = storage._cdata
        if key in self._known or key in before:
            return
        self._known.add(key)
        size = storage.nbytes()
        self._alive += size
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._alive -= size


@dataclass(frozen=True)
class Schema:
    """What an operator declares: the names of the buffers that it writes its result to, and whether it returns new
    tensors and changes none."""

    buffers: tuple[str, ...]
    is_pure: bool


@cache
def _schema_of(func: Any) -> Schema:
    arguments, returns = func._schema.arguments, func._schema.returns
    aliases = any(x.alias_info is not None for x in [*arguments, *returns])
    is_of_tensors = bool(returns) and all(str(x.type) in ("Tensor", "List[Tensor]") for x in returns)
    return Schema(tuple(x.name for x in arguments if x.is_out), is_of_tensors and not aliases)


def _tensors(x: Any) -> Iterator[Tensor]:
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, (tuple, list)):
        for part in x:
            yield from _tensors(part)
    elif isinstance(x, dict):
        yield from _tensors(list(x.values()))


def _key(x: Any) -> Any:
    """Return what a result's shape depends on: of tensors the layout, of numbers also the type."""
    if isinstance(x, Tensor):
        return _layout(x)
    return tuple(map(_key, x)) if isinstance(x, (tuple, list)) else (type(x), x)


def _layout(x: Any) -> Any:
    """Return the layout of a tensor, or of several; None for a gradient that is not asked for."""
    if isinstance(x, Tensor):
        return x.shape, x.stride(), x.dtype, x.device
    return None if x is None else [_layout(part) for part in x]


def _empty(layout: Any) -> Any:
    """Return a result of this layout."""
    if layout is None:
        return None
    if isinstance(layout, list):
        return tuple(map(_empty, layout))
    shape, stride, dtype, device = layout
    return torch.empty_strided(shape, stride, dtype=dtype, device=device)


def _bytes(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> int:
    if name in READ_IN_PART:
        return 2 * sum(map(_size, outputs))
    if name in WRITTEN_IN_PART:
        return 2 * sum(map(_size, inputs[1:]))
    return sum(map(_size, [*inputs, *outputs]))


def _size(x: Tensor) -> int:
    """Return the bytes of a tensor; of an expanded one those that are stored."""
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())


def _operations(packet: Any, args: Any, kwargs: Any, result: Any) -> int:
    if packet is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:  # not counted by torch itself
        return int(sdpa_flop_count(*(x.shape for x in args[:3])))
    if packet is torch.ops.mkldnn._linear_pointwise:
        return 2 * args[0].numel() * args[1].shape[0]
    if packet in (torch.ops.aten._cudnn_rnn, torch.ops.aten._cudnn_rnn_backward):
        of_a_step = sum(2 * weight.numel() for weight in args[1] if weight.dim() == 2)
        passes = 1 if packet is torch.ops.aten._cudnn_rnn else 2
        return passes * args[0].shape[:2].numel() * of_a_step
    count = flop_registry.get(packet)
    return int(count(*args, **kwargs, out_val=result)) if count else 0
