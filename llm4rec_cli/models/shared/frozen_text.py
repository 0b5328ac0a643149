"""Similarity of item texts to the user's history under a frozen language model, without any training.

    score(j) = cos(mean of v_i over the history's items i, v_j)        v: a frozen encoder's vectors, of length 1

With a temperature t the history is weighted for each candidate, so that a few similar items count more than the rest:

    score(j) = Σ_i a_ij <v_i, v_j>        a_ij = exp(<v_i, v_j> / t) / Σ_k exp(<v_k, v_j> / t)

Centred, the mean of the training items' vectors is subtracted first. A user without a history gets the mean over the
histories of the training part, weighted by frequency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import softmax
from torch import Tensor

from llm4rec_cli.data.examples import Examples, Histories, Impressions, IntArray
from llm4rec_cli.data.split import TRAIN, Split


class FrozenText:
    """Scores items by similarity.

    Args:
        encode: returns (n, size) the vectors of n texts.
        temperature: of the weights of a history's items; None = equal weights.
    """

    def __init__(
        self,
        encode: Callable[[list[str]], Tensor],
        split: Split,
        centred: bool = False,
        temperature: float | None = None,
    ) -> None:
        self.encode, self.temperature = encode, temperature
        self.centre: NDArray[np.float32] | None = None  # (size,)
        self.vectors = self._vectors(split.dataset.texts)  # (n_items, size)
        if centred:
            self.centre = self.vectors[split.seen_in_training()].mean(axis=0)
            self.vectors = _normalised(self.vectors - self.centre)
        self._note_same_texts(split.dataset.texts)
        is_log = split.impression_assignment is not None
        flat, _ = split.impressions(TRAIN).histories() if is_log else split.train_sequences()
        count = np.bincount(flat, minlength=len(self.vectors)).astype(np.float32)
        self.average = count @ self.vectors / np.float32(max(1, len(flat)))  # (size,) over the training histories

    def add_items(self, split: Split) -> None:
        self.vectors = np.concatenate([self.vectors, self._vectors(split.dataset.texts[len(self.vectors) :])])
        self._note_same_texts(split.dataset.texts)

    def _note_same_texts(self, texts: list[str]) -> None:
        """Find the items of equal texts, which are scored once: a product may round one vector differently in two
        columns."""
        self.same_text = _first_with_same_text(texts)  # (n_items,)
        distinct, self.place = np.unique(self.same_text, return_inverse=True)  # of each item among the distinct texts
        self.distinct_vectors = self.vectors[distinct]

    def _vectors(self, texts: list[str]) -> NDArray[np.float32]:
        """Return (n, size) vectors of length 1."""
        vectors = _normalised(self.encode(texts).numpy())
        return vectors if self.centre is None else _normalised(vectors - self.centre)

    def score(self, examples: Examples) -> Tensor:
        if self.temperature is not None:
            candidates = examples.candidates
            of_candidates = None if candidates is None else list(candidates)
            return torch.from_numpy(np.stack(self._weighted(examples, of_candidates)))
        profiles = self._profiles(examples)
        if examples.candidates is None:
            return torch.from_numpy((profiles @ self.distinct_vectors.T)[:, self.place])
        return torch.from_numpy(np.einsum("nd,ncd->nc", profiles, self.vectors[examples.candidates]))

    def score_shown(self, impressions: Impressions) -> Tensor:
        shown, offsets = impressions.shown()
        if self.temperature is not None:
            return torch.from_numpy(np.concatenate(self._weighted(impressions, np.split(shown, offsets[1:-1]))))
        row = np.repeat(np.arange(len(impressions)), np.diff(offsets))
        return torch.from_numpy(np.einsum("td,td->t", self._profiles(impressions)[row], self.vectors[shown]))

    def _profiles(self, examples: Histories) -> NDArray[np.float32]:
        """Return (n, size) the mean vector of each history, normalised to length 1."""
        flat, offsets = examples.histories()
        ones, shape = np.ones(len(flat), dtype=np.float32), (len(examples), len(self.vectors))
        total = csr_array((ones, flat, offsets), shape=shape) @ self.vectors
        return _normalised(np.where(examples.history_length[:, None] > 0, total, self.average))

    def _weighted(self, examples: Histories, items: Sequence[IntArray] | None) -> list[NDArray[np.float32]]:
        """Return the scores of each history's items (None: the whole catalogue), with the history weighted for each."""
        flat, offsets = examples.histories()
        scores, vectors, place = [], self.distinct_vectors, self.place
        for i, (begin, end) in enumerate(pairwise(offsets)):
            history = self.vectors[flat[begin:end]] if end > begin else _normalised(self.average[None])
            if items is not None:
                distinct, place = np.unique(self.same_text[items[i]], return_inverse=True)
                vectors = self.vectors[distinct]
            similarity = vectors @ history.T
            weights = softmax(similarity / np.float32(self.temperature), axis=1)
            scores.append((weights * similarity).sum(axis=1)[place])
        return scores


def _normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each row scaled to length 1. Rows of zeros stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths: NDArray[np.float32] = np.maximum(norms, np.finfo(np.float32).tiny)
    return vectors / lengths


def _first_with_same_text(texts: Sequence[str]) -> IntArray:
    """Return (n_items,) the first item with the same text."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(text, item) for item, text in enumerate(texts)], dtype=np.int64)
