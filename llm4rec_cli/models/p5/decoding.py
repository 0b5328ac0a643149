"""T5's decoder for inference: a tree of tokens is decoded at once, and a source's keys and values are made once.

A token attends to those above it in its tree and to its source; which these are stands in a mask, so no cache is ever
copied or reordered for a beam. What a choice between the children of a node scores is renormalised among them, as
`generate(prefix_allowed_tokens_fn=…, renormalize_logits=True)` of transformers does, and only their rows of the output
embedding are read. The model is to be in evaluation mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.p5.trie import START, Trie

NODES = 128  # of a tree that are decoded at once: so many see each other, and few are decoded again as ancestors
ROWS = 4096  # nodes of all sources that are decoded at once: bounds the memory of what is exact
KEPT = 0.75  # finished rows leave a batch when no more than this part of it is left

Forbidden = tuple[IntArray, IntArray]  # rows, and the leaf of each that its row may not get


@dataclass(frozen=True)
class Memory:
    """What the decoder's layers read of some sources.

    Attributes:
        keys, values: (B, heads, L, size) of each layer.
        mask: (B, 1, 1, L) 0, or -inf behind a source's end; None where all sources have one length.
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor | None

    def __len__(self) -> int:
        return len(self.keys[0])

    def __getitem__(self, rows: Tensor | slice) -> Memory:
        mask = None if self.mask is None else self.mask[rows]
        return Memory([k[rows] for k in self.keys], [v[rows] for v in self.values], mask)


@torch.no_grad()
def memory(t5: Any, hidden: Tensor, lengths: Tensor) -> Memory:
    """Keys and values of encoded sources.

    Args:
        t5: a `transformers.T5ForConditionalGeneration`.
        hidden: (B, L, d) what the encoder gives.
        lengths: (B,) tokens of each source; what stands behind is padding.
    """
    attentions = [block.layer[1].EncDecAttention for block in t5.decoder.block]
    keys = [_heads(a.k(hidden), a.n_heads) for a in attentions]
    values = [_heads(a.v(hidden), a.n_heads) for a in attentions]
    padding = torch.arange(hidden.shape[1], device=hidden.device) >= lengths.to(hidden.device)[:, None]
    mask = torch.zeros_like(padding, dtype=keys[0].dtype).masked_fill(padding, -torch.inf)
    return Memory(keys, values, mask[:, None, None] if padding.any() else None)


@torch.no_grad()
def leaf_scores(t5: Any, memory: Memory, trie: Trie) -> Tensor:
    """(B, leaves) fp32 log-likelihood of every leaf; each inner node is decoded once a source, but for the ancestors of
    a run of NODES that an earlier run had too."""
    scores = torch.empty(len(memory), trie.n_leaves, device=trie.token.device)
    for start in range(0, len(memory), ROWS // NODES):
        rows = slice(start, start + ROWS // NODES)
        edges = _no_edges(trie, len(scores[rows]), len(trie.token))
        for run in trie.walk.split(NODES):
            nodes = torch.cat(list(trie.ancestors(run))).unique()[None]
            _decode_edges(t5, memory[rows], trie, nodes, edges)
        scores[rows] = _totals(trie, edges, trie.node[None])
    return scores


@torch.no_grad()
def candidate_scores(t5: Any, memory: Memory, trie: Trie, leaves: Tensor) -> Tensor:
    """(B, c) `leaf_scores` of some leaves of each source; only what stands above them is decoded.

    Args:
        leaves: (B, c) numbers of leaves.
    """
    scores = torch.empty(leaves.shape, device=leaves.device)
    wanted, order = trie.node[leaves].sort(1)  # neighbours share ancestors
    for start in range(0, len(memory), ROWS // NODES):
        rows = slice(start, start + ROWS // NODES)
        for places, ends in zip(order[rows].split(NODES // 2, 1), wanted[rows].split(NODES // 2, 1), strict=True):
            nodes = _distinct(torch.cat(list(trie.ancestors(trie.parent[ends])), 1))
            edges = _no_edges(trie, len(nodes), len(trie.token))
            _decode_edges(t5, memory[rows], trie, nodes, edges)
            scores[rows].scatter_(1, places, _totals(trie, edges, ends))
    return scores


@torch.no_grad()
def beam(t5: Any, memory: Memory, trie: Trie, beams: int, forbidden: Forbidden | None = None) -> tuple[Tensor, Tensor]:
    """The best leaves of each source that a beam search finds.

    The first levels, as far as none has more inner nodes than there are beams, are decoded in one pass, each node once
    a source: a forced prefix is such levels. Below them the `beams` best inner nodes of a level go on. A leaf takes no
    beam's place; a beam that falls behind the last of `beams` leaves is given up.

    Args:
        forbidden: leaves that a row may not get. They take part in the renormalisation all the same.

    Returns:
        (B, beams) int64 leaves, best first, -1 where fewer are found; (B, beams) fp32 their scores, there -inf.
    """
    n, level = len(memory), trie.narrow(beams)
    found = _Found(trie, n, beams, forbidden)
    head = trie.inner_nodes(0, level)
    cache = _Cache(memory, len(head) + beams * (len(trie.inner) - level))
    edges = _no_edges(trie, n, trie.starts[level + 1])
    _decode_edges(t5, memory, trie, head[None], edges, cache)
    seen = torch.arange(edges.shape[1], device=edges.device)
    total = _totals(trie, edges, seen[None])
    found.add(trie.leaf[seen].expand(n, -1), total)

    nodes = trie.inner_nodes(level, level + 1)
    above = [torch.searchsorted(head, a) for a in list(trie.ancestors(nodes))[level:0:-1]]
    path = torch.stack(above, 1).expand(n, -1, -1)  # where in the cache the ancestors of a beam stand, the root first
    children, total, choices = nodes.expand(n, -1), total[:, nodes], 1
    for depth in range(level, len(trie.inner)):
        score, which = total.topk(min(beams, trie.inner[depth], total.shape[1]))
        given_up = score <= found.scores[:, -1:]
        if given_up.all():
            break
        score = score.masked_fill(given_up, -torch.inf)
        node = children.gather(1, which).masked_fill(given_up, 0)
        path = path.gather(1, (which // choices)[..., None].expand(-1, -1, depth))
        own = cache.filled + torch.arange(node.shape[1], device=node.device)
        path = torch.cat([path, own.expand(n, -1)[..., None]], 2)
        distance = torch.full((*node.shape, cache.filled + len(own)), -1, device=node.device)
        distance.scatter_(2, path, torch.arange(depth, -1, -1, device=node.device).expand_as(path))
        hidden = _decode(t5, memory, trie.token[node], _bias(t5, memory, distance), cache)
        step, below = _choices(t5, trie, hidden, node)
        children, total, choices = below.flatten(1), (score[..., None] + step).flatten(1), step.shape[2]
        leaf = trie.leaf[children]
        found.add(leaf, total)
        total = total.masked_fill(leaf >= 0, -torch.inf)
    return found.leaves, found.scores


def decoded(trie: Trie, beams: int | None = None) -> int:
    """How many nodes a source `beam` decodes at most; without beams, how many there are: `leaf_scores` decodes all."""
    level = len(trie.inner) if beams is None else trie.narrow(beams)
    return sum(trie.inner[:level]) + sum(min(beams or 0, n) for n in trie.inner[level:])


def cheaper_exact(trie: Trie, beams: int) -> bool:
    """Whether scoring all leaves takes no more than searching for the best: either costs the nodes that it decodes."""
    return decoded(trie) <= decoded(trie, beams)


@torch.no_grad()
def greedy(t5: Any, memory: Memory, end: int, max_tokens: int, begin: int = START) -> list[list[int]]:
    """The text of each source, token by token the likeliest.

    Args:
        end: token that ends a text, and is no part of it.
        max_tokens: a text is cut there.
        begin: what the decoder starts with; no part of the text either.
    """
    texts: list[list[int]] = [[] for _ in range(len(memory))]
    row = torch.arange(len(memory), device=memory.keys[0].device)
    token, going = torch.full_like(row, begin), torch.ones_like(row, dtype=torch.bool)
    cache = _Cache(memory, max_tokens)
    for written in range(max_tokens):
        distance = torch.arange(written, -1, -1, device=row.device)[None, None]
        hidden = _decode(t5, memory, token[:, None], _bias(t5, memory, distance), cache)
        token = t5.lm_head(_scaled(t5, hidden[:, 0])).float().argmax(-1)
        going = going & (token != end)
        for i, t in zip(row[going].tolist(), token[going].tolist(), strict=True):
            texts[i].append(t)
        if not going.any():
            break
        if going.float().mean() <= KEPT:
            row, token, memory, cache, going = row[going], token[going], memory[going], cache[going], going[going]
    return texts


class _Found:
    """The best leaves of each row so far.

    Attributes:
        leaves, scores: (B, beams) as `beam` returns them.
    """

    def __init__(self, trie: Trie, n: int, beams: int, forbidden: Forbidden | None) -> None:
        device = trie.token.device
        self.leaves = torch.full((n, beams), -1, device=device)
        self.scores = torch.full((n, beams), -torch.inf, device=device)
        self.banned = torch.zeros(n, trie.n_leaves, dtype=torch.bool, device=device)
        if forbidden is not None:
            self.banned[tuple(torch.from_numpy(x).long().to(device) for x in forbidden)] = True

    def add(self, leaf: Tensor, score: Tensor) -> None:
        """Leaves (B, m), -1 = none, with their scores."""
        out = (leaf < 0) | self.banned.gather(1, leaf.clamp(min=0))
        scores = torch.cat([self.scores, score.masked_fill(out, -torch.inf)], 1)
        self.scores, which = scores.topk(self.leaves.shape[1])
        self.leaves = torch.cat([self.leaves, leaf], 1).gather(1, which).masked_fill(self.scores == -torch.inf, -1)


class _Cache:
    """Self-attention keys and values of what has been decoded, in the order in which it was.

    Attributes:
        filled: how many tokens of each row.
    """

    def __init__(self, memory: Memory, room: int) -> None:
        n, heads, _, size = memory.keys[0].shape
        self.keys = [k.new_empty(n, room, heads, size) for k in memory.keys]
        self.values = [v.new_empty(n, room, heads, size) for v in memory.values]
        self.filled = 0

    def add(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """What all tokens have in this layer: these, (B or 1, heads, n, size), behind those from before, if any."""
        end = self.filled + key.shape[2]
        self.keys[layer][:, self.filled : end] = key.transpose(1, 2)
        self.values[layer][:, self.filled : end] = value.transpose(1, 2)
        if self.filled == 0:
            return key, value
        return self.keys[layer][:, :end].transpose(1, 2), self.values[layer][:, :end].transpose(1, 2)

    def __getitem__(self, rows: Tensor) -> _Cache:
        kept = _Cache.__new__(_Cache)
        kept.keys, kept.values, kept.filled = [k[rows] for k in self.keys], [v[rows] for v in self.values], self.filled
        return kept


def _decode(t5: Any, memory: Memory, tokens: Tensor, bias: Tensor, cache: _Cache | None = None) -> Tensor:
    """(B, n, d) the decoder's normed states.

    Args:
        tokens: (B, n), or (1, n) where all sources have the same: what does not depend on the source is then done once.
        bias: (B or 1, heads, n, cached + n) added to self-attention.
        cache: of the tokens before; these are added to it.
    """
    x = t5.decoder.embed_tokens(tokens)
    for i, block in enumerate(t5.decoder.block):
        own, cross, feed_forward = block.layer
        attention, normed = own.SelfAttention, own.layer_norm(x)
        q, k, v = (_heads(project(normed), attention.n_heads) for project in (attention.q, attention.k, attention.v))
        if cache is not None:
            k, v = cache.add(i, k, v)
        x = x + attention.o(_attended(q, k, v, bias))
        attention = cross.EncDecAttention
        q = _heads(attention.q(cross.layer_norm(x)), attention.n_heads)
        x = feed_forward(x + attention.o(_attended(q, memory.keys[i], memory.values[i], memory.mask)))
    if cache is not None:
        cache.filled += tokens.shape[1]
    states: Tensor = t5.decoder.final_layer_norm(x)
    return states


def _attended(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """T5's attention, which does not scale; q (B or 1, heads, n, size) gives (B, n, heads * size)."""
    mixed = F.scaled_dot_product_attention(q.expand(len(k), -1, -1, -1), k, v, attn_mask=bias, scale=1.0)
    return mixed.transpose(1, 2).flatten(2)


def _heads(x: Tensor, heads: int) -> Tensor:
    """(B, n, heads * size) to (B, heads, n, size)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _bias(t5: Any, memory: Memory, distance: Tensor) -> Tensor:
    """(B, heads, n, m) T5's bias of how far (B, n, m) each of m tokens stands above each of n; -1 = not seen: -inf."""
    reach = int(distance.max()) + 1
    bias = t5.decoder.block[0].layer[0].SelfAttention.compute_bias(reach, reach)[0, :, -1].flip(-1)
    return F.pad(bias, (0, 1), value=-torch.inf).to(memory.keys[0].dtype)[:, distance].transpose(0, 1)


def _distances(trie: Trie, nodes: Tensor) -> Tensor:
    """(B, n, n) how many levels one node stands below another that it sees: itself and its ancestors; else -1.

    Args:
        nodes: (B, n) ascending, with all their ancestors.
    """
    distance = torch.full((*nodes.shape, nodes.shape[1]), -1, device=nodes.device)
    for ancestor in trie.ancestors(nodes):
        up = trie.depth[nodes] - trie.depth[ancestor]
        distance.scatter_(2, torch.searchsorted(nodes, ancestor)[..., None], up[..., None])
    return distance


def _distinct(nodes: Tensor) -> Tensor:
    """(B, n) each row's different nodes, ascending; the root fills up rows with fewer."""
    nodes = nodes.sort(1).values
    again = F.pad(nodes[:, 1:] == nodes[:, :-1], (1, 0))
    nodes = nodes.masked_fill(again, 0).sort(1).values
    return nodes[:, int(again.sum(1).min()) :].contiguous()


def _choices(t5: Any, trie: Trie, hidden: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """What each child of a node adds to the log-likelihood of what it leads to.

    Args:
        hidden: (B, n, d) states.
        nodes: (B or 1, n).

    Returns:
        (B, n, w) fp32, the children's shares of 1 in logarithms; (B or 1, n, w) the children. w is the most that one of
        these nodes has; what it is more than another's is -inf, and the root.
    """
    place = torch.arange(int(trie.n_children[nodes].max()), device=nodes.device)
    real = place < trie.n_children[nodes][..., None]
    children = (trie.first_child[nodes][..., None] + place).masked_fill(~real, 0)
    with torch.autocast(hidden.device.type, enabled=False):
        logits = _scaled(t5, hidden.float()) @ t5.lm_head.weight[trie.tokens].float().t()
    logits = logits.gather(2, trie.column[children].expand(len(hidden), -1, -1))
    return logits.masked_fill(~real, -torch.inf).log_softmax(-1), children


def _scaled(t5: Any, hidden: Tensor) -> Tensor:
    return hidden * t5.config.d_model**-0.5 if t5.config.scale_decoder_outputs else hidden


def _no_edges(trie: Trie, n: int, nodes: int) -> Tensor:
    """(n, nodes) what each node adds to the log-likelihood of what it leads to: nothing yet."""
    return torch.zeros(n, nodes, device=trie.token.device)


def _decode_edges(
    t5: Any, memory: Memory, trie: Trie, nodes: Tensor, edges: Tensor, cache: _Cache | None = None
) -> None:
    """Decodes nodes (B or 1, n), ascending and with all their ancestors, and writes what their children add."""
    hidden = _decode(t5, memory, trie.token[nodes], _bias(t5, memory, _distances(trie, nodes)), cache)
    step, children = _choices(t5, trie, hidden, nodes)
    edges.scatter_(1, children.flatten(1).expand(len(edges), -1), step.flatten(1))
    edges[:, 0] = 0  # the root stood in for children that are none


def _totals(trie: Trie, edges: Tensor, nodes: Tensor) -> Tensor:
    """(B, n) the sum of edges from the root down to each of nodes (B or 1, n)."""
    total = torch.zeros(len(edges), nodes.shape[1], device=edges.device)
    for node in trie.ancestors(nodes):
        total += edges.gather(1, node.expand(len(edges), -1))
    return total
