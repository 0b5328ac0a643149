"""Biased matrix factorisation (Koren et al., Computer 2009): rating(u, i) = μ + b_u + b_i + <p_u, q_i>, with

    Σ over ratings of (r_ui - rating(u, i))² + λ (b_u² + b_i² + |p_u|² + |q_i|²)

minimised. μ is the mean training rating. Users and items that training lacks have bias 0 and no product. Predictions
are clipped to the scale.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.models.base import Context
from llm4rec_zoo.models.mf.config import MfConfig
from llm4rec_zoo.models.shared.ratings import RatingModel


class Mf(RatingModel):
    """Embeddings and biases of users and items."""

    known_users: Tensor  # (n_users,) 1 if in training, otherwise 0
    known_items: Tensor

    def __init__(self, config: MfConfig, context: Context) -> None:
        super().__init__(context.split, config.embedding_size, config.initial_std)
        self.penalty = config.penalty
        n_users, n_items = context.split.n_users, context.split.n_items
        self.user_bias = nn.Parameter(torch.zeros(n_users))
        self.item_bias = nn.Parameter(torch.zeros(n_items))
        for name, n, present in (("users", n_users, self.ratings.user), ("items", n_items, self.ratings.item)):
            known = torch.zeros(n)
            known[torch.from_numpy(present).long()] = 1
            self.register_buffer(f"known_{name}", known, persistent=False)

    def predict(self, user: Tensor, item: Tensor) -> Tensor:
        both_known = self.known_users[user] * self.known_items[item]
        product = (self.users(user) * self.items(item)).sum(-1) * both_known
        return self.mean + self.user_bias[user] + self.item_bias[item] + product

    def forward(self, user: Tensor, item: Tensor, rating: Tensor) -> dict[str, Any]:
        squares = self.users(user) ** 2 + self.items(item) ** 2
        penalty = squares.sum(-1) + self.user_bias[user] ** 2 + self.item_bias[item] ** 2
        loss = F.mse_loss(self.predict(user, item), rating) + self.penalty * penalty.mean()
        return {"loss": loss, "n_terms": len(user)}


def build(context: Context) -> Mf:
    return Mf(context.config, context)
