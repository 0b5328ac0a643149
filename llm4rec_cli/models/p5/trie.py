"""The codes of a catalogue as a tree of tokens, kept as tensors by level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llm4rec_cli.errors import UsageError

START = 0  # T5's decoder begins with its padding token


@dataclass(frozen=True)
class Trie:
    """A prefix-free set of token sequences, one a leaf; every branch ends where a single leaf is left of it.

    What follows there is forced: it adds nothing to a likelihood that is renormalised among the children of a node, so
    it is never decoded. Nodes are numbered level by level, each level in the order of the codes, so the children of a
    node stand side by side; the root is node 0 and its own parent.

    Attributes:
        parent: (nodes,) node above.
        token: (nodes,) token id of a node, START for the root.
        depth: (nodes,) 0 for the root.
        leaf: (nodes,) which leaf a node is, -1 = an inner node.
        first_child, n_children: (nodes,) the children of a node; a leaf has 0.
        tokens: (different,) the token ids below the root, ascending.
        column: (nodes,) where in `tokens` a node's token stands.
        node: (leaves,) the node of each leaf.
        walk: (inner nodes,) the inner nodes depth first.
        starts: first node of each level, and the number of nodes.
        inner: number of inner nodes of each level that has any.
    """

    parent: Tensor
    token: Tensor
    depth: Tensor
    leaf: Tensor
    first_child: Tensor
    n_children: Tensor
    tokens: Tensor
    column: Tensor
    node: Tensor
    walk: Tensor
    starts: tuple[int, ...]
    inner: tuple[int, ...]

    @staticmethod
    def of(codes: Sequence[Sequence[int]]) -> Trie:
        """The tree of n codes; leaf i is `codes[i]`.

        Args:
            codes: token ids (>= 0) of each, of any lengths >= 1.

        Raises:
            UsageError: a code is equal to another, begins another, or is empty.
        """
        length = np.array([len(code) for code in codes])
        if not length.all():
            raise UsageError(f"code {int(length.argmin())} has no token", "give each item at least one")
        padded = np.full((len(codes), length.max()), -1, dtype=np.int64)
        padded[np.arange(length.max()) < length[:, None]] = np.concatenate([np.asarray(code) for code in codes])
        order = np.lexsort(padded.T[::-1])
        padded, length = padded[order], length[order]
        shared = (
            (padded[1:] == padded[:-1]).cumprod(axis=1).sum(axis=1)
        )  # tokens that a code begins with as the last did
        (begun,) = np.nonzero(shared >= length[:-1])
        if len(begun):
            a, b = order[begun[0]], order[begun[0] + 1]
            code = list(codes[a])
            raise UsageError(f"code {a} {code} begins code {b} {list(codes[b])}", "end every code with the same token")
        return _tree(padded, order, np.append(0, shared), np.append(shared, 0))

    @property
    def n_leaves(self) -> int:
        return len(self.node)

    def to(self, device: str | torch.device) -> Trie:
        """The same tree on a device."""
        tensors: dict[str, Any] = {name: x.to(device) for name, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **tensors)

    def narrow(self, most: int) -> int:
        """How many levels from the root on have no more than `most` inner nodes each."""
        return next((level for level, n in enumerate(self.inner) if n > most), len(self.inner))

    def inner_nodes(self, begin: int, end: int) -> Tensor:
        """(n,) the inner nodes of the levels begin..end-1, ascending."""
        nodes = torch.arange(self.starts[begin], self.starts[end], device=self.parent.device)
        return nodes[self.leaf[nodes] < 0]

    def ancestors(self, nodes: Tensor) -> Iterator[Tensor]:
        """Each node itself, its parent, and so on, as often as the tree is deep: the root comes again and again."""
        yield nodes
        for _ in self.inner:
            nodes = self.parent[nodes]
            yield nodes


def _tree(codes: Any, order: Any, before: Any, after: Any) -> Trie:
    """The tree of sorted codes.

    Args:
        codes: (n, longest) token ids, -1 behind the end.
        order: (n,) the leaf of each.
        before, after: (n,) how many tokens each begins with as the code before, and after, does.
    """
    ends = np.maximum(before, after) + 1  # where a code is alone
    at = np.zeros(len(codes), dtype=np.int64)  # the node of the present level that leads to each code
    parent, token, leaf = [np.zeros(1, np.int64)], [np.full(1, START)], [np.full(1, -1)]
    opening, starts = [np.zeros(1, np.int64)], [0, 1]  # the first code below each node
    for depth in range(1, int(ends.max()) + 1):
        reaching = np.flatnonzero(ends >= depth)
        opens = before[reaching] < depth
        rows = reaching[opens]
        parent.append(at[rows])
        token.append(codes[rows, depth - 1])
        leaf.append(np.where(ends[rows] == depth, order[rows], -1))
        opening.append(rows)
        at[reaching] = starts[-1] + np.cumsum(opens) - 1
        starts.append(starts[-1] + len(rows))

    nodes = {name: np.concatenate(x) for name, x in {"parent": parent, "token": token, "leaf": leaf}.items()}
    n_children = np.bincount(nodes["parent"][1:], minlength=starts[-1])
    first_child = np.cumsum(n_children) - n_children + 1
    depths = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    tokens, column = np.unique(nodes["token"][1:], return_inverse=True)
    (inner,) = np.nonzero(nodes["leaf"] < 0)
    (outer,) = np.nonzero(nodes["leaf"] >= 0)
    return Trie(
        **{name: torch.from_numpy(x) for name, x in nodes.items()},
        depth=torch.from_numpy(depths),
        first_child=torch.from_numpy(first_child),
        n_children=torch.from_numpy(n_children),
        tokens=torch.from_numpy(tokens),
        column=torch.from_numpy(np.append(0, column)),
        node=torch.from_numpy(outer[np.argsort(nodes["leaf"][outer])]),
        walk=torch.from_numpy(inner[np.lexsort([depths[inner], np.concatenate(opening)[inner]])]),
        starts=tuple(starts),
        inner=tuple(np.bincount(depths[inner]).tolist()),
    )
