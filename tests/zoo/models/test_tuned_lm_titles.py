"""Titles as a tree: what of it is read. Its probabilities are those of tests/zoo/models/test_tuned_lm_model.py."""

import numpy as np
import pytest
import torch

from llm4rec_zoo.models.tuned_lm.titles import TitleTree

pytestmark = pytest.mark.numeric

CODES = [[7, 3, 1], [7, 1], [7, 3, 3, 1], [7, 3, 3, 3, 1], [9, 3, 1], [4, 4, 5, 1], [4, 4, 6, 1]]


def test_only_what_leads_to_titles_is_read_and_a_forced_title_has_probability_one():
    reading = TitleTree(CODES).reading(np.arange(len(CODES)))
    assert sorted(reading.chains) == [[4, 4], [7, 3, 3]]
    assert sum(map(len, reading.places)) == len(reading.nodes) == 6, "the root, 7, 7 3, 7 3 3, 4, 4 4"
    assert sorted(place for places in reading.places for place in places) == [-1, 0, 0, 1, 1, 2]
    assert TitleTree(CODES).reading(np.array([1, 4])).chains == [[7]]
    tree = TitleTree([[4, 5, 6, 1]])
    reading = tree.reading(np.array([0]))
    assert reading.chains == [[]]
    assert tree.log_probs(reading, torch.ones(1, 5), torch.ones(12, 5), np.array([0])).tolist() == [0]
