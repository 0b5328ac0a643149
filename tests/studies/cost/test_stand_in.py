"""Datasets with the counts of others."""

from types import SimpleNamespace

import numpy as np
import pytest

from llm4rec_cli.config.compose import compose
from llm4rec_cli.data.split import TEST, TRAIN, split_dataset
from llm4rec_cli.run.job import Job
from llm4rec_studies.cost.stand_in import HISTORY, SHOWN, Counts, stand_in
from tests.support.extras import needs_zoo


def of(*overrides, counts):
    return stand_in(Job.unchecked(compose(overrides), "train").config.dataset, counts)


@pytest.mark.parametrize(
    "dataset",
    [
        "amazon2018-scientific",
        "amazon2014-beauty-reviews",
        "amazon2014-beauty-to-toys",
        pytest.param("tallrec-movie", marks=needs_zoo),
    ],
)
def test_a_stand_in_has_the_counts_and_can_be_split(dataset):
    data = of(f"dataset={dataset}", counts=Counts(users=200, items=300, interactions=1800))
    assert (data.n_users, data.n_items) == (200, 300)
    assert len(data.interactions) == pytest.approx(1800, rel=0.15)
    assert np.diff(data.offsets).min() >= 5
    assert (np.diff(data.interactions["user"]) >= 0).all()
    assert all(text.strip() for text in data.texts)
    split = split_dataset(data)
    assert {TRAIN, TEST} <= {*split.assignment.tolist()}


@needs_zoo
def test_ratings_are_likes_where_the_dataset_says_so():
    data = of("dataset=tallrec-movie", counts=Counts(200, 300, 1800))
    assert {*data.interactions["rating"]} == {0.0, 1.0}


def test_a_click_log_has_impressions():
    data = of("dataset=mind-small", counts=Counts(users=50, items=400, impressions=100))
    split = split_dataset(data)
    shown = split.impressions(TEST)
    assert len(data.impressions) == 100
    assert (shown.n_shown <= SHOWN).all()
    assert (shown.history_length == HISTORY).all()


def test_a_dataset_of_several_domains_has_items_of_each():
    data = of("dataset=amazon2018-fhckm", counts=Counts(100, 500, 900))
    names, domain = data.domains
    assert len(names) == 5
    assert np.bincount(domain).tolist() == [100] * 5
    of_users = domain[data.sequence]
    assert all(len({*of_users[a:b]}) == 1 for a, b in zip(data.offsets[:-1], data.offsets[1:], strict=True))


def test_users_are_limited_and_what_they_did_in_proportion():
    printed = Counts.printed(SimpleNamespace(users=1000, items=70, interactions=9000, impressions=None))
    assert printed.limited(100) == Counts(100, 70, 900, 0)
    assert printed.limited(5000) == printed
