"""Vectors of texts that need no language model, and what may be done with vectors: PCA and whitening."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from llm4rec_cli.data.streams import stream

Vectors = NDArray[np.float32]  # (n, size)

VARIES = 1e-3  # least standard deviation of a principal component, as a share of the first one's


class Tfidf:
    """TF-IDF with the words and document frequencies of a catalogue.

    Attributes:
        catalogue: (n_items, terms) rows of length 1, 0 for an item without words; no columns if no item has words.
    """

    def __init__(self, texts: list[str]) -> None:
        vectorizer = TfidfVectorizer(dtype=np.float32)
        self.vectorizer = vectorizer if any(map(vectorizer.build_analyzer(), texts)) else None
        self.catalogue = csr_array((len(texts), 0), dtype=np.float32)
        if self.vectorizer:
            self.catalogue = csr_array(vectorizer.fit_transform(texts))

    def __call__(self, texts: list[str]) -> csr_array:
        """Return (n, terms) the rows of other texts; words that the catalogue lacks do not count."""
        if not self.vectorizer:
            return csr_array((len(texts), 0), dtype=np.float32)
        return csr_array(self.vectorizer.transform(texts))


def tfidf_vectors(texts: list[str], catalogue: list[str], size: int) -> Vectors:
    """Return the TF-IDF rows of texts in the first singular directions of the catalogue's, fewer if it has fewer."""
    tfidf = Tfidf(catalogue)
    size = min(size, *tfidf.catalogue.shape)
    if size == 0:
        return np.zeros((len(texts), 1), dtype=np.float32)
    svd = TruncatedSVD(size, random_state=0).fit(tfidf.catalogue)
    return svd.transform(tfidf(texts)).astype(np.float32)


def random_vectors(texts: Sequence[str], size: int, seed: int) -> Vectors:
    """Return normally distributed vectors of length about 1, a function of the text and the seed."""
    keys = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in texts]
    rows = [stream(seed, "text vectors", key).standard_normal(size, dtype=np.float32) for key in keys]
    return np.stack(rows) / np.float32(np.sqrt(size))


def fitted_pca(vectors: Vectors, size: int | None, whiten: bool) -> Callable[[Vectors], Vectors]:
    """Return the projection on the first principal components of vectors, at most `size`.

    Whitened, directions in which they hardly vary are left out: whitening would inflate these for a new text.
    """
    n, width = vectors.shape
    if n < 2:
        return lambda others: others[:, :size]
    pca = PCA(min(size or width, n, width), whiten=whiten, svd_solver="covariance_eigh")
    pca.fit(vectors.astype(np.float64))
    deviation = np.sqrt(pca.explained_variance_)
    kept = np.count_nonzero(deviation > VARIES * deviation[0]) if whiten else len(deviation)
    return lambda others: pca.transform(others.astype(np.float64))[:, :kept].astype(np.float32)
