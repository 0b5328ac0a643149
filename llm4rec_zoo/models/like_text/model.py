"""Whether the target's title is more like the liked titles of the history than like the disliked ones:

    score = the mean cosine with liked titles - the mean cosine with disliked titles

of TF-IDF vectors; a mean of no titles is 0. Nothing is learned from other users.
"""

from __future__ import annotations

import numpy as np

from llm4rec_cli.capabilities import Likes
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.models.base import Context
from llm4rec_cli.text.vectors import Tfidf


class LikeText:
    """Predicts by likeness of titles."""

    def __init__(self, titles: list[str]) -> None:
        self.titles = Tfidf(titles).catalogue

    def like(self, examples: Examples) -> Likes:
        flat, offsets = examples.histories()
        row, liked = np.repeat(np.arange(len(examples)), np.diff(offsets)), examples.liked_in_history()
        cosine = np.asarray(self.titles[flat].multiply(self.titles[examples.target[row]]).sum(axis=1)).ravel()
        score = np.zeros(len(examples))
        for sign, chosen in ((1, liked), (-1, ~liked)):
            total, count = (np.bincount(row[chosen], of, len(examples)) for of in (cosine[chosen], None))
            score += sign * total / np.maximum(count, 1)
        return Likes(score)


def build(context: Context) -> LikeText:
    dataset = context.split.dataset
    return LikeText(dataset.items["title"].fillna("").tolist() if dataset.has_titles else dataset.texts)
