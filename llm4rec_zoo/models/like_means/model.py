"""How often the item and the user are in likes of the training rows, as log odds:

    score(u, i) = logit m_i + logit m_u - logit m        m_x = (likes of x + λ m) / (interactions of x + λ)

m is the share of likes of all. With `means=item` or `user` only one of the two counts.
"""

from __future__ import annotations

import numpy as np

from llm4rec_cli.capabilities import Likes
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.models.base import Context
from llm4rec_zoo.likes.counts import SmoothedMeans, log_odds, probabilities
from llm4rec_zoo.models.like_means.config import Means


class LikeMeans:
    """Predicts by smoothed means."""

    def __init__(self, means: SmoothedMeans, which: Means) -> None:
        self.means, self.which = means, which

    def like(self, examples: Examples) -> Likes:
        item, user = (
            log_odds(means) for means in (self.means.of_items(examples.target), self.means.of_users(examples.user))
        )
        both = item + user - log_odds(np.array(self.means.overall))
        score = {Means.item: item, Means.user: user, Means.both: both}[self.which]
        return Likes(score, probabilities(score))


def build(context: Context) -> LikeMeans:
    config, split = context.config, context.split
    assert context.rows is not None
    return LikeMeans(SmoothedMeans(context.rows, split.n_users, split.n_items, config.smoothing), config.means)
