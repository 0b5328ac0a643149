"""SASRec (Kang and McAuley, ICDM 2018) with cross-entropy over the whole catalogue, as in UniSRec's tables."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.tokens import vocabulary
from llm4rec_cli.errors import DataError
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.baselines.config import SASRecConfig
from llm4rec_cli.models.shared.layers import SequenceEncoder, initialise
from llm4rec_cli.models.shared.losses import catalogue_cross_entropy
from llm4rec_cli.models.shared.sequences import IGNORED, SequenceRows, packed_histories


class SASRec(nn.Module):
    """Item embeddings, a causal Transformer, scores by inner product.

    With `tokens` the vector of an item, in input and output, is its embedding plus the mean of its tokens' embeddings.
    Only tokens shared by several training items are used.

    Raises:
        DataError: no token is shared by several training items.
    """

    softmax_items: Tensor | None
    token: Tensor
    first_token: Tensor

    def __init__(self, config: SASRecConfig, context: Context) -> None:
        super().__init__()
        self.split = context.split
        items = context.split.softmax_items()
        self.register_buffer("softmax_items", None if items is None else torch.from_numpy(items), persistent=False)
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
        self.tokens = self._token_embedding(items, config.hidden_size) if config.tokens else None
        self.apply(initialise)

    def _token_embedding(self, training_items: IntArray | None, size: int) -> nn.Embedding:
        """Return the embedding of the shared tokens; two buffers hold the concatenated tokens of all items."""
        tokens = list(self.split.dataset.items["tokens"])
        training_tokens = tokens if training_items is None else [tokens[i] for i in training_items]
        number = {token: i for i, token in enumerate(vocabulary(training_tokens))}
        if not number:
            raise DataError("no token is shared by two items", "set model.tokens=false or use other tokens")
        kept = [[number[token] for token in item if token in number] for item in tokens]
        first = np.cumsum([0, *map(len, kept)])[:-1]
        self.register_buffer("token", torch.tensor(list(chain.from_iterable(kept))), persistent=False)
        self.register_buffer("first_token", torch.from_numpy(first), persistent=False)
        return nn.Embedding(len(number), size)

    def table(self) -> Tensor:
        """Return (n_items, hidden) the vectors of all items."""
        if self.tokens is None:
            return self.items.weight
        return self.items.weight + F.embedding_bag(self.token, self.tokens.weight, self.first_token, mode="mean")

    def training_rows(self) -> SequenceRows:
        return SequenceRows(self.split, self.encoder.max_length)

    def forward(self, items: Tensor, targets: Tensor, groups: Tensor) -> dict[str, Any]:
        """Return the mean cross-entropy over all positions with a target.

        Args:
            items, targets: (total,) int64, packed; targets are IGNORED at positions without loss.
            groups: (n_groups, 2) of the packing.
        """
        table = self.table()
        carries_loss = torch.nonzero(targets != IGNORED).squeeze(1)
        hidden = self.encoder(F.embedding(items, table), groups)[carries_loss]
        loss = catalogue_cross_entropy(hidden, table, targets[carries_loss], self.softmax_items)
        return {"loss": loss, "n_terms": len(hidden)}

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        table = self.table()
        items, groups, last, nonempty = (
            t.to(table.device) for t in packed_histories(examples, self.encoder.max_length)
        )
        hidden = self.encoder.last(table[items], groups, last) * nonempty.unsqueeze(1)
        if examples.candidates is None:
            return hidden @ table.t()
        return torch.einsum("nh,nch->nc", hidden, table[torch.from_numpy(examples.candidates).long().to(table.device)])


def build(context: Context) -> SASRec:
    return SASRec(context.config, context)
