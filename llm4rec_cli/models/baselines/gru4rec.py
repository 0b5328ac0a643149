"""GRU4Rec (Hidasi et al., ICLR 2016, arXiv 1511.06939) in RecBole's form, after Tan et al. (DLRS 2016).

    h_t = GRU(h_{t-1}, Dropout(v_{i_t})),  score(j) = <W h_t + b, v_j>

The GRU has no biases. Item vectors start as Xavier normal, GRU weights as Xavier uniform, W and b as torch's defaults.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.baselines.config import Gru4RecConfig
from llm4rec_cli.models.shared.layers import Dropout
from llm4rec_cli.models.shared.next_item import NextItemModel


class Gru4Rec(NextItemModel):
    """Item embeddings, a GRU and a linear layer back to the size of the embeddings."""

    def __init__(self, config: Gru4RecConfig, context: Context) -> None:
        super().__init__(config, context, config.embedding_size)
        self.dropout = Dropout(config.dropout)
        self.gru = nn.GRU(config.embedding_size, config.hidden_size, config.layers, bias=False, batch_first=True)
        self.out = nn.Linear(config.hidden_size, config.embedding_size)
        nn.init.xavier_normal_(self.items.weight)
        for weight in self.gru.parameters():
            nn.init.xavier_uniform_(weight)

    def states(self, table: Tensor, items: Tensor, groups: IntArray) -> Tensor:
        shapes = groups.tolist()
        x = self.dropout(F.embedding(items, table))
        # In fp32, as autocast does not cover recurrent layers on every device.
        with torch.autocast(x.device.type, enabled=False):
            parts = x.split([rows * length for rows, length in shapes])
            states = [
                self.gru(part.view(rows, length, -1))[0].flatten(0, 1)
                for (rows, length), part in zip(shapes, parts, strict=True)
            ]
        return self.out(torch.cat(states))


def build(context: Context) -> Gru4Rec:
    return Gru4Rec(context.config, context)
