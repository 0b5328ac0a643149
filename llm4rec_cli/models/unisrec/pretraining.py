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
from typing import Any

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
        self.first_of_batch: int | None = None

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Return the plain sequences of fine-tuning and after them the augmented ones, as one packing, in `groups`.

        `texts` (u,): the distinct texts, ascending: item numbers, and then from `n_plain` (1,), an array, those plus
        n_items whose words are dropped. `text` (total + n,): of each position and then of each target, its place there.
        For the n positions with loss, in order:
        `read`, `seen_at` (n,): where the prefix and the augmented prefix end.
        `augmented` (n,) bool and `augmented_at`, their numbers: which prefixes are in L_SS; all unless
        `loss=paper_code`.
        `records` (n, 3): position in the training data, target and user.
        """
        plain = super().batch(epoch, indices)
        items, read = (np.asarray(plain[name]) for name in ("items", "read"))
        starts, lengths = self.starts[indices], self.lengths[indices]
        row, position = _ragged(lengths)
        source = starts[row] + position
        by_items, changed = self._augmentations(epoch)
        by_items, paper_code = by_items[indices], self.config.loss == PretrainingLoss.paper_code
        if paper_code:
            first = indices[0] if self.first_of_batch is None else self.first_of_batch
            by_items = np.full_like(by_items, self._augmentations(epoch)[0][first])  # one choice for a batch
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
            "records": np.stack([source[at] + 1, target, user], axis=1),
        }
        return {
            **as_tensors(numbers),
            "augmented": torch.from_numpy(augmented),
            "n_plain": np.searchsorted(texts, [self.n_items]),
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


def in_batch_cross_entropy(
    anchors: Tensor, positives: Tensor, records: Tensor, temperature: float, same_target: float = -torch.inf
) -> Tensor:
    """Return (n,) InfoNCE of each anchor against its own positive, with negatives from the batches of all processes.

    Args:
        anchors, positives: (n, size), of length 1.
        records: (n, 3) position in the training data, target and user. Other positives of the same user are left out.
        same_target: logit of other positives with the anchor's target; 0 in the published code.
    """
    columns, column_records = gather_rows(positives), gather_rows(records)
    order, is_repeated = in_order(column_records[:, 0])
    columns, column_records = columns[order], column_records[order]
    own = torch.searchsorted(column_records[:, 0].contiguous(), records[:, :1].contiguous())
    logits = (anchors @ columns.t()).float() / temperature
    positive = logits.gather(1, own)
    logits = logits.masked_fill(is_repeated, -torch.inf)
    logits = logits.masked_fill(records[:, 1:2] == column_records[:, 1], same_target)
    logits = logits.masked_fill(records[:, 2:] == column_records[:, 2], -torch.inf).scatter(1, own, positive)
    return F.cross_entropy(logits, own.squeeze(1), reduction="none")


def in_order(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return what sorts the records of all processes by their positions, (n,), and which of them in that order repeat
    the one before: a process that would be idle repeats another's row."""
    ascending, order = positions.sort(stable=True)
    return order, torch.cat([ascending.new_zeros(1, dtype=torch.bool), ascending[1:] == ascending[:-1]])


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
        return PretrainingRows(self.split, self.encoder.max_length, self.pretraining, self.seed)

    def forward(  # type: ignore[override]
        self,
        texts: Tensor,
        n_plain: IntArray,
        text: Tensor,
        groups: IntArray,
        read: Tensor,
        seen_at: Tensor,
        augmented: Tensor,
        augmented_at: Tensor,
        records: Tensor,
    ) -> dict[str, Any]:
        """Return both losses of a batch of `PretrainingRows`; several processes contrast their batches as one."""
        vectors = self._adapted(texts, int(n_plain[0]), text).split([len(text) - len(read), len(read)])
        states = self.encoder(vectors[0], groups)
        state, view = (F.normalize(states[at], dim=-1) for at in (read, seen_at))

        paper_code = self.pretraining.loss == PretrainingLoss.paper_code
        contrast = partial(
            in_batch_cross_entropy, temperature=self.temperature, same_target=0.0 if paper_code else -torch.inf
        )
        by_item = contrast(state, F.normalize(vectors[1], dim=-1), records)
        by_view = contrast(state[augmented_at], view[augmented_at], records[augmented_at])
        # Scaled so that the trainer's mean, weighted by `n_terms`, counts each augmented record of all processes once.
        everywhere = gather_rows(torch.stack([records[:, 0], augmented.long()], 1))
        order, is_repeated = in_order(everywhere[:, 0])
        in_view_loss = everywhere[order, 1].masked_fill(is_repeated, 0)
        view_loss = by_view.sum() / len(read) * ((~is_repeated).sum() / in_view_loss.sum())
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
            metrics["separation"] = self._separation(self.cached_catalogue()[1])
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
