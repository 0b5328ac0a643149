"""Predicts the most common training rating for everyone; MAE rewards this where ratings are skewed."""

from __future__ import annotations

import numpy as np

from llm4rec_cli.capabilities import Ratings
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.evaluation.rating import commonest
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.ratings import train_ratings


class Majority:
    """Predicts one constant rating."""

    def __init__(self, rating: float) -> None:
        self.rating = rating

    def rate(self, examples: Examples) -> Ratings:
        return Ratings(np.full(len(examples), self.rating))


def build(context: Context) -> Majority:
    return Majority(commonest(train_ratings(context.split).rating))
