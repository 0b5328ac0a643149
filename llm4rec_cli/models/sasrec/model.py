"""SASRec (Kang and McAuley, ICDM 2018) with cross-entropy over the whole catalogue, as UniSRec's table has it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llm4rec_cli.data.examples import Examples
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.layers import SequenceEncoder, initialise
from llm4rec_cli.models.losses import catalogue_cross_entropy
from llm4rec_cli.models.sasrec.config import SASRecConfig
from llm4rec_cli.models.sequences import IGNORED, SequenceRows, packed_histories


class SASRec(nn.Module):
    """Item embeddings, a causal Transformer, scores by inner product."""

    among: Tensor | None

    def __init__(self, config: SASRecConfig, context: Context) -> None:
        super().__init__()
        self.split = context.split
        among = context.split.softmax_items()
        self.register_buffer("among", None if among is None else torch.from_numpy(among), persistent=False)
        self.items = nn.Embedding(context.split.n_items, config.hidden_size)
        self.encoder = SequenceEncoder(
            config.hidden_size,
            config.inner_size,
            config.layers,
            config.heads,
            config.dropout,
            config.attention_dropout,
            config.max_length,
        )
        self.apply(initialise)

    def training_rows(self) -> SequenceRows:
        return SequenceRows(self.split, self.encoder.max_length)

    def forward(self, items: Tensor, targets: Tensor, groups: Tensor) -> dict[str, Any]:
        """The mean cross-entropy over all positions that carry loss.

        Args:
            items, targets: (total,) int64, packed; targets are IGNORED where there is no loss.
            groups: (n_groups, 2) of the packing.
        """
        carries_loss = torch.nonzero(targets != IGNORED).squeeze(1)
        hidden = self.encoder(self.items(items), groups)[carries_loss]
        loss = catalogue_cross_entropy(hidden, self.items.weight, targets[carries_loss], self.among)
        return {"loss": loss, "n_terms": len(hidden)}

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        table = self.items.weight
        items, groups, last, nonempty = (
            t.to(table.device) for t in packed_histories(examples, self.encoder.max_length)
        )
        hidden = self.encoder.last(table[items], groups, last) * nonempty.unsqueeze(1)
        if examples.candidates is None:
            return hidden @ table.t()
        return torch.einsum("nh,nch->nc", hidden, table[torch.from_numpy(examples.candidates).long().to(table.device)])


def build(context: Context) -> SASRec:
    return SASRec(context.config, context)
