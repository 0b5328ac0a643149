"""SimpleX (Mao et al., CIKM 2021, arXiv 2109.12613): cosines, many negatives, and the mean of the user's items.

    h_u = g e_u + (1 - g) V mean_{k in history} e_k,   score(u, i) = cos(h_u, e_i)
    L   = 1 - cos(h_u, e_i) + w / |N| Σ_{j in N} max(0, cos(h_u, e_j) - m)        the cosine contrastive loss

In training the history is the latest `max_length` items of the user's training part, among them often the item itself,
as in RecBole's code, which takes the first ones of its file.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.data.examples import Examples, slices
from llm4rec_cli.data.split import Split
from llm4rec_cli.models.base import Batch, Context
from llm4rec_cli.models.shared.config import Distribution
from llm4rec_cli.models.shared.layers import Dropout
from llm4rec_cli.models.shared.losses import sampled_loss
from llm4rec_cli.models.shared.next_item import inner_products
from llm4rec_cli.models.shared.sequences import Negatives
from llm4rec_zoo.models.simplex.config import SimpleXConfig


class InteractionRows:
    """One row per training interaction: user, history, and items, the interaction's own before its negatives.

    Negatives are drawn by (seed, epoch, row) among the items that the user does not have in training.
    """

    def __init__(self, split: Split, config: SimpleXConfig, seed: int) -> None:
        self.flat, self.offsets = split.train_sequences()
        self.user = np.repeat(np.arange(split.n_users), np.diff(self.offsets))
        self.negatives = Negatives(split, config.negatives, seed, Distribution.uniform, unseen=True)
        self.max_length = config.max_length

    def __len__(self) -> int:
        return len(self.flat)

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Return `user` (n,), `items` (n, 1 + negatives), and the histories `history` (total,) from `starts` (n,)."""
        user = self.user[indices]
        begin, end = self.offsets[user], self.offsets[user + 1]
        history, offsets = slices(self.flat, np.maximum(begin, end - self.max_length), end)
        drawn = [
            self.negatives.draw(epoch, row, self.flat[first:last], 1)[0]
            for row, first, last in zip(indices, begin, end, strict=True)
        ]
        items = np.column_stack([self.flat[indices], np.array(drawn)])
        arrays = {"user": user, "items": items, "history": history, "starts": offsets[:-1]}
        return {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()}


class SimpleX(nn.Module):
    """Embeddings of users and items, and the map V of the history's mean."""

    def __init__(self, config: SimpleXConfig, context: Context) -> None:
        super().__init__()
        self.config, self.split, self.seed = config, context.split, context.seed
        self.users = nn.Embedding(context.split.n_users, config.embedding_size)
        self.items = nn.Embedding(context.split.n_items, config.embedding_size)
        self.map = nn.Linear(config.embedding_size, config.embedding_size, bias=False)
        self.dropout = Dropout(config.dropout)
        for weight in self.parameters():
            nn.init.xavier_normal_(weight)

    def training_rows(self) -> InteractionRows:
        return InteractionRows(self.split, self.config, self.seed)

    def forward(self, user: Tensor, items: Tensor, history: Tensor, starts: Tensor) -> dict[str, Any]:
        """Return the mean cosine contrastive loss of a batch of `InteractionRows`."""
        states = F.normalize(self._mixed(user, history, starts), dim=-1)
        contrast = partial(_cosine_contrastive, margin=self.config.margin, weight=self.config.negative_weight)
        loss = sampled_loss(states, F.normalize(self.items.weight, dim=-1), items, contrast)
        return {"loss": loss, "n_terms": len(user)}

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        device = self.items.weight.device
        flat, offsets = examples.histories(self.config.max_length)
        user, history, starts = (
            torch.from_numpy(array.astype(np.int64)).to(device) for array in (examples.user, flat, offsets[:-1])
        )
        states, table = (F.normalize(x, dim=-1) for x in (self._mixed(user, history, starts), self.items.weight))
        return inner_products(states, table, examples)

    def _mixed(self, user: Tensor, history: Tensor, starts: Tensor) -> Tensor:
        """Return (n, size) h_u; an empty history adds nothing."""
        mean = F.embedding_bag(history, self.items.weight, starts, mode="mean")
        g = self.config.user_weight
        return self.dropout(g * self.users(user) + (1 - g) * self.map(mean))


def _cosine_contrastive(cosines: Tensor, items: Tensor, margin: float, weight: float) -> Tensor:
    """Return the sum over rows of the cosine contrastive loss (paper, equation 1), the positive first in each."""
    return (1 - cosines[:, 0] + weight * F.relu(cosines[:, 1:] - margin).mean(1)).sum()


def build(context: Context) -> SimpleX:
    return SimpleX(context.config, context)
