"""Rank a catalogue by the likelihoods of its items' ids, of a model that generates an id code by code.

The catalogue is ranked by the likelihood of all ids, or by beam search, which leaves the items that it does not reach
unranked, so that these are misses. Beams follow a tree of the items' ids, and a choice is a softmax over the codes that
continue some id. Items that share an id tie.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.ids.item_ids import END, ItemIds
from llm4rec_cli.models.base import ReferenceLosses
from llm4rec_cli.models.shared import decoding
from llm4rec_cli.models.shared.trie import START, Trie

FIRST_TOKEN = START + 1  # of the codes
CHECKED = 200  # examples whose beams are compared with exact scores
CHECKED_RANKS = 10  # of the exact scores


class IdTokens:
    """Tokens of codes: those of each level follow those of the level before.

    Attributes:
        of_code: (n_items, levels) tokens; END after the last one of a shorter id.
        of_item: the tokens of each item.
        first: (levels + 1,) the first token of each level, and the number of tokens so far.
    """

    def __init__(self, ids: ItemIds) -> None:
        self.first = FIRST_TOKEN + np.cumsum([0, *ids.sizes])
        self.of_code: IntArray = np.where(ids.codes == END, END, ids.codes + self.first[:-1])
        self.of_item: list[IntArray] = [row[row != END] for row in self.of_code]


class IdRanker(nn.Module, ABC):
    """A model that scores items by the likelihoods of their ids.

    Args:
        beams: of the search; None = exact scores of all items. They are exact where that costs no more, too.

    Attributes:
        averages_targets: whether the loss is a mean over targets, each the mean over its codes, or over all codes.
    """

    averages_targets: ClassVar[bool] = True

    def __init__(self, split: Split, ids: ItemIds, beams: int | None) -> None:
        super().__init__()
        self.split, self.item_codes, self.beams = split, ids, beams
        self.id_tokens = IdTokens(ids)
        _, place = ids.distinct
        first_item = np.unique(place, return_index=True)[1]
        self.distinct_ids = [self.id_tokens.of_item[item].tolist() for item in first_item]
        self.place = torch.from_numpy(place)  # (n_items,) leaf of each item's id
        self.trie = Trie.from_codes(self.distinct_ids)
        of_leaf = self.trie.paths()
        self.path_of: list[IntArray] = [of_leaf[leaf] for leaf in place.tolist()]  # of each item's id

    def reference_losses(self) -> ReferenceLosses:
        """Return them in nats a code, over all training targets."""
        items, offsets = self.split.train_sequences()
        targets = np.delete(items, offsets[:-1][np.diff(offsets) > 0])  # the first item of a sequence is none
        place, n_items = self.item_codes.distinct[1], len(self.place)
        n_codes = np.array([len(codes) for codes in self.id_tokens.of_item])[targets]

        def loss(weights: NDArray[np.float64]) -> float:
            shares = np.bincount(place, weights)[place[targets]] / weights.sum()
            return float(np.mean(-np.log(shares) / (n_codes if self.averages_targets else n_codes.mean())))

        return ReferenceLosses(loss(np.ones(n_items)), loss(np.bincount(targets, minlength=n_items).astype(float)))

    def choice_losses(self, logits: Tensor, nodes: Tensor, chosen: Tensor) -> Tensor:
        """Return (n,) the cross-entropy of the child `chosen` of each node, from logits (n, all tokens)."""
        self.trie = self.trie.to(logits.device)
        return decoding.choice_losses(self.trie, logits[:, self.trie.tokens], nodes, chosen)

    @property
    @abstractmethod
    def decoder(self) -> decoding.Decoder: ...

    @abstractmethod
    def memories(self, examples: Examples) -> Iterator[tuple[decoding.Memory, IntArray]]:
        """Yield what the decoder reads of some histories, and the indices of their examples."""
        ...

    def artifacts(self) -> dict[str, str]:
        return {"item_ids.json": self.item_codes.to_json(self.split.dataset)}

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        device = self.decoder.output.device
        self.trie, self.place = self.trie.to(device), self.place.to(device)
        if examples.candidates is not None:
            leaves = self.place[torch.from_numpy(examples.candidates).long().to(device)]
            return self.score_by(
                examples, lambda memory, rows: decoding.candidate_scores(self.decoder, memory, self.trie, leaves[rows])
            )
        if self.is_exact():
            return self.exact_scores(examples)
        scores = self.score_by(examples, lambda memory, rows: self._beam_scores(examples[rows], memory))
        return scores[:, self.place]

    def is_exact(self) -> bool:
        return self.beams is None or decoding.exact_is_cheaper(self.trie, self.beams)

    def exact_scores(self, examples: Examples) -> Tensor:
        scores = self.score_by(examples, lambda memory, _: decoding.leaf_scores(self.decoder, memory, self.trie))
        return scores[:, self.place]

    def score_by(self, examples: Examples, scorer: decoding.Scorer) -> Tensor:
        return decoding.score_memories(len(examples), self.memories(examples), scorer)

    def _beam_scores(self, examples: Examples, memory: decoding.Memory) -> Tensor:
        """Return (B, ids) the log-likelihoods of the ids that beams reach, -inf for the others."""
        leaves, scores = self.beam_leaves(examples, memory)
        found = scores.new_full((len(scores), self.trie.n_leaves + 1), -torch.inf)  # the last column takes leaf -1
        found.scatter_(1, leaves % (self.trie.n_leaves + 1), scores)
        return found[:, :-1]

    def beam_leaves(self, examples: Examples, memory: decoding.Memory) -> tuple[Tensor, Tensor]:
        """Return (B, beams) the leaf of each beam, -1 = none, and its score."""
        assert self.beams is not None
        return decoding.beam_search(self.decoder, memory, self.trie, self.beams, self._forbidden(examples))

    def _forbidden(self, examples: Examples) -> decoding.Forbidden | None:
        """Return the masked items that have an id of their own."""
        if (masked := examples.masked_items()) is None:
            return None
        row, item = masked
        alone = self.item_codes.group_sizes[item] == 1
        return row[alone], self.item_codes.distinct[1][item[alone]]

    @torch.no_grad()
    def gaps(self, examples: Examples, ranks: pd.DataFrame, cutoffs: Sequence[int]) -> dict[str, str]:
        """Return how often beams of a sample miss an item that exact scores rank among the first."""
        if examples.candidates is not None or self.is_exact():
            return {}
        sample = examples[np.linspace(0, len(examples) - 1, min(CHECKED, len(examples))).astype(np.int64)]
        sample = replace(sample, mask_history=False)
        exact, found = self.exact_scores(sample), self.score(sample)
        best = exact.topk(min(CHECKED_RANKS, exact.shape[1])).indices
        missed = 1 - found.gather(1, best).isfinite().double().mean().item()
        said = f"{missed:.1%} of the {CHECKED_RANKS} best items by exact scores are in no beam of {self.beams}"
        said += self.invalid_beams(sample)
        return {"beam-search": f"{said} (of {len(sample):,} examples)"}

    def invalid_beams(self, sample: Examples) -> str:
        """Return a clause on how many beams are codes of no item, where that can be."""
        return ""
