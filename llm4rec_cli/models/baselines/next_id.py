"""A rule that must fail: recommend the item numbered after the highest number in the history.

Where items are numbered by first appearance while walking each user's whole sequence, the test item included, a user's
new items get consecutive numbers. This one guess then hits for 4.4 % of the test users of Beauty as S3-Rec numbers it,
and for 5.5 % as P5's notebook does (`index=leaky_p5`), more than P5 reports for five guesses (HR@5 0.050); a model that
reads item numbers as text can learn it. Above chance, this floor says: the numbers leak the order of interactions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.indexing import numbers
from llm4rec_cli.models.base import Context


class NextId:
    """Score 1 for the item numbered max(history) + 1, and 0 for all others.

    Args:
        number: (n_items,) of each item, at least 0.
    """

    def __init__(self, number: IntArray) -> None:
        self.number = number

    def score(self, examples: Examples) -> Tensor:
        flat, offsets = examples.histories()
        highest = np.full(len(examples), -2)  # no history: guesses number -1, which is none
        np.maximum.at(highest, np.repeat(np.arange(len(examples)), np.diff(offsets)), self.number[flat])
        asked = self.number if examples.candidates is None else self.number[examples.candidates]
        return torch.from_numpy(asked == highest[:, None] + 1).float()


def build(context: Context) -> NextId:
    split, index = context.split, context.config.index
    return NextId(np.arange(split.n_items) if index is None else numbers(index, split, split.dataset.seed))
