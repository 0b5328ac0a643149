"""Copies the most typical training text about the feature that the user's training reviews mention most.

Its input is what P5 reads with `feature=of_user`. The most typical text of a feature has the highest mean ROUGE-1 to
the feature's others. All pairs are compared, so time and memory grow with the square of `compared`. Ours.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from llm4rec_cli.capabilities import Writer
from llm4rec_cli.config.schema import Written
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.evaluation.text import rouge1_matrix
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.usual_features import usual_feature_rows


class UsualFeature:
    """Looks up texts by feature."""

    def __init__(self, split: Split, compared: int) -> None:
        self.split, self.compared = split, compared
        interactions = split.dataset.interactions
        self.feature = interactions["feature"].iloc[usual_feature_rows(split)].to_numpy()  # of each user
        self.typical = cache(self._typical)

    def write(self, examples: Examples, written: Written) -> list[str]:
        return [self.typical(feature, written) for feature in self.feature[examples.user]]

    def _typical(self, feature: str, written: Written) -> str:
        """Return the most typical training text of a feature, of ties the earliest; empty if no review has one."""
        interactions = self.split.dataset.interactions
        about = (self.split.assignment == TRAIN) & (interactions["feature"] == feature)
        texts = interactions.loc[about, written.value].fillna("").str.strip()
        texts = texts[texts != ""].to_numpy()
        if not len(texts):
            return ""
        drawn = stream(self.split.dataset.seed, "usual feature").permutation(len(texts))[: self.compared]
        return most_typical(texts[np.sort(drawn)].tolist())


def most_typical(texts: list[str]) -> str:
    """Return the text with the highest mean ROUGE-1 to the others, of ties the first."""
    total = rouge1_matrix(texts).sum(1)  # with itself, which is the same for all
    return texts[int(np.round(total, 9).argmax())]  # rounded, so that ties survive the order of sums


def build(context: Context) -> Writer:
    return UsualFeature(context.split, context.config.compared)
