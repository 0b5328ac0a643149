"""Vectors without a language model, and principal components against numpy."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from llm4rec_cli.text.vectors import fitted_pca, random_vectors, tfidf_vectors

pytestmark = pytest.mark.numeric

VECTORS = np.random.default_rng(0).normal([1, 2, 3, 4], [4, 3, 2, 1], (50, 4)).astype(np.float32)
OTHERS = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
TEXTS = ["red nail polish", "hair brush", "", "soap bar", "blue hair dryer", "red soap"]


def directions():
    """Return the deviations and the directions of the principal components, as columns."""
    _, scale, rows = np.linalg.svd(VECTORS - VECTORS.mean(0), full_matrices=False)
    return scale / np.sqrt(len(VECTORS) - 1), rows.T


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("size", [None, 2])
def test_components_are_those_of_the_fitted_vectors(size, whiten):
    deviation, columns = directions()
    expected = (OTHERS - VECTORS.mean(0)) @ columns / (deviation if whiten else 1)
    found = fitted_pca(VECTORS, size, whiten)(OTHERS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.abs(found), np.abs(expected)[:, :size], rtol=1e-4, atol=1e-5)  # signs are free


def test_whitened_components_are_uncorrelated_with_variance_1():
    np.testing.assert_allclose(np.cov(fitted_pca(VECTORS, None, True)(VECTORS).T), np.eye(4), atol=1e-4)


def test_directions_without_variance_are_not_whitened():
    flat = np.column_stack([VECTORS[:, :2], VECTORS[:, 0] + VECTORS[:, 1]])
    assert fitted_pca(flat, None, True)(flat).shape == (50, 2)
    assert fitted_pca(flat, None, False)(flat).shape == (50, 3)


def test_one_vector_has_no_components():
    assert fitted_pca(VECTORS[:1], 2, True)(OTHERS).tolist() == OTHERS[:, :2].tolist()


def test_tfidf_vectors_keep_the_cosines_of_tfidf():
    rows = TfidfVectorizer().fit_transform(TEXTS)
    vectors = tfidf_vectors(TEXTS, TEXTS, 100)
    np.testing.assert_allclose(vectors @ vectors.T, (rows @ rows.T).toarray(), atol=1e-5)
    assert tfidf_vectors(["red soap", "unknown"], TEXTS, 2).shape == (2, 2)
    assert not tfidf_vectors(["unknown"], TEXTS, 2).any()
    assert tfidf_vectors(["any"], ["", "!"], 2).tolist() == [[0]]


def test_random_vectors_depend_on_text_and_seed_alone():
    vectors = random_vectors(TEXTS, 400, seed=0)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=0.15)
    assert abs(vectors @ vectors.T - np.diag((vectors**2).sum(1))).max() < 0.25
    assert random_vectors(TEXTS[::-1], 400, seed=0)[::-1].tolist() == vectors.tolist()
    assert random_vectors(TEXTS, 400, seed=1).tolist() != vectors.tolist()
