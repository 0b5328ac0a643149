"""Items by their number of training interactions, in a click log of clicks. The same list for everyone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from llm4rec_cli.data.examples import Examples, Impressions, IntArray
from llm4rec_cli.models.base import Context


class Popularity:
    """Scores items by their training counts, (n_items,), for all users."""

    def __init__(self, counts: IntArray) -> None:
        self.counts = torch.from_numpy(counts).float()

    def score(self, examples: Examples) -> Tensor:
        if examples.candidates is None:
            return self.counts.repeat(len(examples), 1)
        return self.counts[torch.from_numpy(examples.candidates).long()]

    def shared_scores(self) -> NDArray[np.float32]:
        return self.counts.numpy()

    def own_scores(self, examples: Examples) -> csr_array:
        return csr_array((len(examples), len(self.counts)), dtype=np.float32)

    def score_shown(self, impressions: Impressions) -> Tensor:
        return self.counts[torch.from_numpy(impressions.shown()[0]).long()]


def build(context: Context) -> Popularity:
    return Popularity(context.split.train_counts())
