"""The strongest ranking floor: items that followed the latest items in training, or have similar texts.

    score(j) = Σ_d (1 / d) · (T[i_d, j] + w · cos(i_d, j))        i_d: the history's d-th last item, d = 1, 2, 3

T counts transitions of the training part up to three steps ahead, with weight 1 / step. Each row is divided by the root
of its sum. With `symmetric`, a transition counts in both directions, so that the order of two interactions has no
effect. cos is the cosine of the items' TF-IDF vectors. w is chosen on validation, by at most
30,000 users. Nothing is trained.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, vstack
from sklearn.utils.extmath import safe_sparse_dot
from torch import Tensor

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import Split
from llm4rec_cli.errors import UsageError
from llm4rec_cli.evaluation.ranking import expected_ndcg
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.tfidf import Tfidf
from llm4rec_cli.models.shared.transitions import training_pairs
from llm4rec_cli.progress import track

log = logging.getLogger(__name__)

TUNED_ON = 30_000  # validation examples that choose the text weight, at most: each takes several passes over all items
SCORES_AT_ONCE = 1 << 20  # 4 MB per matrix: fits the CPU cache, and memory does not grow with users × items


class TransitionText:
    """Scores by products of sparse matrices. Only the requested scores are dense. The text weight w is 0 until it is
    chosen."""

    def __init__(self, transitions: csr_array, texts: list[str], recent: int) -> None:
        self.transitions, self.tfidf = transitions, Tfidf(texts)
        self.recent, self.text_weight = recent, 0.0
        self._set_texts(self.tfidf.catalogue)

    def _set_texts(self, texts: csr_array) -> None:
        self.texts, self.items_of_term = texts, texts.T.tocsr()

    def add_items(self, split: Split) -> None:
        """Append items without transitions. Their text counts with the words and frequencies of the catalogue."""
        if not self.text_weight:
            raise UsageError(
                "the text weight of transition_text is 0, as validation chose it on these data: item texts have no "
                "effect on its scores",
                "set a weight, model.text_weights=[1]; or use another model",
            )
        new = split.dataset.texts[self.texts.shape[0] :]
        self._set_texts(vstack([self.texts, self.tfidf(new)], format="csr"))
        self.transitions = self.transitions.copy()
        self.transitions.resize((split.n_items, split.n_items))

    def parts(self, examples: Examples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the transition and text parts of the scores, each (n, n_items)."""
        flat, offsets = examples.histories(last=self.recent)
        distance = np.repeat(offsets[1:], np.diff(offsets)) - np.arange(len(flat))
        shape = len(examples), self.transitions.shape[0]
        latest = csr_array(((1 / distance).astype(np.float32), flat, offsets), shape=shape)
        return (
            safe_sparse_dot(latest, self.transitions, dense_output=True),
            safe_sparse_dot(latest @ self.texts, self.items_of_term, dense_output=True),
        )

    def chosen(self) -> dict[str, float]:
        return {"text_weight": self.text_weight}

    def score(self, examples: Examples) -> Tensor:
        candidates = examples.candidates
        if candidates is None:
            return torch.from_numpy(self._dense(examples))
        parts = [
            np.take_along_axis(self._dense(examples[rows]), candidates[rows], axis=1)
            for rows in self._chunks(len(examples))
        ]
        return torch.from_numpy(np.concatenate(parts))

    def _dense(self, examples: Examples) -> NDArray[np.float32]:
        transition, text = self.parts(examples)
        return transition + np.float32(self.text_weight) * text

    def _chunks(self, n: int) -> Iterator[slice]:
        """Yield slices of 0..n-1 whose dense scores have at most `SCORES_AT_ONCE` elements."""
        rows = max(1, SCORES_AT_ONCE // self.transitions.shape[0])
        for start in range(0, n, rows):
            yield slice(start, start + rows)

    def choose_text_weight(self, examples: Examples, weights: list[float], mask_history: bool) -> None:
        """Set the text weight with the highest NDCG@10 over the whole catalogue. The first one on ties."""
        ndcg = np.zeros(len(weights))
        for rows in track(list(self._chunks(len(examples))), "choosing the text weight"):
            chunk = examples[rows]
            transition, text = self.parts(chunk)
            if (masked := replace(chunk, mask_history=mask_history).masked_items()) is not None:
                transition[masked] = -np.inf
            ranked = np.isfinite(np.take_along_axis(transition, chunk.target[:, None], axis=1)[:, 0])
            for i, weight in enumerate(weights):
                scores = transition + np.float32(weight) * text
                target = np.take_along_axis(scores, chunk.target[:, None], axis=1)
                n_better = np.count_nonzero(scores > target, axis=1)
                n_tied = np.count_nonzero(scores == target, axis=1)
                ndcg[i] += expected_ndcg(n_better, n_tied, k=10)[ranked].sum() / len(examples)
        self.text_weight = weights[int(ndcg.argmax())]
        log.info("text weight %g: NDCG@10 %.4f on validation", self.text_weight, ndcg.max())


def transition_matrix(split: Split, steps: int, symmetric: bool = False) -> csr_array:
    """Return (n_items, n_items) T: row i weights the items that followed item i in training, closer ones more; if
    `symmetric`, also the items that item i followed."""
    shape = split.n_items, split.n_items
    counts = csr_array(shape, dtype=np.float32)
    for step, first, second, _ in training_pairs(split, steps):
        weight = np.full(len(first), 1 / step, dtype=np.float32)
        counts += coo_array((weight, (first, second)), shape=shape)
    if symmetric:
        counts = (counts + counts.T).tocsr()
    counts.data /= np.sqrt(np.repeat(counts.sum(axis=1), np.diff(counts.indptr)))
    return counts


def build(context: Context) -> TransitionText:
    config, split = context.config, context.split
    transitions = transition_matrix(split, config.steps, config.symmetric)
    floor = TransitionText(transitions, split.dataset.texts, config.recent)
    examples = split.examples(SplitName.valid)
    if len(examples) > TUNED_ON:
        examples = examples[np.linspace(0, len(examples) - 1, TUNED_ON).astype(np.int64)]
    floor.choose_text_weight(examples, list(config.text_weights), config.mask_history)
    return floor
