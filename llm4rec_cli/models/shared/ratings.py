"""Training ratings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.split import TRAIN, Split


@dataclass(frozen=True)
class TrainRatings:
    """The n rated interactions of the training part."""

    user: IntArray
    item: IntArray
    rating: NDArray[np.float64]

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest rating, to which predictions are clipped."""
        return float(self.rating.min()), float(self.rating.max())


def train_ratings(split: Split) -> TrainRatings:
    interactions = split.dataset.interactions
    rows = (split.assignment == TRAIN) & interactions["rating"].notna().to_numpy()
    return TrainRatings(*(interactions[name].to_numpy()[rows] for name in ("user", "item", "rating")))
