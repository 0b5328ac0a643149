"""UniSRec's pre-training: two contrastive losses on mixed sequences of several domains (paper, section 2.3).

    L = L_SI + λ L_SS
    L_SI  a sequence's state against the vector of its next item; negatives are the other next items of the batch
    L_SS  a sequence's state against that of its augmentation; negatives are the other augmentations of the batch

Both are InfoNCE on cosines over a temperature. The positive of L_SS is the sequence's own augmentation (some surveys
read it as pulling together sequences of one domain; the paper does not do that). Its denominator is over augmented
sequences, as in the published code. The paper's formula has the plain ones there, including the anchor itself.

As in fine-tuning, one causal pass gives the state of every prefix of a sequence. A second pass, over the sequence with
items or words dropped, gives the augmented state of every prefix. A step takes whole sequences, so prefixes of the same
user meet in a batch, which is rare among shuffled records. They are not negatives of each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.base import Batch, Context
from llm4rec_cli.models.shared.batch import as_tensors
from llm4rec_cli.models.shared.losses import gather_rows
from llm4rec_cli.models.shared.sequences import SequenceRows, pack
from llm4rec_cli.models.unisrec.config import UniSRecConfig
from llm4rec_cli.models.unisrec.network import MoEAdaptor, UniSRec
from llm4rec_cli.models.unisrec.settings import AdaptorDraw, PretrainingConfig, PretrainingLoss

BoolArray = NDArray[np.bool_]


def drop_words(texts: list[str], probability: float, seed: int) -> list[str]:
    """Return the texts with each word (separated by spaces) dropped with that probability, fixed for all of
    pre-training. Equal texts lose the same words."""
    distinct = sorted(set(texts))
    words = [text.split(" ") for text in distinct]
    keep = iter(stream(seed, "word drop").random(sum(map(len, words))) >= probability)
    shortened = {text: " ".join(w for w in split if next(keep)) for text, split in zip(distinct, words, strict=True)}
    return [shortened[text] for text in texts]


class PretrainingRows(SequenceRows):
    """The rows of fine-tuning, each with an augmented view drawn from (seed, epoch, position).

    With probability `item_drop`, each item of a sequence except the first is dropped with probability `drop`, and the
    rest is packed. Otherwise each item uses, with probability `drop`, its text with words dropped.
    """

    def __init__(self, split: Split, max_length: int, config: PretrainingConfig, seed: int) -> None:
        super().__init__(split, max_length)
        _, self.offsets = split.train_sequences()
        self.n_items, self.config, self.seed = split.n_items, config, seed
        self.drawn: tuple[int, Any] = (-1, None)
        self.shares: list[list[int]] | None = None

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Return the plain sequences of fine-tuning and after them the augmented ones, as one packing, in `groups`.

        `texts` (u,): the distinct texts, ascending: item numbers, and then from `n_plain` (1,), an array, those plus
        n_items whose words are dropped. `text` (total + n,): of each position and then of each target, its place there.
        For the n positions with loss, in order:
        `read`, `seen_at` (n,): where the prefix and the augmented prefix end.
        `augmented_at`: which of them are in L_SS; all unless `loss=paper_code`.
        `records` (n, 4): position in the training data, target, user, and whether the prefix is in L_SS.
        `sizes` (n_processes,), an array: n of every process.
        """
        plain = super().batch(epoch, indices)
        items, read = (np.asarray(plain[name]) for name in ("items", "read"))
        starts, lengths = self.starts[indices], self.lengths[indices]
        row, position = _ragged(lengths)
        source = starts[row] + position
        by_items, changed = self._augmentations(epoch)
        shares, paper_code = self.shares or [indices], self.config.loss == PretrainingLoss.paper_code
        chosen_by = np.full(len(indices), shares[0][0]) if paper_code else indices  # one choice for a batch
        by_items = by_items[chosen_by]
        kept = ~(by_items[row] & changed[source]) | (position == 0)
        ends_run = np.append(kept[1:], True)  # a run: a kept item and the dropped ones after it; each row starts one
        # In the published code a dropped item overwrites the one before it, so that each run shows its last item. A
        # prefix that ends within a run would show a later item, so it is left out of L_SS; its own items do not matter.
        view_source = source[ends_run] if paper_code else source[kept]

        n_kept = np.bincount(row[kept], minlength=len(lengths))
        packing = pack(n_kept)
        begin = np.cumsum(n_kept) - n_kept
        view = view_source[begin[packing.row] + np.minimum(packing.position, n_kept[packing.row] - 1)]
        words_dropped = ~by_items[packing.row] & changed[view]
        seen_at = (packing.last - n_kept + 1 - begin)[row] + np.cumsum(kept) - 1

        packed = pack(lengths)
        at = (np.cumsum(lengths) - lengths)[packed.row[read]] + packed.position[read]
        user = np.searchsorted(self.offsets, source[at], side="right") - 1
        target = self.flat[source[at] + 1]
        views = self.flat[view] + self.n_items * words_dropped
        texts, text = np.unique(np.concatenate([items, views, target]), return_inverse=True)
        augmented = (ends_run | (not paper_code))[at]
        numbers = {
            "texts": texts,
            "text": text,
            "read": read,
            "seen_at": len(items) + seen_at[at],
            "augmented_at": np.flatnonzero(augmented),
            "records": np.stack([source[at] + 1, target, user, augmented], axis=1),
        }
        return {
            **as_tensors(numbers),
            "n_plain": np.searchsorted(texts, [self.n_items]),
            "sizes": np.array([(self.lengths - self.first_loss)[share].sum() for share in shares]),
            "groups": np.concatenate([np.asarray(plain["groups"]), packing.groups]),
        }

    def _augmentations(self, epoch: int) -> tuple[BoolArray, BoolArray]:
        """Return whether each row drops items (or else words), and whether each interaction is changed."""
        if self.drawn[0] != epoch:
            by_items = stream(self.seed, "augmentation", epoch).random(len(self)) < self.config.item_drop
            changed = stream(self.seed, "augmented positions", epoch).random(len(self.flat)) < self.config.drop
            self.drawn = epoch, (by_items, changed)
        return self.drawn[1]


def _ragged(lengths: IntArray) -> tuple[IntArray, IntArray]:
    """Return row and position of each token of concatenated sequences."""
    row = np.repeat(np.arange(len(lengths)), lengths)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


class Positives(NamedTuple):
    """What the anchors of a process are contrasted with: of all processes, in order of their position.

    Attributes:
        vectors: (m, …, size), of length 1.
        records: (m, 4) position in the training data, target, user, and whether the record is in L_SS.
        is_contrasted: (m,) false for a record that repeats one: a process that would be idle repeats another's row.
    """

    vectors: Tensor
    records: Tensor
    is_contrasted: Tensor


def of_all_processes(vectors: Tensor, records: Tensor, sizes: list[int]) -> Positives:
    """Return the positives of all processes, for (n, …, size) vectors and (n, 4) records of this one and the n of
    each."""
    vectors, records = gather_rows(vectors, sizes), gather_rows(records, sizes)
    position, order = records[:, 0].sort(stable=True)
    is_first = torch.cat([position.new_ones(1, dtype=torch.bool), position[1:] != position[:-1]])
    return Positives(vectors[order], records[order], is_first)


def in_batch_cross_entropy(
    anchors: Tensor, records: Tensor, positives: Positives, temperature: float, same_target: float = -torch.inf
) -> Tensor:
    """Return (n,) InfoNCE of each anchor against its own positive, with the others as negatives.

    Args:
        anchors: (n, size), of length 1.
        records: (n, 4) as in `Positives`. Other positives of the same user are left out.
        same_target: logit of other positives with the anchor's target; 0 in the published code.
    """
    own = torch.searchsorted(positives.records[:, 0].contiguous(), records[:, :1].contiguous())
    logits = (anchors @ positives.vectors.t()).float() / temperature
    positive = logits.gather(1, own)
    logits = logits.masked_fill(~positives.is_contrasted, -torch.inf)
    logits = logits.masked_fill(records[:, 1:2] == positives.records[:, 1], same_target)
    logits = logits.masked_fill(records[:, 2:3] == positives.records[:, 2], -torch.inf).scatter(1, own, positive)
    return F.cross_entropy(logits, own.squeeze(1), reduction="none")


class PretrainedUniSRec(UniSRec):
    """UniSRec under its contrastive losses; validation ranks without fine-tuning."""

    word_drop_features: Tensor
    domain: Tensor

    def __init__(self, config: UniSRecConfig, features: Tensor, word_drop_features: Tensor, context: Context) -> None:
        super().__init__(config, features, context)
        assert config.pretraining is not None
        self.pretraining, self.seed = config.pretraining, context.seed
        self.domains, domain = context.split.dataset.domains
        self.register_buffer("word_drop_features", word_drop_features, persistent=False)
        self.register_buffer("domain", torch.from_numpy(domain).long(), persistent=False)

    def training_rows(self) -> PretrainingRows:
        return PretrainingRows(self.split, self.max_length, self.pretraining, self.seed)

    def forward(  # type: ignore[override]
        self,
        texts: Tensor,
        n_plain: IntArray,
        text: Tensor,
        groups: IntArray,
        read: Tensor,
        seen_at: Tensor,
        augmented_at: Tensor,
        records: Tensor,
        sizes: IntArray,
    ) -> dict[str, Any]:
        """Return both losses of a batch of `PretrainingRows`; several processes contrast their batches as one."""
        vectors = self._adapted(texts, int(n_plain[0]), text).split([len(text) - len(read), len(read)])
        states = self.encoder(vectors[0], groups)
        state, view, target = (F.normalize(x, dim=-1) for x in (states[read], states[seen_at], vectors[1]))
        both = of_all_processes(torch.stack([target, view], 1), records, sizes.tolist())
        (targets, augmentations), is_augmented = both.vectors.unbind(1), both.records[:, 3].bool()
        items = both._replace(vectors=targets)
        views = both._replace(vectors=augmentations, is_contrasted=both.is_contrasted & is_augmented)
        paper_code = self.pretraining.loss == PretrainingLoss.paper_code
        contrast = partial(
            in_batch_cross_entropy, temperature=self.temperature, same_target=0.0 if paper_code else -torch.inf
        )
        by_item = contrast(state, records, items)
        by_view = contrast(state[augmented_at], records[augmented_at], views)
        # Scaled so that the trainer's mean, weighted by `n_terms`, counts each augmented record of all processes once.
        view_loss = by_view.sum() / len(read) * (items.is_contrasted.sum() / views.is_contrasted.sum())
        return {
            "loss": self.pretraining.item_weight * by_item.mean() + self.pretraining.sequence_weight * view_loss,
            "n_terms": len(read),
            "sums": self._sums(by_item.detach(), by_view.detach(), records[:, 1]),
        }

    def _adapted(self, texts: Tensor, n_plain: int, text: Tensor) -> Tensor:
        """Return (n, hidden) universal vectors of the texts `text` (n,) among `texts`; see `PretrainingRows`."""
        plain, shortened = texts[:n_plain], texts[n_plain:] - len(self.features)
        x = torch.cat([F.embedding(plain, self.features), F.embedding(shortened, self.word_drop_features)])
        if self.draw == AdaptorDraw.catalogue:
            return F.embedding(text, self.adaptor(x))
        adapted: Tensor = self.adaptor(F.embedding(text, x))
        return adapted

    def _sums(self, by_item: Tensor, by_view: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return sum and number of terms of each loss, and of L_SI by domain."""
        by_domain = torch.zeros(len(self.domains), 2, device=by_item.device)
        by_domain.index_add_(0, self.domain[target], torch.stack([by_item, torch.ones_like(by_item)], 1))
        sums = {"loss/item": by_item, "loss/view": by_view}
        pairs = {name: torch.stack([loss.sum(), loss.new_full((), len(loss))]) for name, loss in sums.items()}
        return pairs | {f"loss/item/{name}": pair for name, pair in zip(self.domains, by_domain, strict=True)}

    @torch.no_grad()
    def epoch_metrics(self, means: Mapping[str, float]) -> dict[str, Any]:
        """Return measures of the expert mixture and of the separation of domains.

        `gate_entropy`: mean over items, 1 = uniform over experts, 0 = one expert per item. `expert_usage`: mean weight
        of each expert. `separation`: mean cosine of universal item vectors within a domain minus that between domains;
        `separation/text`: the same for the frozen text vectors. 0 = domains are mixed.
        """
        metrics: dict[str, Any] = {}
        if isinstance(self.adaptor, MoEAdaptor) and self.adaptor.gate.shape[1] > 1:
            gates = self.adaptor.gates(self.features)
            entropy = -torch.xlogy(gates, gates).sum(1).mean() / math.log(gates.shape[1])
            metrics = {"gate_entropy": entropy.item(), "expert_usage": gates.mean(0).tolist()}
        if len(self.domains) > 1:
            metrics["separation"] = self._separation(self.item_vectors())
            metrics["separation/text"] = self._text_separation
        return metrics

    @cached_property
    def _text_separation(self) -> float:
        return self._separation(F.normalize(self.features, dim=-1))  # the features are frozen

    def _separation(self, directions: Tensor) -> float:
        n = len(self.domains)
        centres = torch.stack([directions[self.domain == d].mean(0) for d in range(n)])
        cosines = centres @ centres.t()  # the cosine of means is the mean over all pairs
        size = torch.bincount(self.domain)
        within = ((size * cosines.diagonal() - 1) / (size - 1)).mean()  # without pairs of an item with itself
        return (within - (cosines.sum() - cosines.diagonal().sum()) / (n * (n - 1))).item()
