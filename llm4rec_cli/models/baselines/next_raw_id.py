"""A test of file order: recommend the items that follow the last item in the order of raw ids, the nearest first.

Files are often sorted by item id, and interactions of equal or missing times keep the order of their file. The next
raw id then predicts the next item without any taste. Ids may also follow time, or be close to each other for variants
of one product, as Amazon's are: a score above chance shows that they predict targets, not why.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.models.base import Context


class NextRawId:
    """Scores an item by 1 / distance behind the history's last item in the order of raw ids (`RecDataset.id_order`),
    and 0 if it is before."""

    def __init__(self, order: IntArray) -> None:
        self.order = order

    def score(self, examples: Examples) -> Tensor:
        last = np.full(len(examples), len(self.order))  # without a history no item follows
        row = np.flatnonzero(examples.history_length)
        last[row] = self.order[examples.sequence[examples.end[row] - 1]]
        places = self.order if examples.candidates is None else self.order[examples.candidates]
        distance = torch.from_numpy(places - last[:, None])
        return torch.where(distance > 0, 1 / distance, 0.0)


def build(context: Context) -> NextRawId:
    return NextRawId(context.split.dataset.id_order)
