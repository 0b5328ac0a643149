"""Says what is said most often: the most common rating or text of the training part, for everyone.

MAE rewards this where ratings are skewed, and word overlap where texts repeat ("Five Stars").
"""

from __future__ import annotations

import numpy as np

from llm4rec_cli.capabilities import Ratings
from llm4rec_cli.config.schema import Written
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.evaluation.rating import commonest
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.ratings import train_ratings


class Majority:
    """Predicts one constant."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def rate(self, examples: Examples) -> Ratings:
        return Ratings(np.full(len(examples), commonest(train_ratings(self.split).rating)))

    def write(self, examples: Examples, written: Written) -> list[str]:
        texts = self.split.dataset.interactions[written.value][self.split.assignment == TRAIN].fillna("").str.strip()
        return [str(texts[texts != ""].value_counts().idxmax())] * len(examples)  # of ties, the one that is first


def build(context: Context) -> Majority:
    return Majority(context.split)
