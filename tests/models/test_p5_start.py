"""Initial embeddings of item codes: which items are neighbours, their factors, and the tokens that they share."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.models.p5 import start
from llm4rec_cli.models.p5.start import item_factors, neighbours, token_vectors
from tests.support.builders import tiny_dataset

pytestmark = pytest.mark.numeric


def test_neighbours_are_close_in_the_same_training_sequence():
    # Train parts: 0 1 2 3 4 and 1 0.
    counts = neighbours(leave_one_out(tiny_dataset([[0, 1, 2, 3, 4, 5, 6], [1, 0, 2, 6]], n_items=7))).toarray()
    expected = np.zeros((7, 7))
    for a, b in [(0, 1), (1, 2), (2, 3), (3, 4), (0, 2), (1, 3), (2, 4), (0, 3), (1, 4), (1, 0)]:
        expected[a, b] += 1
        expected[b, a] += 1
    assert (counts == expected).all()


@pytest.fixture
def blocks():
    """Two groups of five items that are neighbours within their group, and an item without any."""
    rng = np.random.default_rng(0)
    counts = np.zeros((11, 11))
    for group in (slice(0, 5), slice(5, 10)):
        drawn = rng.integers(1, 9, (5, 5))
        counts[group, group] = drawn + drawn.T
    return csr_array(counts)


@pytest.mark.parametrize("dense", [0, 1000])
def test_items_of_a_group_have_similar_factors_of_unit_scale(blocks, dense, monkeypatch):
    monkeypatch.setattr(start, "DENSE", dense)
    factors = item_factors(blocks, 2)
    assert np.allclose(np.square(factors[:10]).mean(1), 1)
    assert not factors[10].any()
    cosine = factors @ factors.T / 2
    assert cosine[:5, :5].min() > 0.9
    assert np.abs(cosine[:5, 5:10]).max() < 0.1


def test_a_token_has_the_mean_of_its_items_and_one_without_neighbours_is_left_out():
    factors = np.array([[1.0, 1.0], [1.0, -1.0], [0.0, 0.0]])
    codes = [np.array([7, 3]), np.array([7, 4]), np.array([9])]
    tokens, vectors = token_vectors(codes, factors)
    assert tokens.tolist() == [3, 4, 7]
    assert vectors == pytest.approx(np.array([[1, 1], [1, -1], [2**0.5, 0]]))
