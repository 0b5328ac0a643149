"""What a language model knows without any training: which items read like the user's history.

    score(j) = cos(mean of v_i over the history's items i, v_j)        v: a frozen encoder's vectors, of length 1

Without a history the mean is taken over the histories of the training part, each item as often as it stands there: such
a user counts as an average reader.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from llm4rec_cli.data.examples import Examples, Histories, Impressions
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.models.base import Context
from llm4rec_cli.text.features import encode_texts


class FrozenText:
    """Cosines.

    Args:
        vectors: (n_items, size) of length 1.
        average: (size,) what stands for the history of a user without one.
    """

    def __init__(self, vectors: NDArray[np.float32], average: NDArray[np.float32]) -> None:
        self.vectors, self.average = vectors, average

    def score(self, examples: Examples) -> Tensor:
        tastes = self._tastes(examples)
        if examples.candidates is None:
            return torch.from_numpy(tastes @ self.vectors.T)
        return torch.from_numpy(np.einsum("nd,ncd->nc", tastes, self.vectors[examples.candidates]))

    def score_shown(self, impressions: Impressions) -> Tensor:
        shown, offsets = impressions.shown()
        row = np.repeat(np.arange(len(impressions)), np.diff(offsets))
        return torch.from_numpy(np.einsum("td,td->t", self._tastes(impressions)[row], self.vectors[shown]))

    def _tastes(self, asked: Histories) -> NDArray[np.float32]:
        """(n, size) the direction of each history."""
        flat, offsets = asked.histories()
        within = csr_array((np.ones(len(flat), dtype=np.float32), flat, offsets), shape=(len(asked), len(self.vectors)))
        total = within @ self.vectors
        return _directions(np.where(asked.history_length[:, None] > 0, total, self.average))


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row at length 1; one of zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _average_history(split: Split, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(size,) the mean vector of what stands in the histories of the training part."""
    of_log = split.impression_assignment is not None
    flat, _ = split.impressions(TRAIN).histories() if of_log else split.train_sequences()
    count = np.bincount(flat, minlength=len(vectors)).astype(np.float32)
    return count @ vectors / np.float32(max(1, len(flat)))


def build(context: Context) -> FrozenText:
    texts = context.split.dataset.texts
    vectors = _directions(encode_texts(texts, context.config.encoder, context.cache, context.device).numpy())
    return FrozenText(vectors, _average_history(context.split, vectors))
