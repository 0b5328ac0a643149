"""Titles as a tree: what is read, and log-probabilities by hand."""

import numpy as np
import pytest
import torch

from llm4rec_cli.conformance.numeric import assert_close
from llm4rec_cli.models.tuned_lm.titles import TitleTree

CODES = [[7, 3, 1], [7, 1], [7, 3, 3, 1], [7, 3, 3, 3, 1], [9, 3, 1], [4, 4, 5, 1], [4, 4, 6, 1]]


def states_and_output():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(20, 5, generator=generator), torch.randn(12, 5, generator=generator)


def test_only_what_leads_to_titles_is_read_and_a_forced_title_has_probability_one():
    reading = TitleTree(CODES).reading(np.arange(len(CODES)))
    assert sorted(reading.chains) == [[4, 4], [7, 3, 3]]
    assert sum(map(len, reading.places)) == len(reading.nodes) == 6, "the root, 7, 7 3, 7 3 3, 4, 4 4"
    assert sorted(place for places in reading.places for place in places) == [-1, 0, 0, 1, 1, 2]
    assert TitleTree(CODES).reading(np.array([1, 4])).chains == [[7]]
    assert TitleTree(CODES).reading(np.array([4])).chains == [[]]
    assert TitleTree([[3, 1]]).reading(np.array([0])).chains == [[]]
    tree = TitleTree([[4, 5, 6, 1]])
    states, output = states_and_output()
    assert tree.log_probs(tree.reading(np.array([0])), states[:1], output, np.array([0])).tolist() == [0]


@pytest.mark.parametrize("leaves", [np.arange(7), np.array([5, 2]), np.array([4])])
def test_log_probabilities_are_those_of_each_decision(leaves):
    tree = TitleTree(CODES)
    reading = tree.reading(leaves)
    states, output = states_and_output()
    states = states[: len(reading.nodes)]
    after = {}  # tokens read -> state
    number = iter(range(len(states)))
    for chain, places in zip(reading.chains, reading.places, strict=True):
        after |= {tuple(chain[: place + 1]): states[next(number)] for place in places}
    expected = []
    for leaf in leaves:
        total, code = 0.0, CODES[leaf]
        for place, token in enumerate(code):
            allowed = sorted({other[place] for other in CODES if other[:place] == code[:place] and len(other) > place})
            if len(allowed) > 1:
                logits = output[allowed] @ after[tuple(code[:place])]
                total += logits.log_softmax(0)[allowed.index(token)].item()
        expected.append(total)
    assert_close(tree.log_probs(reading, states, output, leaves), torch.tensor(expected), rel=1e-5)
