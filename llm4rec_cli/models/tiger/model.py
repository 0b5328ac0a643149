"""TIGER (Rajput et al., NeurIPS 2023, arXiv 2305.05065): the next item's id is generated code by code by a T5.

The source is a token for the user, of those into which users are hashed, and the codes of the latest items; the target
is the next item's id. Each training target is one row.

The catalogue is ranked by the likelihood of ids: of all of them, or by beam search, which leaves the items that it does
not reach unranked, so that these are misses. Constrained beams follow a tree of the items' ids, and a choice is a
softmax over the codes that continue some id. Unconstrained ones choose among all tokens, and a beam that is no item's
id is lost. Items that share an id tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.errors import DataError
from llm4rec_cli.ids.item_ids import END, ItemIds, item_ids
from llm4rec_cli.models.base import Batch, Context
from llm4rec_cli.models.shared import decoding
from llm4rec_cli.models.shared.seq2seq import PackedT5, groups_of, pack_batch, random_t5
from llm4rec_cli.models.shared.sequences import PrefixRows
from llm4rec_cli.models.shared.t5_shapes import T5Shape
from llm4rec_cli.models.shared.trie import Trie
from llm4rec_cli.models.tiger.config import TigerConfig

FIRST_TOKEN = 1  # of the codes; 0 starts the decoder
CHECKED = 200  # examples whose beams are compared with exact scores
CHECKED_RANKS = 10  # of the exact scores


class Sources:
    """Token sequences of histories."""

    def __init__(self, ids: ItemIds, user_tokens: int, max_length: int) -> None:
        first = FIRST_TOKEN + np.cumsum([0, *ids.sizes])
        tokens = np.where(ids.codes == END, END, ids.codes + first[:-1])
        self.of_item: list[IntArray] = [row[row != END] for row in tokens]
        self.user_tokens, self.first_user, self.max_length = user_tokens, int(first[-1]), max_length
        self.n_tokens = self.first_user + user_tokens

    def __call__(self, user: int, items: IntArray) -> decoding.Source:
        """Return the tokens of a user and the latest items, and zeros in place of whole words; those of an empty
        history are the decoder's first token, if users are not read."""
        parts = [np.array([self.first_user + user % self.user_tokens])] if self.user_tokens else []
        parts += [self.of_item[item] for item in items[-self.max_length :]]
        tokens = np.concatenate(parts) if parts else np.zeros(1, dtype=np.int64)
        return tokens, np.zeros_like(tokens)


class TargetRows:
    """One training row for each target, with the latest items before it."""

    def __init__(self, split: Split, sources: Sources) -> None:
        self.sources, self.prefixes = sources, PrefixRows(split, sources.max_length)

    def __len__(self) -> int:
        return len(self.prefixes)

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Return the arguments of `Tiger.forward`: those of `seq2seq.pack_batch`, whatever the epoch."""
        rows, prefixes = [], self.prefixes
        for i in indices:
            start, end = prefixes.starts[i], prefixes.starts[i] + prefixes.lengths[i]
            source = self.sources(int(prefixes.users[i]), prefixes.flat[start:end])
            rows.append((*source, self.sources.of_item[prefixes.flat[end]]))
        return pack_batch(rows)


class Tiger(nn.Module):
    """A T5 with random weights over the tokens of codes and users."""

    def __init__(self, config: TigerConfig, context: Context, ids: ItemIds) -> None:
        super().__init__()
        self.config, self.split, self.ids = config, context.split, ids
        self.sources = Sources(ids, config.user_tokens, config.max_length)
        shape = T5Shape(config.layers, config.hidden_size, config.heads, config.head_size, config.inner_size)
        self.packed = PackedT5(random_t5(shape, self.sources.n_tokens, config.dropout), whole_word=False)
        _, place = ids.distinct
        first_item = np.unique(place, return_index=True)[1]
        self.id_tokens = [self.sources.of_item[item].tolist() for item in first_item]  # of each distinct id
        self.place = torch.from_numpy(place)  # (n_items,) leaf of each item's id
        self.trie = Trie.from_codes(self.id_tokens)

    def training_rows(self) -> TargetRows:
        return TargetRows(self.split, self.sources)

    def artifacts(self) -> dict[str, str]:
        return {"item_ids.json": self.ids.to_json(self.split.dataset)}

    def forward(
        self,
        source: Tensor,
        words: Tensor,
        decoder_inputs: Tensor,
        read: Tensor,
        targets: Tensor,
        row: Tensor,
        lengths: Tensor,
        **layout: IntArray,
    ) -> dict[str, Any]:
        """Return the cross-entropy over all tokens, averaged over each target's codes, then over targets."""
        groups = groups_of({**layout})
        masks = groups.source_masks(lengths[:, 0])
        states = self.packed.decode(decoder_inputs, self.packed.encode(source, None, groups, masks), groups, masks)
        losses = F.cross_entropy(self.packed.t5.lm_head(states[read]).float(), targets, reduction="none")
        weights = (1 / lengths[:, 1].float())[row]
        return {"loss": (losses * weights).sum() / len(lengths), "n_terms": len(lengths)}

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        device = self.packed.t5.shared.weight.device
        self.trie, self.place = self.trie.to(device), self.place.to(device)
        t5, trie, place = self.packed.t5, self.trie, self.place
        if examples.candidates is not None:
            leaves = place[torch.from_numpy(examples.candidates).long().to(device)]
            return self._score_by(
                examples, lambda memory, rows: decoding.candidate_scores(t5, memory, trie, leaves[rows])
            )
        if self._is_exact():
            return self._exact_scores(examples)
        scores = self._score_by(examples, partial(self._beam_scores, examples))
        return scores[:, place]

    def _is_exact(self) -> bool:
        beams = self.config.beams
        return beams is None or (self.config.constrained and decoding.exact_is_cheaper(self.trie, beams))

    def _exact_scores(self, examples: Examples) -> Tensor:
        scores = self._score_by(examples, lambda memory, _: decoding.leaf_scores(self.packed.t5, memory, self.trie))
        return scores[:, self.place]

    def _score_by(self, examples: Examples, scorer: decoding.Scorer) -> Tensor:
        histories = zip(examples.user, examples.start, examples.end, strict=True)
        sources = [self.sources(int(user), examples.sequence[start:end]) for user, start, end in histories]
        return decoding.score_sources(self.packed, sources, False, scorer)

    def _beam_scores(self, examples: Examples, memory: decoding.Memory, rows: IntArray) -> Tensor:
        """Return (B, ids) the log-likelihoods of the ids that beams reach, -inf for the others."""
        beams = self.config.beams
        assert beams is not None
        if self.config.constrained:
            forbidden = self._forbidden(examples[rows])
            leaves, scores = decoding.beam_search(self.packed.t5, memory, self.trie, beams, forbidden)
        else:
            leaves, scores = self._free_beams(memory)
        found = scores.new_full((len(scores), self.trie.n_leaves + 1), -torch.inf)  # the last column takes leaf -1
        found.scatter_(1, leaves % (self.trie.n_leaves + 1), scores)
        return found[:, :-1]

    def _forbidden(self, examples: Examples) -> decoding.Forbidden | None:
        """Return the masked items that have an id of their own."""
        if (masked := examples.masked_items()) is None:
            return None
        row, item = masked
        alone = self.ids.group_sizes[item] == 1
        return row[alone], self.ids.distinct[1][item[alone]]

    def _free_beams(self, memory: decoding.Memory) -> tuple[Tensor, Tensor]:
        """Return (B, beams) the leaf of each unconstrained beam, -1 for codes of no item, and the scores."""
        assert self.config.beams is not None
        tokens, scores = decoding.free_beam_search(self.packed.t5, memory, len(self.id_tokens[0]), self.config.beams)
        leaf_of = {tuple(tokens): leaf for leaf, tokens in enumerate(self.id_tokens)}
        leaves = [[leaf_of.get(tuple(beam), -1) for beam in beams] for beams in tokens.tolist()]
        return torch.tensor(leaves, device=scores.device), scores

    @torch.no_grad()
    def gaps(self, examples: Examples, ranks: pd.DataFrame, cutoffs: Sequence[int]) -> dict[str, str]:
        """Return how often beams of a sample are no item's id, or miss an item that exact scores rank among the
        first."""
        if examples.candidates is not None or self._is_exact():
            return {}
        sample = examples[np.linspace(0, len(examples) - 1, min(CHECKED, len(examples))).astype(np.int64)]
        sample = replace(sample, mask_history=False)
        exact, found = self._exact_scores(sample), self.score(sample)
        best = exact.topk(min(CHECKED_RANKS, exact.shape[1])).indices
        missed = 1 - found.gather(1, best).isfinite().double().mean().item()
        said = f"{missed:.1%} of the {CHECKED_RANKS} best items by exact scores are in no beam of {self.config.beams}"
        if not self.config.constrained:
            leaves = self._score_by(sample, lambda memory, _: self._free_beams(memory)[0])
            said += f", and {(leaves < 0).double().mean().item():.1%} of the beams are codes of no item"
        return {"beam-search": f"{said} (of {len(sample):,} examples)"}


def codes_of(context: Context, seed: int | None = None) -> ItemIds:
    """Return the ids of all items, by another seed than that of the settings if there is one."""
    config: TigerConfig = context.config
    return item_ids(config.ids, config.encoder, context.split.for_ranking(), context.cache, context.device, seed)


def build(context: Context) -> Tiger:
    config: TigerConfig = context.config
    ids = codes_of(context)
    if not config.constrained and (ids.codes == END).any():
        raise DataError("ids of the file have different lengths, and unconstrained beams one", "model.constrained=true")
    return Tiger(config, context, ids)
