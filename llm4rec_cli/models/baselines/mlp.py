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

from llm4rec_cli.capabilities import Ratings
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.baselines.config import MlpConfig
from llm4rec_cli.models.shared.ratings import RatingRows, train_ratings


class Mlp(nn.Module):
    """Embeddings of users and items, and a multilayer perceptron over both."""

    def __init__(self, config: MlpConfig, context: Context) -> None:
        super().__init__()
        self.ratings = train_ratings(context.split)
        self.mean = float(self.ratings.rating.mean())
        self.users = nn.Embedding(context.split.n_users, config.embedding_size)
        self.items = nn.Embedding(context.split.n_items, config.embedding_size)
        for table, present in ((self.users, self.ratings.user), (self.items, self.ratings.item)):
            nn.init.normal_(table.weight, std=config.initial_std)
            unknown = torch.ones(len(table.weight), dtype=torch.bool)
            unknown[torch.from_numpy(present).long()] = False
            with torch.no_grad():
                table.weight[unknown] = 0  # no gradient ever reaches them
        layers: list[nn.Module] = [nn.Dropout(config.dropout)]
        for inputs, outputs in pairwise([2 * config.embedding_size, *config.hidden_sizes]):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(config.dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(config.hidden_sizes[-1], 1))

    def training_rows(self) -> RatingRows:
        return RatingRows(self.ratings)

    def predict(self, user: Tensor, item: Tensor) -> Tensor:
        """Return (n,) ratings, not clipped.

        Args:
            user, item: (n,) int64 numbers.
        """
        offset: Tensor = self.layers(torch.cat([self.users(user), self.items(item)], dim=-1))
        return self.mean + offset.squeeze(-1)

    def forward(self, user: Tensor, item: Tensor, rating: Tensor) -> dict[str, Any]:
        """Return the mean squared error."""
        return {"loss": F.mse_loss(self.predict(user, item), rating), "n_terms": len(user)}

    @torch.no_grad()
    def rate(self, examples: Examples) -> Ratings:
        user, item = (
            torch.from_numpy(numbers).long().to(self.users.weight.device)
            for numbers in (examples.user, examples.target)
        )
        return Ratings(self.predict(user, item).clamp(*self.ratings.scale).cpu().numpy())


def build(context: Context) -> Mlp:
    return Mlp(context.config, context)
