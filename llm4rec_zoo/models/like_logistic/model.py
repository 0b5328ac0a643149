"""A logistic regression of the log odds of three shares of likes: of the history, the item and the user.

The last two are smoothed means of the training rows. Of a training row, which is itself counted in them, they leave out
its label.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from llm4rec_cli.capabilities import Likes
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.likes import LabelledRows
from llm4rec_cli.errors import DataError
from llm4rec_cli.models.base import Context
from llm4rec_zoo.likes.counts import FloatArray, SmoothedMeans, liked_share, log_odds


class LikeLogistic:
    """Predicts by a fitted regression."""

    def __init__(self, rows: LabelledRows, means: SmoothedMeans, penalty: float) -> None:
        if rows.label.all() or not rows.label.any():
            raise DataError(
                f"all {len(rows):,} training rows have the same label, so no regression can be fitted",
                "more training rows: task.shots, or another seed",
            )
        self.means = means
        self.regression = LogisticRegression(C=1 / penalty)
        self.regression.fit(self._features(rows.examples, rows.label), rows.label)

    def _features(self, examples: Examples, label: NDArray[np.bool_] | None = None) -> FloatArray:
        shares = (
            liked_share(examples),
            self.means.of_items(examples.target, label),
            self.means.of_users(examples.user, label),
        )
        return np.stack([log_odds(share) for share in shares], axis=1)

    def like(self, examples: Examples) -> Likes:
        features = self._features(examples)
        return Likes(self.regression.decision_function(features), self.regression.predict_proba(features)[:, 1])


def build(context: Context) -> LikeLogistic:
    config, split, rows = context.config, context.split, context.rows
    assert rows is not None
    return LikeLogistic(rows, SmoothedMeans(rows, split.n_users, split.n_items, config.smoothing), config.penalty)
