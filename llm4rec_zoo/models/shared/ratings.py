"""What the rating models share: training rows, embeddings and predictions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llm4rec_cli.capabilities import Ratings
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import Split
from llm4rec_cli.models.shared.ratings import TrainRatings, train_ratings


class RatingRows:
    """One row per rated interaction of the training part: `user`, `item` (int64) and `rating` (float32)."""

    def __init__(self, ratings: TrainRatings) -> None:
        self.user = torch.from_numpy(ratings.user).long()
        self.item = torch.from_numpy(ratings.item).long()
        self.rating = torch.from_numpy(ratings.rating).float()

    def __len__(self) -> int:
        return len(self.rating)

    def batch(self, epoch: int, indices: list[int]) -> dict[str, Tensor]:
        return {"user": self.user[indices], "item": self.item[indices], "rating": self.rating[indices]}


class RatingModel(nn.Module):
    """Embeddings of users and items, from which a subclass predicts ratings; clipped to the scale."""

    def __init__(self, split: Split, embedding_size: int, initial_std: float) -> None:
        super().__init__()
        self.ratings = train_ratings(split)
        self.mean = float(self.ratings.rating.mean())
        self.users = nn.Embedding(split.n_users, embedding_size)
        self.items = nn.Embedding(split.n_items, embedding_size)
        nn.init.normal_(self.users.weight, std=initial_std)
        nn.init.normal_(self.items.weight, std=initial_std)

    def training_rows(self) -> RatingRows:
        return RatingRows(self.ratings)

    def predict(self, user: Tensor, item: Tensor) -> Tensor:
        """Return (n,) ratings, not clipped."""
        raise NotImplementedError

    @torch.no_grad()
    def rate(self, examples: Examples) -> Ratings:
        device = self.users.weight.device
        user, item = (torch.from_numpy(numbers).long().to(device) for numbers in (examples.user, examples.target))
        return Ratings(self.predict(user, item).clamp(*self.ratings.scale).cpu().numpy())
