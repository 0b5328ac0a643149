"""A prefix tree over the token codes of a catalogue, stored as tensors by level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm4rec_cli.errors import UsageError

START = 0  # T5's decoder starts with its padding token
NODES_PER_PASS = 128  # few enough to attend to, enough to rarely repeat ancestors


@dataclass(frozen=True)
class Trie:
    """A prefix-free set of token codes, one leaf per code; a branch stops where it leads to a single leaf.

    The rest of that code is forced: it adds nothing to a likelihood renormalised over a node's children, so it is never
    decoded. Nodes are numbered level by level, each level in the sorted order of the codes, so the children of a node
    are consecutive. The root is node 0 and its own parent.

    Attributes:
        parent: (nodes,) the parent of each node.
        token: (nodes,) token id of each node, START for the root.
        depth: (nodes,) 0 for the root.
        leaf: (nodes,) leaf number, -1 for an inner node.
        first_child, n_children: (nodes,) the children of each node. A leaf has 0.
        tokens: (distinct,) token ids below the root, ascending.
        column: (nodes,) index of each node's token in `tokens`.
        leaf_node: (leaves,) the node of each leaf.
        inner: (inner nodes,) the inner nodes, ascending.
        nodes_per_pass: inner nodes that are decoded together.
        passes: so many of them after the other in depth-first order, with their ancestors; each ascending.
        level_starts: first node of each level, then the number of nodes.
        n_inner: number of inner nodes per level, for levels that have any.
        widest: the most children that a node of each of these levels has.
    """

    parent: Tensor
    token: Tensor
    depth: Tensor
    leaf: Tensor
    first_child: Tensor
    n_children: Tensor
    tokens: Tensor
    column: Tensor
    leaf_node: Tensor
    inner: Tensor
    nodes_per_pass: int
    passes: tuple[Tensor, ...]
    level_starts: tuple[int, ...]
    n_inner: tuple[int, ...]
    widest: tuple[int, ...]

    @staticmethod
    def from_codes(codes: Sequence[Sequence[int]], nodes_per_pass: int = NODES_PER_PASS) -> Trie:
        """Build the tree of n codes; leaf i is `codes[i]`.

        Args:
            codes: token ids (>= 0) of each code, of any lengths >= 1.

        Raises:
            UsageError: a code is empty, or equal to or a prefix of another.
        """
        length = np.array([len(code) for code in codes])
        if not length.all():
            raise UsageError(f"code {int(length.argmin())} has no token", "give each item at least one")
        padded = np.full((len(codes), length.max()), -1, dtype=np.int64)
        padded[np.arange(length.max()) < length[:, None]] = np.concatenate([np.asarray(code) for code in codes])
        order = np.lexsort(padded.T[::-1])
        padded, length = padded[order], length[order]
        shared = (padded[1:] == padded[:-1]).cumprod(axis=1).sum(axis=1)  # length of the prefix shared with the last
        (prefixes,) = np.nonzero(shared >= length[:-1])
        if len(prefixes):
            a, b = order[prefixes[0]], order[prefixes[0] + 1]
            raise UsageError(
                f"code {a} {list(codes[a])} is a prefix of code {b} {list(codes[b])}",
                "end every code with the same token",
            )
        return _build(padded, order, np.append(0, shared), np.append(shared, 0), nodes_per_pass)

    @property
    def n_leaves(self) -> int:
        return len(self.leaf_node)

    def to(self, device: str | torch.device) -> Trie:
        tensors: dict[str, Any] = {name: x.to(device) for name, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **tensors, passes=tuple(nodes.to(device) for nodes in self.passes))

    def n_narrow_levels(self, width: int) -> int:
        """Return how many levels, counted from the root, have at most `width` inner nodes each."""
        return next((level for level, n in enumerate(self.n_inner) if n > width), len(self.n_inner))

    def inner_nodes(self, begin: int, end: int) -> Tensor:
        """Return (n,) the inner nodes of levels begin..end-1, ascending."""
        return self.inner[sum(self.n_inner[:begin]) : sum(self.n_inner[:end])]

    def paths(self) -> list[NDArray[np.int64]]:
        """Return the nodes on the way to each leaf, from below the root to the leaf."""
        lines = np.stack([nodes.numpy() for nodes in self.ancestors(self.leaf_node.cpu())][::-1], axis=1)
        return [line[line > 0] for line in lines]

    def ancestors(self, nodes: Tensor) -> Iterator[Tensor]:
        """Yield each node, its parent, and so on, once per level of the tree: the root repeats."""
        yield nodes
        for _ in self.n_inner:
            nodes = self.parent[nodes]
            yield nodes


def _build(codes: Any, order: Any, before: Any, after: Any, nodes_per_pass: int) -> Trie:
    """Build the tree of sorted codes.

    Args:
        codes: (n, longest) token ids, padded with -1.
        order: (n,) the leaf of each code.
        before, after: (n,) length of the prefix that each code shares with the previous and the next one.
    """
    leaf_depth = np.maximum(before, after) + 1  # where a code becomes unique
    current = np.zeros(len(codes), dtype=np.int64)  # node of the current level on each code's path
    parent, token, leaf = [np.zeros(1, np.int64)], [np.full(1, START)], [np.full(1, -1)]
    first_code, starts = [np.zeros(1, np.int64)], [0, 1]  # the first code below each node
    for depth in range(1, int(leaf_depth.max()) + 1):
        reaching = np.flatnonzero(leaf_depth >= depth)
        is_new = before[reaching] < depth
        rows = reaching[is_new]
        parent.append(current[rows])
        token.append(codes[rows, depth - 1])
        leaf.append(np.where(leaf_depth[rows] == depth, order[rows], -1))
        first_code.append(rows)
        current[reaching] = starts[-1] + np.cumsum(is_new) - 1
        starts.append(starts[-1] + len(rows))

    nodes = {name: np.concatenate(x) for name, x in {"parent": parent, "token": token, "leaf": leaf}.items()}
    n_children = np.bincount(nodes["parent"][1:], minlength=starts[-1])
    first_child = np.cumsum(n_children) - n_children + 1
    depths = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    tokens, column = np.unique(nodes["token"][1:], return_inverse=True)
    (inner,) = np.nonzero(nodes["leaf"] < 0)
    (leaves,) = np.nonzero(nodes["leaf"] >= 0)
    depth_first = inner[np.lexsort([depths[inner], np.concatenate(first_code)[inner]])]
    parts = np.split(depth_first, range(nodes_per_pass, len(depth_first), nodes_per_pass))
    n_inner = np.bincount(depths[inner])
    return Trie(
        **{name: torch.from_numpy(x) for name, x in nodes.items()},
        depth=torch.from_numpy(depths),
        first_child=torch.from_numpy(first_child),
        n_children=torch.from_numpy(n_children),
        tokens=torch.from_numpy(tokens),
        column=torch.from_numpy(np.append(0, column)),
        leaf_node=torch.from_numpy(leaves[np.argsort(nodes["leaf"][leaves])]),
        inner=torch.from_numpy(inner),
        nodes_per_pass=nodes_per_pass,
        passes=tuple(torch.from_numpy(_with_ancestors(part, nodes["parent"])) for part in parts),
        level_starts=tuple(starts),
        n_inner=tuple(n_inner.tolist()),
        widest=tuple(np.maximum.reduceat(n_children, starts[: len(n_inner)]).tolist()),
    )


def _with_ancestors(nodes: Any, parent: Any) -> Any:
    """Return nodes and their ancestors, ascending."""
    lines = [nodes]
    while lines[-1].any():
        lines.append(parent[lines[-1]])
    return np.unique(np.concatenate(lines))
