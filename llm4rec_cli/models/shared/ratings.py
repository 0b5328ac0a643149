"""Training ratings and training rows, shared by the rating models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.split import TRAIN, Split


@dataclass(frozen=True)
class TrainRatings:
    """The rated interactions of the training part.

    Attributes:
        user, item: (n,) numbers.
        rating: (n,) ratings.
    """

    user: IntArray
    item: IntArray
    rating: NDArray[np.float64]

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest rating, to which predictions are clipped."""
        return float(self.rating.min()), float(self.rating.max())


def train_ratings(split: Split) -> TrainRatings:
    """Return the rated interactions of the training part, in their order."""
    interactions = split.dataset.interactions
    rows = (split.assignment == TRAIN) & interactions["rating"].notna().to_numpy()
    return TrainRatings(*(interactions[name].to_numpy()[rows] for name in ("user", "item", "rating")))


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
