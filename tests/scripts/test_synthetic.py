import numpy as np
import pytest
from synthetic import MEAN, SHORTEST, dataset


def test_users_have_enough_interactions_and_the_stated_mean():
    data = dataset(5_000, 300)
    lengths = np.diff(data.offsets)
    assert (data.n_users, data.n_items, len(lengths)) == (5_000, 300, 5_000)
    assert lengths.min() == SHORTEST
    assert lengths.mean() == pytest.approx(MEAN, abs=0.3)
    assert (data.interactions["user"].to_numpy() == np.repeat(np.arange(5_000), lengths)).all()


def test_items_are_all_in_the_catalogue_and_low_numbers_are_the_popular_ones():
    counts = np.bincount(dataset(5_000, 300).sequence, minlength=300)
    assert len(counts) == 300
    assert counts[:30].sum() > 2 * counts[-30:].sum()


def test_one_seed_draws_one_dataset():
    assert np.array_equal(dataset(50, 30, seed=1).sequence, dataset(50, 30, seed=1).sequence)
    assert not np.array_equal(dataset(50, 30, seed=1).sequence[:50], dataset(50, 30, seed=2).sequence[:50])
