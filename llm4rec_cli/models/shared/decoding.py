"""Decode at inference: many nodes of a token tree in one pass, with each source's keys and values computed once.

A token attends to its ancestors in the tree and to its source. An attention mask states which these are, so no cache is
copied or reordered for a beam. A choice between the children of a node is scored by a softmax over these children, as
`generate(prefix_allowed_tokens_fn=…, renormalize_logits=True)` of transformers does, and only their rows of the output
embedding are read. The model must be in evaluation mode.

The searches ask a `Decoder` for states: that of a T5 is here, and a model of another form brings its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.shared.batch import on_device
from llm4rec_cli.models.shared.seq2seq import PAD, PackedT5, bias_of_positions, groups_of, pack_batch
from llm4rec_cli.models.shared.trie import START, Trie

SOURCE_TOKENS_PER_BATCH = 1 << 15  # encoded together
NODES_PER_BATCH = 4096  # nodes of all sources decoded together: bounds the memory of exact scoring
SHRINK_BELOW = 0.75  # finished rows leave a greedy batch once at most this share is unfinished

Source = tuple[IntArray, IntArray]  # tokens, and the number of the whole word that each belongs to
Forbidden = tuple[IntArray, IntArray]  # rows, and the leaf that each may not return


@dataclass(frozen=True)
class Memory:
    """Keys and values of some sources, which tokens of the tree attend to.

    Attributes:
        keys, values: one (B, heads, L, size) per decoder layer.
        mask: (B, 1, 1, L) 0, or -inf at padding; None where all sources have the same length.
    """

    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor | None

    def __len__(self) -> int:
        return len(self.keys[0])

    def __getitem__(self, rows: Tensor | slice) -> Memory:
        mask = None if self.mask is None else self.mask[rows]
        return Memory([k[rows] for k in self.keys], [v[rows] for v in self.values], mask)


class Decoder(Protocol):
    """What the searches need of a model."""

    @property
    def output(self) -> Tensor:
        """(tokens, d) the output embedding of each token."""
        ...

    def states(self, memory: Memory, tokens: Tensor, distance: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Return (B, n, d) fp32 states of some tokens, whose products with `output` are logits.

        Args:
            tokens: (B, n), or (1, n) where all sources share them, so that work independent of the source is done once.
            distance: (B or 1, n, cached + n) how many levels each token attended to is above each of n; -1 = not
                attended to. The root of the tree is attended to by all, and is START.
            cache: earlier tokens. The new ones are added to it.
        """
        ...


@torch.no_grad()
def build_memory(t5: Any, hidden: Tensor, lengths: IntArray) -> Memory:
    """Compute the cross-attention keys and values of sources: encoder states (B, L, d) and the tokens of each, (B,)."""
    attentions = [block.layer[1].EncDecAttention for block in t5.decoder.block]
    keys = [split_heads(a.k(hidden), a.n_heads) for a in attentions]
    values = [split_heads(a.v(hidden), a.n_heads) for a in attentions]
    padding = torch.arange(hidden.shape[1]) >= torch.from_numpy(lengths)[:, None]
    mask = torch.zeros(padding.shape, dtype=keys[0].dtype, device=hidden.device)
    mask.masked_fill_(padding.to(hidden.device), -torch.inf)
    return Memory(keys, values, mask[:, None, None] if padding.any() else None)


@torch.no_grad()
def encode_sources(t5: PackedT5, sources: list[Source], whole_word: bool) -> Iterator[tuple[Memory, IntArray]]:
    """Yield the decoder's memory of sources of similar length, and their indices."""
    device = t5.t5.shared.weight.device
    length = np.array([len(tokens) for tokens, _ in sources])
    order = np.argsort(length, kind="stable")
    bounds = np.flatnonzero(np.diff(np.cumsum(length[order]) // SOURCE_TOKENS_PER_BATCH)) + 1
    for chunk in np.split(order, bounds):
        batch: Any = on_device(pack_batch([(*sources[i], np.array([PAD])) for i in chunk]), device)
        groups, words = groups_of(batch), batch["words"] if whole_word else None
        hidden = t5.encode(batch["source"], words, groups, groups.source_masks(batch["lengths"][:, 0]))
        parts = hidden.split([rows * longest for rows, longest, _ in groups.shapes])
        ends = np.cumsum(groups.rows)[:-1]
        orders, lengths = np.split(groups.order, ends), np.split(groups.n_tokens[:, 0], ends)
        for (rows, longest, _), part, own, places in zip(groups.shapes, parts, lengths, orders, strict=True):
            yield build_memory(t5.t5, part.view(rows, longest, -1), own), chunk[places]


Scorer = Callable[[Memory, IntArray], Tensor]  # (memory of some sources, their indices) -> a row per source


def score_memories(n: int, memories: Iterable[tuple[Memory, IntArray]], scorer: Scorer) -> Tensor:
    """Return (n, …) the scores of n sources, from the memory of some and their indices."""
    out: Tensor | None = None
    for memory, rows in memories:
        scores = scorer(memory, rows)
        if out is None:
            out = scores.new_empty(n, *scores.shape[1:])
        out[torch.from_numpy(rows).to(out.device)] = scores
    assert out is not None
    return out


@torch.no_grad()
def leaf_scores(decoder: Decoder, memory: Memory, trie: Trie) -> Tensor:
    """Return (B, leaves) fp32 log-likelihoods of every leaf. Each inner node is decoded once per source, except for
    ancestors that several passes need."""
    scores = torch.empty(len(memory), trie.n_leaves, device=trie.token.device)
    output = _output_rows(decoder, trie)
    for start in range(0, len(memory), NODES_PER_BATCH // trie.nodes_per_pass):
        rows = slice(start, start + NODES_PER_BATCH // trie.nodes_per_pass)
        edges = torch.zeros(len(scores[rows]), len(trie.token), device=scores.device)
        for nodes in trie.passes:
            _decode_edges(decoder, memory[rows], trie, nodes[None], max(trie.widest), edges, output)
        scores[rows] = _path_sums(trie, edges, trie.leaf_node[None])
    return scores


@torch.no_grad()
def candidate_scores(decoder: Decoder, memory: Memory, trie: Trie, leaves: Tensor) -> Tensor:
    """Return (B, c) the `leaf_scores` of some leaves (B, c) per source, decoding only their ancestors, or a small tree
    whole."""
    scores = torch.empty(leaves.shape, device=leaves.device)
    targets, order = trie.leaf_node[leaves].sort(1)  # neighbours share ancestors
    half = trie.nodes_per_pass // 2
    if len(trie.passes) == 1:
        return leaf_scores(decoder, memory, trie).gather(1, leaves)
    output = _output_rows(decoder, trie)
    for start in range(0, len(memory), NODES_PER_BATCH // trie.nodes_per_pass):
        rows = slice(start, start + NODES_PER_BATCH // trie.nodes_per_pass)
        for columns, ends in zip(order[rows].split(half, 1), targets[rows].split(half, 1), strict=True):
            nodes = _unique_per_row(torch.cat(list(trie.ancestors(trie.parent[ends])), 1))
            edges = torch.zeros(len(nodes), len(trie.token), device=scores.device)
            _decode_edges(decoder, memory[rows], trie, nodes, max(trie.widest), edges, output)
            scores[rows].scatter_(1, columns, _path_sums(trie, edges, ends))
    return scores


@torch.no_grad()
def beam_search(
    decoder: Decoder, memory: Memory, trie: Trie, beams: int, forbidden: Forbidden | None = None
) -> tuple[Tensor, Tensor]:
    """Return (B, beams) int64 the best leaves of each source by constrained beam search, and fp32 their scores.

    The first levels, as long as none has more inner nodes than `beams`, are decoded in one pass, each node once per
    source: a forced prefix is such levels. Below them the best `beams` inner nodes of a level continue. A leaf takes no
    beam's place, and a beam that scores below the last of `beams` leaves is dropped. Leaves are sorted, best first.
    Where there are fewer, they are -1 and score -inf. A `forbidden` leaf still takes part in the renormalisation.
    """
    n, level = len(memory), trie.n_narrow_levels(beams)
    best = _BestLeaves(trie, n, beams, forbidden)
    head = trie.inner_nodes(0, level)
    cache = KeyValueCache(memory, len(head) + beams * (len(trie.n_inner) - level))
    edges = torch.zeros(n, trie.level_starts[level + 1], device=trie.token.device)
    output = _output_rows(decoder, trie)
    _decode_edges(decoder, memory, trie, head[None], max(trie.widest[:level]), edges, output, cache)
    reached = torch.arange(edges.shape[1], device=edges.device)
    total = _path_sums(trie, edges, reached[None])
    best.add(trie.leaf[reached].expand(n, -1), total)

    nodes = trie.inner_nodes(level, level + 1)
    above = [torch.searchsorted(head, a) for a in list(trie.ancestors(nodes))[level:0:-1]]
    path = torch.stack(above, 1).expand(n, -1, -1)  # cache positions of a beam's ancestors, the root first
    children, total, n_choices = nodes.expand(n, -1), total[:, nodes], 1
    for depth in range(level, len(trie.n_inner)):
        score, chosen = total.topk(min(beams, trie.n_inner[depth], total.shape[1]))
        dropped = score <= best.scores[:, -1:]
        if dropped.all():
            break
        score = score.masked_fill(dropped, -torch.inf)
        node = children.gather(1, chosen).masked_fill(dropped, 0)
        path = path.gather(1, (chosen // n_choices)[..., None].expand(-1, -1, depth))
        own = cache.filled + torch.arange(node.shape[1], device=node.device)
        path = torch.cat([path, own.expand(n, -1)[..., None]], 2)
        distance = torch.full((*node.shape, cache.filled + len(own)), -1, device=node.device)
        distance.scatter_(2, path, torch.arange(depth, -1, -1, device=node.device).expand_as(path))
        hidden = decoder.states(memory, trie.token[node], distance, cache)
        step, below = _child_log_probs(trie, _tree_logits(hidden, output), node, trie.widest[depth])
        children, total, n_choices = below.flatten(1), (score[..., None] + step).flatten(1), step.shape[2]
        leaf = trie.leaf[children]
        best.add(leaf, total)
        total = total.masked_fill(leaf >= 0, -torch.inf)
    return best.leaves, best.scores


@torch.no_grad()
def free_beam_search(decoder: Decoder, memory: Memory, length: int, beams: int) -> tuple[Tensor, Tensor]:
    """Return (B, beams, length) the likeliest tokens of each source by beam search over the whole vocabulary, best
    first, and (B, beams) fp32 their log-likelihoods."""
    n, device = len(memory), memory.keys[0].device
    cache = KeyValueCache(memory, 1 + beams * (length - 1))
    token, total = torch.full((n, 1), START, device=device), torch.zeros(n, 1, device=device)
    tokens, path = token.new_empty(n, 1, 0), token.new_empty(n, 1, 0)  # path: cache positions of a beam's tokens
    for depth in range(length):
        own = cache.filled + torch.arange(token.shape[1], device=device)
        path = torch.cat([path, own.expand(n, -1)[..., None]], 2)
        distance = torch.full((*token.shape, cache.filled + len(own)), -1, device=device)
        distance.scatter_(2, path, torch.arange(depth, -1, -1, device=device).expand_as(path))
        hidden = decoder.states(memory, token, distance, cache)
        step = _logits(decoder, hidden).log_softmax(-1)
        total, chosen = (total[..., None] + step).flatten(1).topk(min(beams, step[0].numel()))
        beam, token = chosen // step.shape[2], chosen % step.shape[2]
        path = path.gather(1, beam[..., None].expand(-1, -1, depth + 1))
        tokens = torch.cat([tokens.gather(1, beam[..., None].expand(-1, -1, depth)), token[..., None]], 2)
    return tokens, total


def exact_is_cheaper(trie: Trie, beams: int) -> bool:
    """Return whether scoring all leaves (`leaf_scores`) decodes no more nodes than beam search does."""
    return sum(trie.n_inner) <= sum(min(beams, n) for n in trie.n_inner)


@torch.no_grad()
def greedy_decode(decoder: Decoder, memory: Memory, end: int, max_tokens: int) -> list[list[int]]:
    """Return the tokens of each source's text, decoded greedily, without the token `end`."""
    texts: list[list[int]] = [[] for _ in range(len(memory))]
    row, unfinished, device = np.arange(len(memory)), np.ones(len(memory), dtype=bool), memory.keys[0].device
    token, cache = torch.full((len(memory),), START, device=device), KeyValueCache(memory, max_tokens)
    for position in range(max_tokens):
        distance = torch.arange(position, -1, -1, device=device)[None, None]
        hidden = decoder.states(memory, token[:, None], distance, cache)
        token = _logits(decoder, hidden[:, 0]).argmax(-1)
        chosen = token.cpu().numpy()
        unfinished &= chosen != end
        for i, t in zip(row[unfinished].tolist(), chosen[unfinished].tolist(), strict=True):
            texts[i].append(t)
        if not unfinished.any():
            break
        if unfinished.mean() <= SHRINK_BELOW:
            left = torch.from_numpy(np.flatnonzero(unfinished)).to(device)
            row, token, memory, cache = row[unfinished], token[left], memory[left], cache[left]
            unfinished = unfinished[unfinished]
    return texts


class _BestLeaves:
    """The best leaves of each row so far, as `beam_search` returns them."""

    def __init__(self, trie: Trie, n: int, beams: int, forbidden: Forbidden | None) -> None:
        device = trie.token.device
        self.leaves = torch.full((n, beams), -1, device=device)
        self.scores = torch.full((n, beams), -torch.inf, device=device)
        self.forbidden = torch.zeros(n, trie.n_leaves, dtype=torch.bool, device=device)
        if forbidden is not None:
            self.forbidden[tuple(torch.from_numpy(x).long().to(device) for x in forbidden)] = True

    def add(self, leaf: Tensor, score: Tensor) -> None:
        """Merge leaves (B, m), -1 = none, with their scores."""
        excluded = (leaf < 0) | self.forbidden.gather(1, leaf.clamp(min=0))
        scores = torch.cat([self.scores, score.masked_fill(excluded, -torch.inf)], 1)
        self.scores, best = scores.topk(self.leaves.shape[1])
        self.leaves = torch.cat([self.leaves, leaf], 1).gather(1, best).masked_fill(self.scores == -torch.inf, -1)


class KeyValueCache:
    """Self-attention keys and values of the tokens decoded so far, in decoding order."""

    def __init__(self, memory: Memory, capacity: int) -> None:
        n, heads, _, size = memory.keys[0].shape
        self.keys = [k.new_empty(n, capacity, heads, size) for k in memory.keys]
        self.values = [v.new_empty(n, capacity, heads, size) for v in memory.values]
        self.filled = 0

    def add(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's new keys and values (B or 1, heads, n, size); return them for all tokens so far."""
        end = self.filled + key.shape[2]
        self.keys[layer][:, self.filled : end] = key.transpose(1, 2)
        self.values[layer][:, self.filled : end] = value.transpose(1, 2)
        if self.filled == 0:
            return key, value
        return self.keys[layer][:, :end].transpose(1, 2), self.values[layer][:, :end].transpose(1, 2)

    def __getitem__(self, rows: Tensor) -> KeyValueCache:
        """Return the cache of some rows. Only what is filled is copied."""

        def rows_of(stored: Tensor) -> Tensor:
            out = stored.new_empty(len(rows), *stored.shape[1:])
            out[:, : self.filled] = stored[rows, : self.filled]
            return out

        part = KeyValueCache.__new__(KeyValueCache)
        part.keys, part.values = list(map(rows_of, self.keys)), list(map(rows_of, self.values))
        part.filled = self.filled
        return part


class T5Decoder:
    """The decoder of a T5."""

    def __init__(self, t5: Any) -> None:
        self.t5 = t5

    @property
    def output(self) -> Tensor:
        weight: Tensor = self.t5.lm_head.weight
        return weight

    def states(self, memory: Memory, tokens: Tensor, distance: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        decoder, config = self.t5.decoder, self.t5.config
        x, bias = decoder.embed_tokens(tokens), self._bias(memory, distance)
        for i, block in enumerate(decoder.block):
            own, cross, feed_forward = block.layer
            attention, normed = own.SelfAttention, own.layer_norm(x)
            q, k, v = (
                split_heads(project(normed), attention.n_heads) for project in (attention.q, attention.k, attention.v)
            )
            if cache is not None:
                k, v = cache.add(i, k, v)
            x = x + attention.o(_attend(q, k, v, bias))
            attention = cross.EncDecAttention
            q = split_heads(attention.q(cross.layer_norm(x)), attention.n_heads)
            x = feed_forward(x + attention.o(_attend(q, memory.keys[i], memory.values[i], memory.mask)))
        if cache is not None:
            cache.filled += tokens.shape[1]
        hidden: Tensor = decoder.final_layer_norm(x).float()
        return hidden * config.d_model**-0.5 if config.scale_decoder_outputs else hidden

    def _bias(self, memory: Memory, distance: Tensor) -> Tensor:
        """Return (B, heads, n, m) T5's relative bias, -inf where a token is not attended to."""
        attention = self.t5.decoder.block[0].layer[0].SelfAttention
        above = torch.arange(distance.shape[-1], device=distance.device)  # no token is farther: all between are there
        bias = bias_of_positions(attention, -above, bidirectional=False).t()
        return F.pad(bias, (0, 1), value=-torch.inf).to(memory.keys[0].dtype)[:, distance].transpose(0, 1)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """T5's attention, which does not scale; q (B or 1, heads, n, size) gives (B, n, heads * size)."""
    mixed = F.scaled_dot_product_attention(q.expand(len(k), -1, -1, -1), k, v, attn_mask=bias, scale=1.0)
    return mixed.transpose(1, 2).flatten(2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, n, heads * size) to (B, heads, n, size)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _tree_distances(trie: Trie, nodes: Tensor) -> Tensor:
    """Return (B, n, n) how many levels a node is below each node it attends to (itself and its ancestors); else -1. The
    nodes (B, n) are ascending, with all their ancestors."""
    distance = torch.full((*nodes.shape, nodes.shape[1]), -1, device=nodes.device)
    for ancestor in trie.ancestors(nodes):
        up = trie.depth[nodes] - trie.depth[ancestor]
        distance.scatter_(2, torch.searchsorted(nodes, ancestor)[..., None], up[..., None])
    return distance


def _unique_per_row(nodes: Tensor) -> Tensor:
    """Return (B, n) each row's distinct nodes, ascending. Rows with fewer are filled with the root."""
    nodes = nodes.sort(1).values
    repeated = F.pad(nodes[:, 1:] == nodes[:, :-1], (1, 0))
    nodes = nodes.masked_fill(repeated, 0).sort(1).values
    return nodes[:, int(repeated.sum(1).min()) :].contiguous()


def _logits(decoder: Decoder, hidden: Tensor) -> Tensor:
    """Return fp32 logits of all tokens, by a product in the precision of the weights."""
    return F.linear(hidden.to(decoder.output.dtype), decoder.output).float()


def _output_rows(decoder: Decoder, trie: Trie) -> Tensor:
    """Return (tokens, d) fp32 the rows of the output embedding for a tree's tokens."""
    return decoder.output[trie.tokens].float()


def choice_losses(trie: Trie, logits: Tensor, nodes: Tensor, chosen: Tensor) -> Tensor:
    """Return (n,) fp32 the cross-entropy of the child `chosen` (n,) of each of some nodes (n,), among its children.

    The sum over the nodes above a leaf is the negative `leaf_scores`: the loss of a model that is only asked to choose
    among leaves. `logits` (n, tokens) are of `trie.tokens`.
    """
    step, _ = _child_log_probs(trie, logits[None].float(), nodes[None], max(trie.widest))
    return -step[0].gather(1, (chosen - trie.first_child[nodes])[:, None])[:, 0]


def _child_log_probs(trie: Trie, logits: Tensor, nodes: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return (B, n, width) fp32 the log-probability of each child of some nodes (B or 1, n), and (B or 1, n, width) the
    children.

    None of these nodes has more than `width` children; unused places hold -inf and the root. `logits` (B, n, tokens)
    are of `trie.tokens`.
    """
    place = torch.arange(width, device=nodes.device)
    exists = place < trie.n_children[nodes][..., None]
    children = (trie.first_child[nodes][..., None] + place).masked_fill(~exists, 0)
    logits = logits.gather(2, trie.column[children].expand(len(logits), -1, -1))
    return logits.masked_fill(~exists, -torch.inf).log_softmax(-1), children


def _tree_logits(hidden: Tensor, output: Tensor) -> Tensor:
    """Return (B, n, tokens) fp32 the logits of states (B, n, d), and `_output_rows`."""
    with torch.autocast(hidden.device.type, enabled=False):
        return hidden @ output.t()


def _decode_edges(
    decoder: Decoder,
    memory: Memory,
    trie: Trie,
    nodes: Tensor,
    width: int,
    edges: Tensor,
    output: Tensor,
    cache: KeyValueCache | None = None,
) -> None:
    """Decode nodes (B or 1, n), ascending, with all their ancestors and at most `width` children each; write the
    log-probability of each child among its siblings into `edges` (B, nodes)."""
    hidden = decoder.states(memory, trie.token[nodes], _tree_distances(trie, nodes), cache)
    step, children = _child_log_probs(trie, _tree_logits(hidden, output), nodes, width)
    edges.scatter_(1, children.flatten(1).expand(len(edges), -1), step.flatten(1))
    edges[:, 0] = 0  # the root fills unused places


def _path_sums(trie: Trie, edges: Tensor, nodes: Tensor) -> Tensor:
    """Return (B, n) the sum of edges from the root to each of nodes (B or 1, n)."""
    total = torch.zeros(len(edges), nodes.shape[1], device=edges.device)
    for node in trie.ancestors(nodes):
        total += edges.gather(1, node.expand(len(edges), -1))
    return total
