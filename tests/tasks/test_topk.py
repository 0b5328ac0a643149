"""The best k against a stable sort of all scores."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llm4rec_cli.tasks.topk import BLOCK, best_blocks, block_maxima, top_scored


def top_columns(scores, k):
    return top_scored(*best_blocks(scores, block_maxima(scores), k), k)[0]


def naive(scores, k):
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("n_columns", [1, 9, BLOCK, 10 * BLOCK, 11 * BLOCK, 40 * BLOCK + 7])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_the_best_columns_are_those_of_a_stable_sort(n_columns, levels):
    scores = np.random.default_rng(0).integers(-levels, levels, (5, n_columns)).astype(np.float32) / 7
    assert top_columns(torch.from_numpy(scores), 10).tolist() == naive(scores, 10).tolist()


@given(scores=arrays(np.float32, (2, 4 * BLOCK + 3), elements=st.floats(width=32, allow_nan=False)))
def test_any_floats_are_ordered(scores):
    assert top_columns(torch.from_numpy(scores), 3).tolist() == naive(scores, 3).tolist()


def test_masked_columns_come_last_and_zero_has_no_sign():
    scores = torch.tensor([[-torch.inf, 0.0, -0.0, 0.0, -1e-45, 1e-45]])
    assert top_columns(scores, 6).tolist() == [[5, 1, 2, 3, 4, 0]]


def test_the_best_column_may_be_in_the_last_incomplete_block():
    scores = torch.zeros(1, 5 * BLOCK + 2)
    scores[0, -1] = 1
    assert top_columns(scores, 2).tolist() == [[5 * BLOCK + 1, 0]]


def test_ties_are_ordered_by_number():
    numbers = torch.tensor([[9, 2**32 - 1, 3, 0]])
    assert top_scored(torch.tensor([[1.0, 2.0, 1.0, 1.0]]), numbers, 3)[0].tolist() == [[2**32 - 1, 0, 3]]
