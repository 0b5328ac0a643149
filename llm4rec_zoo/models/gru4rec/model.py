"""GRU4Rec (Hidasi et al., ICLR 2016, arXiv 1511.06939) in RecBole's form, after Tan et al. (DLRS 2016).

    h_t = GRU(h_{t-1}, Dropout(v_{i_t})),  score(j) = <W h_t + b, v_j>

The GRU has no biases. Item vectors start as Xavier normal, GRU weights as Xavier uniform, W and b as torch's defaults.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.arithmetic import on_cpu
from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.batch import copied_to
from llm4rec_cli.models.shared.blocks import Keys, starts_of
from llm4rec_cli.models.shared.layers import Dropout
from llm4rec_cli.models.shared.next_item import NextItemModel
from llm4rec_zoo.models.gru4rec.config import Gru4RecConfig


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
        x = self.dropout(F.embedding(items, table))
        # In fp32, as autocast does not cover recurrent layers on every device.
        with torch.autocast(x.device.type, enabled=False):
            states = self._by_group(x, groups) if on_cpu(x) else self._at_once(x, groups)
        return self.out(states)

    def _by_group(self, x: Tensor, groups: IntArray) -> Tensor:
        shapes = groups.tolist()
        parts = x.split([rows * length for rows, length in shapes])
        states = [
            self.gru(part.view(rows, length, -1))[0].flatten(0, 1)
            for (rows, length), part in zip(shapes, parts, strict=True)
        ]
        return torch.cat(states)

    def _at_once(self, x: Tensor, groups: IntArray) -> Tensor:
        """Return the states of all groups, padded at the end to one length: a GRU takes as long as its longest row."""
        lengths, longest = np.repeat(groups[:, 1], groups[:, 0]), int(groups[:, 1].max())
        starts, row = starts_of(lengths), np.arange(len(lengths))
        read = Keys.own(starts, lengths).index(row, longest).ravel()
        written = np.arange(len(x)) + np.repeat(row * longest - starts, lengths)
        places = copied_to(torch.from_numpy(np.concatenate([read, written])), x.device).split([len(read), len(x)])
        padded = x.index_select(0, places[0]).view(len(row), longest, -1)
        return self.gru(padded)[0].flatten(0, 1).index_select(0, places[1])


def build(context: Context) -> Gru4Rec:
    return Gru4Rec(context.config, context)
