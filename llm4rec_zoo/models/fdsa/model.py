"""FDSA (Zhang et al., IJCAI 2019): self-attention over item ids and, in a second stream, over item features.

    state = LayerNorm(W [ids(v_{i_1..t}); text(f_{i_1..t})] + b),  f_i = ReLU(U x_i + c),  score(j) = <state, v_j>

In UniSRec's table, which this follows, the only feature of an item is the frozen vector x_i of its text (its
`baselines/fdsa.py`). The paper's attention over several features of an item is then the identity. Both streams are
SASRec encoders.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.layers import Dropout, initialise, sasrec_encoder
from llm4rec_cli.models.shared.next_item import NextItemModel
from llm4rec_cli.text.features import encode_texts
from llm4rec_zoo.models.fdsa.config import FdsaConfig


class Fdsa(NextItemModel):
    """Two SASRec encoders, whose states are joined by a linear layer; `features` are frozen vectors of the item
    texts."""

    features: Tensor

    def __init__(self, config: FdsaConfig, context: Context, features: Tensor) -> None:
        super().__init__(config, context, config.hidden_size)
        self.register_buffer("features", features, persistent=False)
        self.adapter = nn.Linear(features.shape[1], config.hidden_size)
        self.id_encoder = sasrec_encoder(config, from_last=self.from_last)
        self.text_encoder = sasrec_encoder(config, from_last=self.from_last)
        self.join = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=1e-12)
        self.dropout = Dropout(config.dropout)
        self.apply(initialise)

    def _text_vectors(self, items: Tensor) -> Tensor:
        return F.relu(self.adapter(F.embedding(items, self.features)))

    def _joined(self, ids: Tensor, text: Tensor) -> Tensor:
        return self.dropout(self.norm(self.join(torch.cat([ids, text], -1))))

    def states(self, table: Tensor, items: Tensor, groups: IntArray) -> Tensor:
        ids = self.id_encoder(F.embedding(items, table), groups)
        return self._joined(ids, self.text_encoder(self._text_vectors(items), groups))

    def last_states(self, table: Tensor, items: Tensor, groups: IntArray, last: IntArray) -> Tensor:
        ids = self.id_encoder.last(F.embedding(items, table), groups, last)
        return self._joined(ids, self.text_encoder.last(self._text_vectors(items), groups, last))


def build(context: Context) -> Fdsa:
    dataset = context.split.dataset
    features = encode_texts(dataset.texts, context.config.encoder, context.cache, context.device, dataset)
    return Fdsa(context.config, context, features)
