"""A leak test: recommend the item numbered after the highest number in the history.

If items are numbered by first appearance along each user's whole sequence, test item included, a user's new items get
consecutive numbers. This single guess then hits for 4.4 % of the test users of Beauty as numbered by S3-Rec, and for
5.5 % as numbered by P5's notebook (`index=leaky_p5`), more than P5 reports for five guesses (HR@5 0.050); a model that
reads item numbers as text can learn it. A score above chance shows that the numbers leak the order of interactions.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from llm4rec_cli.data.examples import Examples, IntArray, slices
from llm4rec_cli.ids import index as indexing
from llm4rec_cli.models.base import Context


class NextId:
    """Scores the item numbered max(history) + 1 with 1 and all others with 0; `number` (n_items,) is at least 0."""

    def __init__(self, number: IntArray) -> None:
        self.number = number
        self.order = np.argsort(number, kind="stable")

    def score(self, examples: Examples) -> Tensor:
        numbers = self.number if examples.candidates is None else self.number[examples.candidates]
        return torch.from_numpy(numbers == self._guesses(examples)[:, None]).float()

    def shared_scores(self) -> NDArray[np.float32]:
        return np.zeros(len(self.number), dtype=np.float32)

    def own_scores(self, examples: Examples) -> csr_array:
        guesses = self._guesses(examples)
        bounds = (np.searchsorted(self.number, guesses, side, self.order) for side in ("left", "right"))
        items, offsets = slices(self.order, *bounds)
        return csr_array((np.ones(len(items), dtype=np.float32), items, offsets), (len(examples), len(self.number)))

    def _guesses(self, examples: Examples) -> IntArray:
        flat, offsets = examples.histories()
        highest = np.full(len(examples), -2)  # without a history the guess is -1, no item's number
        np.maximum.at(highest, np.repeat(np.arange(len(examples)), np.diff(offsets)), self.number[flat])
        return highest + 1


def build(context: Context) -> NextId:
    split, index = context.split, context.config.index
    return NextId(np.arange(split.n_items) if index is None else indexing.numbers(index, split, split.dataset.seed))
