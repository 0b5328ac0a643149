"""Similarity of item texts to the user's history under a frozen language model, without any training.

    score(j) = cos(mean of v_i over the history's items i, v_j)        v: a frozen encoder's vectors, of length 1

A user without a history gets the mean over the histories of the training part, weighted by frequency.
"""

from __future__ import annotations

from collections.abc import Callable

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
    """Scores items by cosine similarity.

    Args:
        encode: returns (n, size) the vectors of n texts.
        split: of the histories whose mean is the profile of a user without one.
    """

    def __init__(self, encode: Callable[[list[str]], Tensor], split: Split) -> None:
        self.encode = encode
        self.vectors = self._vectors(split.dataset.texts)  # (n_items, size)
        self.average = _average_history(split, self.vectors)  # (size,)

    def add_items(self, split: Split) -> None:
        self.vectors = np.concatenate([self.vectors, self._vectors(split.dataset.texts[len(self.vectors) :])])

    def _vectors(self, texts: list[str]) -> NDArray[np.float32]:
        """Return (n, size) vectors of length 1."""
        return _normalised(self.encode(texts).numpy())

    def score(self, examples: Examples) -> Tensor:
        profiles = self._profiles(examples)
        if examples.candidates is None:
            return torch.from_numpy(profiles @ self.vectors.T)
        return torch.from_numpy(np.einsum("nd,ncd->nc", profiles, self.vectors[examples.candidates]))

    def score_shown(self, impressions: Impressions) -> Tensor:
        shown, offsets = impressions.shown()
        row = np.repeat(np.arange(len(impressions)), np.diff(offsets))
        return torch.from_numpy(np.einsum("td,td->t", self._profiles(impressions)[row], self.vectors[shown]))

    def _profiles(self, examples: Histories) -> NDArray[np.float32]:
        """Return (n, size) the mean vector of each history, normalised to length 1."""
        flat, offsets = examples.histories()
        ones, shape = np.ones(len(flat), dtype=np.float32), (len(examples), len(self.vectors))
        total = csr_array((ones, flat, offsets), shape=shape) @ self.vectors
        return _normalised(np.where(examples.history_length[:, None] > 0, total, self.average))


def _normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each row scaled to length 1; rows of zeros stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _average_history(split: Split, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (size,) the mean vector over the histories of the training part."""
    is_log = split.impression_assignment is not None
    flat, _ = split.impressions(TRAIN).histories() if is_log else split.train_sequences()
    count = np.bincount(flat, minlength=len(vectors)).astype(np.float32)
    return count @ vectors / np.float32(max(1, len(flat)))


def build(context: Context) -> FrozenText:
    def encode(texts: list[str]) -> Tensor:
        return encode_texts(texts, context.config.encoder, context.cache, context.device)

    return FrozenText(encode, context.split)
