"""TF-IDF vectors of texts."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer


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
