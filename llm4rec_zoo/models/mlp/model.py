"""Ratings by a multilayer perceptron: rating(u, i) = μ + MLP([p_u; q_i]), P5's baseline MLP.

μ is the mean training rating. Users and items that training lacks have embeddings of zeros, the mean of the initial
embeddings. Predictions are clipped to the scale.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.models.base import Context
from llm4rec_zoo.models.mlp.config import MlpConfig
from llm4rec_zoo.models.shared.ratings import RatingModel


class Mlp(RatingModel):
    """Embeddings of users and items, and a multilayer perceptron over both."""

    def __init__(self, config: MlpConfig, context: Context) -> None:
        super().__init__(context.split, config.embedding_size, config.initial_std)
        for table, present in ((self.users, self.ratings.user), (self.items, self.ratings.item)):
            unknown = torch.ones(len(table.weight), dtype=torch.bool)
            unknown[torch.from_numpy(present).long()] = False
            with torch.no_grad():
                table.weight[unknown] = 0  # no gradient ever reaches them
        layers: list[nn.Module] = [nn.Dropout(config.dropout)]
        for inputs, outputs in pairwise([2 * config.embedding_size, *config.hidden_sizes]):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(config.dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(config.hidden_sizes[-1], 1))

    def predict(self, user: Tensor, item: Tensor) -> Tensor:
        offset: Tensor = self.layers(torch.cat([self.users(user), self.items(item)], dim=-1))
        return self.mean + offset.squeeze(-1)

    def forward(self, user: Tensor, item: Tensor, rating: Tensor) -> dict[str, Any]:
        return {"loss": F.mse_loss(self.predict(user, item), rating), "n_terms": len(user)}


def build(context: Context) -> Mlp:
    return Mlp(context.config, context)
