"""score(j) = mean over the latest items i of the history of how often j followed i in training."""

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from llm4rec_cli.data.examples import Examples
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.transitions import transition_counts


class RunningMean:
    """Counts of (item, next item) in training, and the number of latest items that are used."""

    def __init__(self, counts: csr_array, recent: int) -> None:
        self.counts, self.recent = counts, recent

    def score(self, examples: Examples) -> Tensor:
        """Return (n, n_items) scores, or (n, n_candidates) where there are candidates."""
        items, offsets = examples.histories(self.recent)
        lengths = np.diff(offsets)
        shape = (len(lengths), self.counts.shape[0])
        shares = csr_array((np.repeat(1 / np.maximum(lengths, 1), lengths), items, offsets), shape)
        scores = torch.from_numpy((shares @ self.counts).toarray()).float()
        if examples.candidates is None:
            return scores
        return scores.gather(1, torch.from_numpy(examples.candidates).long())


def build(context: Context) -> RunningMean:
    """Return the rule, which llm4rec calls with its settings and data."""
    return RunningMean(transition_counts(context.split, steps=1), context.config.recent)
