"""BERT4Rec (Sun et al., CIKM 2019, arXiv 1904.06690): a bidirectional Transformer that fills in masked items.

Training replaces items of a sequence by a mask token and predicts them from both sides (the cloze task).
To predict the next item, the mask token is appended to the history. States are compared with item vectors as in
RecBole 1.0.1, which UniSRec builds on; what is masked follows RecBole 1.2.0.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from llm4rec_cli.arithmetic import autocast
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.base import Batch, Context
from llm4rec_cli.models.shared.batch import as_tensors, copied_to
from llm4rec_cli.models.shared.layers import INITIAL_STD, initialise, sasrec_encoder
from llm4rec_cli.models.shared.next_item import NextItemModel
from llm4rec_cli.models.shared.sequences import Negatives, SequenceRows, pack
from llm4rec_zoo.models.bert4rec.config import Bert4RecConfig


class ClozeRows(SequenceRows):
    """One row per user with at least two training items, masked again in each epoch, packed without padding.

    Longer sequences are covered by windows that overlap by half. An item is masked only in the first that contains it.
    Masks are a function of (seed, epoch, row).

    Args:
        mask_ratio: probability that an item is masked; of each row at least one is.
        mask_last: probability that only the row's last item is masked instead.
    """

    widening = 1.0

    def __init__(
        self, split: Split, max_length: int, negatives: Negatives | None, mask_ratio: float, mask_last: float, seed: int
    ) -> None:
        super().__init__(split, max_length, negatives)
        self.mask_token = split.n_items
        self.mask_ratio, self.mask_last, self.seed = mask_ratio, mask_last, seed

    def _cover(self, n_targets: IntArray, max_length: int) -> None:
        super()._cover(np.where(n_targets > 0, n_targets + 1, 0), max_length)

    def masked(self, epoch: int, row: int) -> NDArray[np.bool_]:
        """Return (length,) which items of a row are masked."""
        first, length = int(self.first_loss[row]), int(self.lengths[row])
        random = stream(self.seed, "masks", epoch, row)
        masked = random.random(length) < self.mask_ratio
        masked[:first] = False
        if not masked.any():
            masked[random.integers(first, length)] = True
        if random.random() < self.mask_last:
            masked[:] = np.arange(length) == length - 1
        return masked

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Return the fields of `SequenceRows.batch`. The target of a masked position is the item itself."""
        packing = pack(self.lengths[indices], self.widening)
        order = [indices[i] for i in packing.row[packing.position == 0]]
        masks = [self.masked(epoch, row) for row in order]
        masked = np.concatenate(masks)
        items = self.flat[self.starts[indices][packing.row] + packing.position]
        read = np.flatnonzero(masked)
        batch = {"items": np.where(masked, self.mask_token, items), "read": read, "targets": items[read]}
        if self.negatives is not None:
            drawn = [self._negatives(epoch, row, int(mask.sum())) for row, mask in zip(order, masks, strict=True)]
            batch["negatives"] = np.concatenate(drawn)
        return {"groups": packing.groups, **as_tensors(batch)}


class Bert4Rec(NextItemModel):
    """SASRec's encoder without causality, over item embeddings and the vector of the mask token."""

    rows: ClassVar[type[SequenceRows]] = ClozeRows

    def __init__(self, config: Bert4RecConfig, context: Context) -> None:
        super().__init__(config, context, config.hidden_size)
        self.mask = nn.Parameter(torch.empty(config.hidden_size).normal_(std=INITIAL_STD))
        self.encoder = sasrec_encoder(config, causal=False, from_last=self.from_last)
        self.masking = config.mask_ratio, config.mask_last, context.seed
        self.apply(initialise)

    def training_rows(self) -> ClozeRows:
        return ClozeRows(self.split, self.max_length, self.negatives, *self.masking)

    def _vectors(self, table: Tensor, items: Tensor) -> Tensor:
        is_mask = items == len(table)
        return torch.where(is_mask.unsqueeze(1), self.mask, F.embedding(items.masked_fill(is_mask, 0), table))

    def states(self, table: Tensor, items: Tensor, groups: IntArray) -> Tensor:
        return self.encoder(self._vectors(table, items), groups)

    @torch.no_grad()
    def queries(self, examples: Examples) -> Tensor:
        table = self.item_vectors()
        flat, offsets = examples.histories(self.max_length - 1)
        lengths = np.diff(offsets)
        packing = pack(lengths + 1, self.rows.widening)
        source = offsets[packing.row] + packing.position
        items = np.where(packing.position < lengths[packing.row], np.append(flat, 0)[source], len(table))
        tokens = copied_to(torch.from_numpy(items.astype(np.int64)), table.device)
        with autocast(table.device, self.scoring):
            states = self.encoder.last(self._vectors(table, tokens), packing.groups, packing.last)
        return states.to(table.dtype)


def build(context: Context) -> Bert4Rec:
    return Bert4Rec(context.config, context)
