"""What a piece of work asks of a machine, counted and not timed: operations, bytes, operators and peak memory.

Nothing depends on the machine: a training step is counted on the device "meta", whose tensors have a shape and no
values.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from llm4rec_cli.studies.cost.work import Work

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

    @property
    def work(self) -> Work:
        return Work(self.operations, self.bytes, sum(self.names.values()))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = [x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        result = self.run(func, args, kwargs)
        name = func.overloadpacket.__name__
        outputs = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        if name not in VIEWS and not name.startswith("sym_"):
            self.names[name] = self.names.get(name, 0) + 1
            buffers = {argument.name for argument in func._schema.arguments if argument.is_out}
            read = args, {key: value for key, value in kwargs.items() if key not in buffers}
            inputs = [x for x in tree_leaves(read) if isinstance(x, Tensor)]
            operations = _operations(func.overloadpacket, args, kwargs, result)
            self.add(func, inputs, operations, _bytes(name, inputs, outputs))
        for x in outputs:
            self._follow(x, before)
        return result

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        return func(*args, **kwargs)

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
