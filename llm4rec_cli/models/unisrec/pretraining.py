"""UniSRec's pre-training: two contrastive losses on sequences of several domains mixed (paper, section 2.3).

    L = L_SI + λ L_SS
    L_SI  a sequence's state against the vector of its next item; negatives are the batch's other next items
    L_SS  a sequence's state against that of the same sequence augmented; negatives are the batch's other augmented ones

Both are InfoNCE on cosines over a temperature. The positive of L_SS is the sequence's own augmented self (some surveys
read it as sequences of one domain drawn together; the paper does not do that). Its denominator is the published code's,
over augmented sequences; the paper's formula prints the plain ones there, among them the anchor itself.

As in fine-tuning one causal pass gives the state of every prefix of a sequence; a second pass, over the sequence with
positions dropped or reworded, gives the augmented state of every prefix. A step takes whole sequences, so prefixes of
one user meet in a batch, which hardly happens to shuffled records: they are no negatives of one another.
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

from llm4rec_cli import processes
from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.losses import gather_rows
from llm4rec_cli.models.shared.sequences import IGNORED, SequenceRows, pack
from llm4rec_cli.models.unisrec.config import Draw, Loss, PretrainingConfig, UniSRecConfig
from llm4rec_cli.models.unisrec.network import MoEAdaptor, UniSRec

BoolArray = NDArray[np.bool_]


def drop_words(texts: list[str], probability: float, seed: int) -> list[str]:
    """A copy of the texts in which each word is missing with that probability: one copy for all of pre-training.

    Words are divided by spaces. Equal texts lose the same words.

    Args:
        seed: `dataset.seed`.
    """
    distinct = sorted(set(texts))
    words = [text.split(" ") for text in distinct]
    kept = iter(stream(seed, "word drop").random(sum(map(len, words))) >= probability)
    copies = {text: " ".join(word for word in found if next(kept)) for text, found in zip(distinct, words, strict=True)}
    return [copies[text] for text in texts]


class PretrainingRows(SequenceRows):
    """The rows of fine-tuning, each with an augmented view, drawn anew each epoch from (seed, epoch, position).

    With probability `item_drop` a sequence loses each of its items but the first with probability `drop`, and what is
    left is packed; otherwise each item takes, with that probability, its text with words dropped.
    """

    def __init__(self, split: Split, max_length: int, config: PretrainingConfig, seed: int) -> None:
        super().__init__(split, max_length)
        _, self.offsets = split.train_sequences()
        self.n_items, self.config, self.seed = split.n_items, config, seed
        self.drawn: tuple[int, Any] = (-1, None)

    def batch(self, epoch: int, indices: list[int]) -> dict[str, Tensor]:
        """What fine-tuning has (`items`, `targets`, `groups`), and of the `n` positions that carry loss, in order:

        `views`, `view_groups`: the augmented sequences, packed; item numbers, n_items more where words are dropped.
        `seen_at` (n,): where among `views` the augmented prefix of each ends.
        `augmented` (n,) bool: whether L_SS has that prefix; all but with `loss=paper_code`.
        `records` (n, 3): place in the training data, target and user.
        """
        plain = super().batch(epoch, indices)
        starts, lengths = self.starts[indices], self.lengths[indices]
        row, position = _ragged(lengths)
        source = starts[row] + position
        by_items, changed = self._drawn(epoch)
        by_items, paper_code = by_items[indices], self.config.loss == Loss.paper_code
        if paper_code:
            chosen = processes.from_first(lambda: bool(by_items[0]))  # one choice a batch, of all processes
            by_items = np.full_like(by_items, chosen)
        kept = ~(by_items[row] & changed[source]) | (position == 0)
        ends_run = np.append(kept[1:], True)  # a run: a kept item, as each row begins with, and those dropped after it
        # Published: a dropped item overwrites the one before it, so each run shows its last. A prefix that ends within
        # a run would show what comes after it, and is left out of L_SS: that hangs on none of its own items.
        shown = source[ends_run] if paper_code else source[kept]

        n_kept = np.bincount(row[kept], minlength=len(lengths))
        packing = pack(n_kept)
        begin = np.cumsum(n_kept) - n_kept
        view = shown[begin[packing.row] + np.minimum(packing.position, n_kept[packing.row] - 1)]
        reworded = ~by_items[packing.row] & changed[view]
        seen_at = (packing.last - n_kept + 1 - begin)[row] + np.cumsum(kept) - 1

        packed = pack(lengths)
        carrying = np.flatnonzero(plain["targets"].numpy() != IGNORED)
        at = (np.cumsum(lengths) - lengths)[packed.row[carrying]] + packed.position[carrying]
        user = np.searchsorted(self.offsets, source[at], side="right") - 1
        records = np.stack([source[at] + 1, self.flat[source[at] + 1], user], axis=1)
        arrays = {
            "views": self.flat[view] + self.n_items * reworded,
            "view_groups": packing.groups,
            "seen_at": seen_at[at],
            "records": records,
        }
        tensors = {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()}
        return plain | tensors | {"augmented": torch.from_numpy((ends_run | (not paper_code))[at])}

    def _drawn(self, epoch: int) -> tuple[BoolArray, BoolArray]:
        """Of each row, whether it loses items (or else words); of each training interaction, whether it is changed."""
        if self.drawn[0] != epoch:
            by_items = stream(self.seed, "augmentation", epoch).random(len(self)) < self.config.item_drop
            changed = stream(self.seed, "augmented positions", epoch).random(len(self.flat)) < self.config.drop
            self.drawn = epoch, (by_items, changed)
        return self.drawn[1]


def _ragged(lengths: IntArray) -> tuple[IntArray, IntArray]:
    """Row and position of each token of sequences that stand behind one another."""
    row = np.repeat(np.arange(len(lengths)), lengths)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def in_batch_cross_entropy(
    anchors: Tensor, positives: Tensor, records: Tensor, temperature: float, same_target: float = -torch.inf
) -> Tensor:
    """InfoNCE of each anchor against its own positive, among the positives of all processes' batches.

    Args:
        anchors, positives: (n, size), of length 1.
        records: (n, 3) place in the training data, target and user. Positives of the anchor's own user are left out.
        same_target: the logit of other positives with the anchor's own target; the published code has 0 there.

    Returns:
        (n,) losses.
    """
    columns, others = gather_rows(positives), gather_rows(records)
    places, back = others[:, 0].unique(return_inverse=True)  # a process that sits a batch out repeats another's row
    first = torch.full_like(places, len(back)).scatter_reduce(0, back, torch.arange(len(back)).to(back), "amin")
    columns, others = columns[first], others[first]
    own = torch.searchsorted(places, records[:, :1].contiguous())
    logits = (anchors @ columns.t()).float() / temperature
    positive = logits.gather(1, own)
    logits = logits.masked_fill(records[:, 1:2] == others[:, 1], same_target)
    logits = logits.masked_fill(records[:, 2:] == others[:, 2], -torch.inf).scatter(1, own, positive)
    return F.cross_entropy(logits, own.squeeze(1), reduction="none")


class PretrainedUniSRec(UniSRec):
    """UniSRec under its contrastive losses; between epochs it ranks as it would without any tuning."""

    reworded: Tensor
    domain: Tensor

    def __init__(self, config: UniSRecConfig, features: Tensor, reworded: Tensor, context: Context) -> None:
        super().__init__(config, features, context)
        assert config.pretraining is not None
        self.pretraining, self.seed = config.pretraining, context.seed
        self.domains, domain = context.split.dataset.domains
        self.register_buffer("reworded", reworded, persistent=False)
        self.register_buffer("domain", torch.from_numpy(domain).long(), persistent=False)

    def training_rows(self) -> PretrainingRows:
        return PretrainingRows(self.split, self.encoder.max_length, self.pretraining, self.seed)

    def forward(  # type: ignore[override]
        self,
        items: Tensor,
        targets: Tensor,
        groups: Tensor,
        views: Tensor,
        view_groups: Tensor,
        seen_at: Tensor,
        augmented: Tensor,
        records: Tensor,
    ) -> dict[str, Any]:
        """The two losses on what `PretrainingRows.batch` gives; several processes contrast their batches as one."""
        carries_loss = torch.nonzero(targets != IGNORED).squeeze(1)
        target = records[:, 1]
        vectors = self._adapted(torch.cat([items, views, target])).split([len(items) + len(views), len(target)])
        states = self.encoder(vectors[0], torch.cat([groups, view_groups]))
        state, view = (F.normalize(states[at], dim=-1) for at in (carries_loss, len(items) + seen_at))

        paper_code = self.pretraining.loss == Loss.paper_code
        contrast = partial(
            in_batch_cross_entropy, temperature=self.temperature, same_target=0.0 if paper_code else -torch.inf
        )
        by_item = contrast(state, F.normalize(vectors[1], dim=-1), records)
        by_view = contrast(state[augmented], view[augmented], records[augmented])
        # The mean over all that several processes have, each once, when the trainer has weighed by `n_terms`.
        all_of_them = gather_rows(torch.stack([records[:, 0], augmented.long()], 1)).unique(dim=0)[:, 1]
        view_loss = by_view.sum() / len(target) * (len(all_of_them) / all_of_them.sum())
        return {
            "loss": by_item.mean() + self.pretraining.sequence_weight * view_loss,
            "n_terms": len(target),
            "sums": self._sums(by_item.detach(), by_view.detach(), target),
        }

    def _adapted(self, views: Tensor) -> Tensor:
        """(n, hidden) universal vectors of items, or of their reworded texts where a number is n_items or more."""
        back = None
        if self.draw == Draw.catalogue:
            views, back = views.unique(return_inverse=True)
        plain, other = views < len(self.features), views >= len(self.features)
        x = self.features.new_empty(len(views), self.features.shape[1])
        x[plain], x[other] = self.features[views[plain]], self.reworded[views[other] - len(self.features)]
        adapted: Tensor = self.adaptor(x)
        return adapted if back is None else F.embedding(back, adapted)

    def _sums(self, by_item: Tensor, by_view: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Sum and number of terms: of each loss, and of L_SI of each domain."""
        of_domain = torch.zeros(len(self.domains), 2, device=by_item.device)
        of_domain.index_add_(0, self.domain[target], torch.stack([by_item, torch.ones_like(by_item)], 1))
        sums = {"loss/item": by_item, "loss/view": by_view}
        pairs = {name: torch.stack([loss.sum(), loss.new_tensor(len(loss))]) for name, loss in sums.items()}
        return pairs | {f"loss/item/{name}": pair for name, pair in zip(self.domains, of_domain, strict=True)}

    @torch.no_grad()
    def epoch_metrics(self, means: Mapping[str, float]) -> dict[str, Any]:
        """How the gate mixes experts, and how far domains lie apart.

        `gate_entropy`: mean over items, 1 = all experts alike, 0 = one each. `expert_usage`: mean share of each expert.
        `separation`: mean cosine of items within a domain less that between domains, of universal vectors;
        `separation/text`: of the frozen text vectors. 0 = domains are mixed.
        """
        found: dict[str, Any] = {}
        if isinstance(self.adaptor, MoEAdaptor) and self.adaptor.gate.shape[1] > 1:
            gates = self.adaptor.gates(self.features)
            entropy = -torch.xlogy(gates, gates).sum(1).mean() / math.log(gates.shape[1])
            found = {"gate_entropy": entropy.item(), "expert_usage": gates.mean(0).tolist()}
        if len(self.domains) > 1:
            found["separation"] = self._separation(self.tables()[1])
            found["separation/text"] = self._text_separation
        return found

    @cached_property
    def _text_separation(self) -> float:
        return self._separation(F.normalize(self.features, dim=-1))  # frozen: it stays as it is

    def _separation(self, directions: Tensor) -> float:
        n = len(self.domains)
        centres = torch.stack([directions[self.domain == d].mean(0) for d in range(n)])
        cosines = centres @ centres.t()  # of means: the mean over all pairs
        size = torch.bincount(self.domain)
        within = ((size * cosines.diagonal() - 1) / (size - 1)).mean()  # without those of an item and itself
        return (within - (cosines.sum() - cosines.diagonal().sum()) / (n * (n - 1))).item()
