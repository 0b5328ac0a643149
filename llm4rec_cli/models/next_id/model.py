"""A rule that must fail: recommend the item numbered after the highest number in the history.

Where items are numbered by first appearance while walking each user's whole sequence, the test item included, a user's
new items get consecutive numbers. This one guess then hits for 4.4 % of the test users of Beauty as S3-Rec numbers it,
nearly what P5 reports for five guesses (HR@5 0.050); a model that reads item numbers as text can learn it. Above
chance, this floor says: the numbers leak the order of interactions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llm4rec_cli.data.examples import Examples
from llm4rec_cli.models.base import Context


class NextId:
    """Score 1 for item max(history) + 1, and 0 for all others."""

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def score(self, examples: Examples) -> Tensor:
        flat, offsets = examples.histories()
        guess = np.full(len(examples), -2)  # no history: guesses item -1, which is none
        np.maximum.at(guess, np.repeat(np.arange(len(examples)), np.diff(offsets)), flat)
        items = np.arange(self.n_items) if examples.candidates is None else examples.candidates
        return torch.from_numpy(items == guess[:, None] + 1).float()


def build(context: Context) -> NextId:
    return NextId(context.split.n_items)
