"""Initial weights of a T5 from scratch: counts of the training part, their factors, and what attention carries over."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.models.p5 import start
from llm4rec_cli.models.p5.start import (
    CARRIED,
    SHRINKAGE,
    STAR_SCALE,
    carry_over,
    mean_stars,
    transition_factors,
    user_factors,
)
from llm4rec_cli.models.shared.transitions import transition_counts

pytestmark = pytest.mark.numeric


def test_transitions_lead_forward_and_count_less_the_later_they_come():
    # Train parts: 0 1 2 3 4 and 1 0.
    counts = transition_counts(
        leave_one_out(tiny_dataset([[0, 1, 2, 3, 4, 5, 6], [1, 0, 2, 6]], n_items=7)), steps=3
    ).toarray()
    expected = np.zeros((7, 7))
    for a, b, k in [(0, 1, 1), (1, 2, 1), (2, 3, 1), (3, 4, 1), (0, 2, 2), (1, 3, 2), (2, 4, 2), (0, 3, 3), (1, 4, 3)]:
        expected[a, b] += 1 / k
    expected[1, 0] += 1
    assert counts == pytest.approx(expected)


@pytest.mark.parametrize("dense", [0, 1000])
def test_inner_products_of_transition_factors_are_the_normalised_transitions(dense, monkeypatch):
    monkeypatch.setattr(start, "DENSE", dense)
    rng = np.random.default_rng(0)
    counts = rng.random((9, 3)) @ rng.random((3, 9))
    counts[8] = 0
    u, v = transition_factors(csr_array(counts), 4)
    normalised = counts / np.sqrt(counts.sum(1) + 1)[:, None] / (counts.sum(0) + 1) ** 0.25
    product = u @ v.T
    scale = np.linalg.norm(product[:8], axis=1) / np.linalg.norm(normalised[:8], axis=1)
    assert product[:8] / scale[:, None] == pytest.approx(normalised[:8])
    assert not u[8].any()
    assert np.square(u[:8]).mean(1) == pytest.approx(1)
    assert np.square(v).mean() == pytest.approx(1)


def test_a_user_is_the_mean_of_items_the_latest_counting_most():
    split = leave_one_out(tiny_dataset([[0, 1, 2, 5, 6], [3, 5, 6]], n_items=7))  # train parts: 0 1 2 and 3
    users = user_factors(split, np.eye(7))
    latest_first = np.array([1 / 3, 1 / 2, 1, 0, 0, 0, 0])
    assert users[0] == pytest.approx(latest_first / np.sqrt(np.square(latest_first).mean()))
    assert users[1] == pytest.approx(np.eye(7)[3] * 7**0.5)
    means = start._shrunk_means(np.array([0, 0, 1]), np.array([1.0, 3.0, 2.0]), 3)
    assert means == pytest.approx([4 / (2 + SHRINKAGE), 2 / (1 + SHRINKAGE), 0])


def test_stars_of_items_and_users_are_shrunk_means_of_training_ratings_alone():
    dataset = tiny_dataset([[0, 1, 2, 3], [1, 0, 2, 3]], n_items=4)  # train parts: 0 1 and 1 0
    dataset.interactions["rating"] = pd.Series([5.0, 3.0, 1.0, 1.0, 3.0, 1.0, 5.0, 5.0])
    by_item, by_user = mean_stars(leave_one_out(dataset))
    # Above the average of 3, item 0: 2 and -2, item 1: 0 and 0; user 0: 2 and 0, user 1: 0 and -2. No item differs.
    assert not by_item.any()
    assert by_user == pytest.approx(np.array([1, -1]) * STAR_SCALE)
    dataset.interactions["rating"] = pd.Series([5.0, 1.0, 1.0, 1.0, 1.0, 5.0, 5.0, 5.0])
    by_item, by_user = mean_stars(leave_one_out(dataset))
    assert by_item == pytest.approx(np.array([1, -1, 0, 0]) * STAR_SCALE * 2**0.5)
    assert not by_user.any()  # each took both items
    dataset.interactions["rating"] = pd.Series([5.0, np.nan, 1.0, 1.0, np.nan, 1.0, 5.0, 5.0])
    by_item, by_user = mean_stars(leave_one_out(dataset))
    # Item 0 has 2 and -2; item 1 has no rating, so it says nothing of the users, who have one each.
    assert not by_item.any()
    assert by_user == pytest.approx(np.array([1, -1]) * STAR_SCALE)
    del dataset.interactions["rating"]
    assert not np.concatenate(mean_stars(leave_one_out(dataset))).any()


@torch.no_grad()
def test_attention_carries_the_first_half_of_what_it_attends_to_to_the_second():
    torch.manual_seed(0)
    attention = T5Attention(T5Config(d_model=16, d_kv=4, num_heads=4))
    carry_over(attention)
    memory = torch.randn(3, 16)
    expected = torch.cat([torch.zeros(3, 8), CARRIED * memory[:, :8]], dim=1)
    assert attention.o(attention.v(memory)).numpy() == pytest.approx(expected.numpy(), abs=1e-5)
