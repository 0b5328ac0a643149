"""Initial embeddings of the tokens of item codes, from the items that follow each other in training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_array
from scipy.sparse.linalg import eigsh

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.indexing import DENSE
from llm4rec_cli.data.split import Split

WINDOW = 3  # interactions between two items that count as neighbours, at most

Floats = NDArray[np.floating[Any]]


def neighbours(split: Split) -> csr_array:
    """Return (n_items, n_items) how often two items are at most WINDOW interactions apart in a training sequence."""
    flat, offsets = split.train_sequences()
    user = np.repeat(np.arange(split.n_users), np.diff(offsets))
    firsts, seconds = [], []
    for distance in range(1, WINDOW + 1):
        same_user = user[distance:] == user[:-distance]
        firsts.append(flat[:-distance][same_user])
        seconds.append(flat[distance:][same_user])
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    shape = split.n_items, split.n_items
    counts = csr_array((np.ones(len(first)), (first, second)), shape=shape)
    return csr_array(counts + counts.T)


def item_factors(counts: csr_array, width: int) -> Floats:
    """Return (n_items, width) the leading factors of a symmetric matrix of counts, normalised by its degrees.

    Items with similar neighbours have similar vectors. A vector has the root mean square 1, as T5 draws its
    embeddings; that of an item without neighbours is 0.
    """
    n = counts.shape[0]
    scale = 1 / np.sqrt(counts.sum(axis=1) + 1)
    normalised = csr_array(counts * scale[:, None] * scale)
    k = min(width, n - 1)
    if n <= DENSE:
        values, vectors = eigh(normalised.toarray())
    else:
        values, vectors = eigsh(normalised, k=k, which="LM", v0=np.ones(n))
    leading = np.argsort(-np.abs(values))[:k]
    values, vectors = values[leading], vectors[:, leading]
    vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(k)])  # an eigenvector's sign is arbitrary
    factors = np.zeros((n, width))
    factors[:, :k] = vectors * np.sqrt(np.abs(values))
    return _unit_scale(factors)


def token_vectors(codes: list[IntArray], factors: Floats) -> tuple[IntArray, Floats]:
    """Return the tokens of all codes, and of each the mean of the factors of the items whose code has it.

    Tokens whose mean is 0 are left out.

    Args:
        codes: tokens of each item's code.
        factors: (n_items, width).
    """
    tokens, token = np.unique(np.concatenate(codes), return_inverse=True)
    item = np.repeat(np.arange(len(codes)), [len(code) for code in codes])
    sums = csr_array((np.ones(len(item)), (token, item)), shape=(len(tokens), len(codes))) @ factors
    vectors = _unit_scale(sums)
    known = vectors.any(axis=1)
    return tokens[known], vectors[known]


def _unit_scale(vectors: Floats) -> Floats:
    """Return rows divided by their root mean square; rows of zeros stay."""
    size = np.sqrt(np.square(vectors).mean(axis=1, keepdims=True))
    return np.divide(vectors, size, out=np.zeros_like(vectors), where=size > 1e-9)
