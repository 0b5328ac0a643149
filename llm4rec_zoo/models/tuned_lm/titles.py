"""Titles of a catalogue as a prefix tree, and their log-probabilities after a question.

Between two tokens at which titles part, the next one is forced: renormalised over what the tree allows, it has
probability 1. So only the inner nodes of the tree are read, and of each title only what other titles share with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.shared.trie import Trie


@dataclass(frozen=True)
class Reading:
    """What is read after a question to score some titles.

    Attributes:
        chains: tokens that follow the question and lead to inner nodes; at least one, which may be empty.
        places: of each chain, which of its tokens are read for the first time; -1 is the question's last token.
        nodes: the inner nodes of all places, in order.
        children: of these nodes, one after another.
    """

    chains: list[list[int]]
    places: list[list[int]]
    nodes: list[int]
    children: Tensor


class TitleTree:
    """The distinct titles of a catalogue, as a tree.

    Args:
        codes: the tokens of each distinct title.
    """

    def __init__(self, codes: Sequence[Sequence[int]]) -> None:
        self.trie = Trie.from_codes(codes)
        self.parent, self.token = self.trie.parent.tolist(), self.trie.token.tolist()

    def reading(self, leaves: IntArray) -> Reading:
        """Return what is read for the scores of some leaves: all inner nodes above them."""
        above: set[int] = set()
        for node in self.parent_of(leaves):
            while node not in above:
                above.add(node)
                node = self.parent[node]
        chains, places, nodes, unread = [], [], [], set(above)
        for end in sorted(above - {self.parent[node] for node in above if node}):
            path = [end]
            while path[-1]:
                path.append(self.parent[path[-1]])
            path = path[::-1]  # from the root
            new = [place for place, node in enumerate(path) if node in unread]
            chains.append([self.token[node] for node in path[1:]])
            places.append([place - 1 for place in new])
            nodes += [path[place] for place in new]
            unread.difference_update(path)
        first, n = self.trie.first_child[nodes].tolist(), self.trie.n_children[nodes].tolist()
        children = [child for begin, count in zip(first, n, strict=True) for child in range(begin, begin + count)]
        return Reading(chains, places, nodes, torch.tensor(children))

    def parent_of(self, leaves: IntArray) -> list[int]:
        return self.trie.parent[self.trie.leaf_node[leaves]].tolist()

    def log_probs(self, reading: Reading, states: Tensor, output: Tensor, leaves: IntArray) -> Tensor:
        """Return (n,) the log-probability of each leaf: the sum over its path of each token's among its siblings.

        Args:
            states: (nodes, hidden) at the nodes of the reading.
            output: (vocabulary, hidden) the output layer.
        """
        device = states.device
        n = self.trie.n_children[reading.nodes].to(device)
        parent = torch.repeat_interleave(torch.arange(len(n), device=device), n)
        tokens = self.trie.token[reading.children].to(device)
        logits = torch.einsum("ch,ch->c", states[parent], output[tokens]).float()
        highest = torch.full((len(n),), -torch.inf, device=device).scatter_reduce(0, parent, logits, "amax")
        total = torch.zeros_like(highest).index_add(0, parent, (logits - highest[parent]).exp())
        edges = torch.zeros(len(self.parent), device=device)  # the root has none
        edges[reading.children.to(device)] = logits - (highest + total.log())[parent]
        paths = torch.stack(list(self.trie.ancestors(self.trie.leaf_node[leaves]))).to(device)
        return edges[paths].sum(0)
