"""score(j) = <W mean(v_i) + b, v_j> over the latest items i of the history."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.next_item import NextItemModel
from llm4rec_running_mean.config import RunningMeanConfig


class RunningMean(NextItemModel):
    """Item vectors and a linear map."""

    def __init__(self, config: RunningMeanConfig, context: Context) -> None:
        super().__init__(config, context, config.embedding_size)
        self.map = nn.Linear(config.embedding_size, config.embedding_size)
        nn.init.xavier_normal_(self.items.weight)

    def states(self, table: Tensor, items: Tensor, groups: IntArray) -> Tensor:
        """Return (total, size) the state after each item."""
        means = []
        vectors = F.embedding(items, table)  # of all sequences, one after another; a group has one length
        for part, (rows, length) in zip(vectors.split(groups.prod(1).tolist()), groups.tolist(), strict=True):
            number = torch.arange(1, length + 1, device=part.device)
            means.append((part.view(rows, length, -1).cumsum(1) / number[:, None]).flatten(0, 1))
        mapped: Tensor = self.map(torch.cat(means))
        return mapped


def build(context: Context) -> RunningMean:
    """Return the model, which llm4rec calls with its settings and data."""
    return RunningMean(context.config, context)
