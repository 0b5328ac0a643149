"""Random scores: the value of a ranking metric at chance."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llm4rec_cli.data.examples import Examples, Impressions
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.base import Context


class Random:
    """Scores drawn from (seed, user), independent of batch and order, the same for candidates and the catalogue."""

    def __init__(self, seed: int, n_items: int) -> None:
        self.seed, self.n_items = seed, n_items

    def score(self, examples: Examples) -> Tensor:
        candidates = examples.candidates
        n_columns = self.n_items if candidates is None else candidates.shape[1]
        scores = np.empty((len(examples), n_columns), dtype=np.float32)
        for i, user in enumerate(examples.user):
            drawn = stream(self.seed, "random", int(user)).random(self.n_items, dtype=np.float32)
            scores[i] = drawn if candidates is None else drawn[candidates[i]]
        return torch.from_numpy(scores)

    def score_shown(self, impressions: Impressions) -> Tensor:
        shown, offsets = impressions.shown()
        scores = np.empty(len(shown), dtype=np.float32)
        for i, user in enumerate(impressions.user):
            items = slice(offsets[i], offsets[i + 1])
            scores[items] = stream(self.seed, "random", int(user)).random(self.n_items, dtype=np.float32)[shown[items]]
        return torch.from_numpy(scores)


def build(context: Context) -> Random:
    return Random(context.seed, context.split.n_items)
