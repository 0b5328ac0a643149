"""BPR-MF (Rendle et al., UAI 2009): score(u, i) = <user, item> + bias, trained on pairs of items."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.base import Context
from llm4rec_zoo.models.bpr_mf.config import BprMfConfig


class PairRows:
    """One row per training interaction: user, item, and a negative, an item without an interaction of that user.

    Negatives are uniform over the items that take part in training, drawn for a whole epoch from (seed, epoch), and so
    independent of batching. Users who have all items are left out, because they have no negatives.
    """

    def __init__(self, split: Split, seed: int) -> None:
        flat, offsets = split.train_sequences()
        user = np.repeat(np.arange(split.n_users), np.diff(offsets))
        items = split.softmax_items()
        self.items = np.arange(split.n_items) if items is None else items
        n_items = len(self.items)
        # Below, `item` is an index into self.items.
        owner, item = np.divmod(np.unique(user * n_items + np.searchsorted(self.items, flat)), n_items)
        n_seen = np.bincount(owner, minlength=split.n_users)
        self.n_unseen = n_items - n_seen
        self.first = np.cumsum(n_seen) - n_seen
        # The number of unseen items below each seen item, offset by user so that the whole array is sorted.
        self.unseen_below = owner * n_items + item - (np.arange(len(item)) - self.first[owner])
        has_negative = self.n_unseen[user] > 0
        self.user, self.positive = user[has_negative], flat[has_negative]
        self.seed = seed
        self.drawn: tuple[int, IntArray] = (-1, self.user)

    def __len__(self) -> int:
        return len(self.user)

    def negatives(self, epoch: int) -> IntArray:
        """Return (n_rows,) an unseen item of each row's user: the k-th with k uniform, so no draw is rejected."""
        if self.drawn[0] != epoch:
            k = stream(self.seed, "negatives", epoch).integers(self.n_unseen[self.user])
            seen_below = np.searchsorted(self.unseen_below, self.user * len(self.items) + k, side="right")
            self.drawn = epoch, self.items[k + seen_below - self.first[self.user]]
        return self.drawn[1]

    def batch(self, epoch: int, indices: list[int]) -> dict[str, Tensor]:
        columns = {"user": self.user, "positive": self.positive, "negative": self.negatives(epoch)}
        return {name: torch.from_numpy(column[indices]).long() for name, column in columns.items()}


class BprMf(nn.Module):
    """Embeddings of users and items, and a bias per item."""

    def __init__(self, config: BprMfConfig, context: Context) -> None:
        super().__init__()
        self.split, self.seed = context.split, context.seed
        self.users = nn.Embedding(context.split.n_users, config.embedding_size)
        self.items = nn.Embedding(context.split.n_items, config.embedding_size)
        self.bias = nn.Parameter(torch.zeros(context.split.n_items))
        nn.init.normal_(self.users.weight, std=config.initial_std)
        nn.init.normal_(self.items.weight, std=config.initial_std)

    def training_rows(self) -> PairRows:
        return PairRows(self.split, self.seed)

    def forward(self, user: Tensor, positive: Tensor, negative: Tensor) -> dict[str, Any]:
        """Return the mean of -log σ(score(user, positive) - score(user, negative))."""
        difference = (self.users(user) * (self.items(positive) - self.items(negative))).sum(-1)
        loss = -F.logsigmoid(difference + self.bias[positive] - self.bias[negative]).mean()
        return {"loss": loss, "n_terms": len(user)}

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        users = self.users.weight[torch.from_numpy(examples.user).long().to(self.bias.device)]
        if examples.candidates is None:
            return users @ self.items.weight.t() + self.bias
        candidates = torch.from_numpy(examples.candidates).long().to(self.bias.device)
        return torch.einsum("nd,ncd->nc", users, self.items.weight[candidates]) + self.bias[candidates]


def build(context: Context) -> BprMf:
    return BprMf(context.config, context)
