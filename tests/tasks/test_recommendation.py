"""Top items and leave-one-out effects against a scorer that is computed by hand."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from llm4rec_cli.data.examples import single_example
from llm4rec_cli.errors import RunError
from llm4rec_cli.tasks.recommendation import history_effects, top_items

N_ITEMS = 5
HISTORY = np.array([9, 9, 1, 3, 1, 2, 9])
NOTHING = np.zeros(0, dtype=np.int64)


class Additive:
    """Item j scores Σ over the history of (i + 1) · (j + 1), plus 100 for j = 4; -inf without item 3 if j = 0."""

    def __init__(self):
        self.batches = []

    def score(self, examples):
        self.batches.append(len(examples))
        flat, offsets = examples.histories()
        histories = [flat[a:b] for a, b in pairwise(offsets)]
        scores = np.array(
            [[sum((i + 1) * (j + 1) for i in h) + 100 * (j == 4) for j in range(N_ITEMS)] for h in histories],
            dtype=np.float32,
        )
        scores[[3 not in h for h in histories], 0] = -np.inf
        scores = torch.from_numpy(scores)
        if examples.candidates is None:
            return scores
        return scores.gather(1, torch.from_numpy(examples.candidates))


EXAMPLE = single_example(0, HISTORY, 2, 6)  # 1, 3, 1, 2: item j scores 11 (j + 1)


def test_top_items_are_the_best_that_are_not_excluded():
    top = top_items(Additive(), EXAMPLE, 3, excluded=np.array([3]))
    assert top.items.tolist() == [4, 2, 1]
    assert top.scores.tolist() == [155, 33, 22]


def test_of_candidates_the_items_are_returned():
    top = top_items(Additive(), replace(EXAMPLE, candidates=np.array([[1, 2, 4]])), 2, excluded=np.array([4]))
    assert top.items.tolist() == [2, 1]
    assert top.columns.tolist() == [1, 0]
    assert top.scores.tolist() == [33, 22]


def test_an_item_without_a_score_is_not_recommended():
    without = single_example(0, np.array([1, 2]), 0, 2)
    assert 0 not in top_items(Additive(), without, N_ITEMS, NOTHING).items


def test_scores_that_are_not_numbers_are_an_error():
    class Diverged:
        def score(self, examples):
            return torch.full((1, N_ITEMS), torch.nan)

    with pytest.raises(RunError, match="not numbers"):
        top_items(Diverged(), EXAMPLE, 3, NOTHING)


@pytest.mark.parametrize("candidates", [None, np.array([[0, 1, 2, 4]])])
@pytest.mark.parametrize("batch_size", [1, 2, 10])
def test_the_effect_of_an_item_is_the_score_less_the_score_without_it(candidates, batch_size):
    model, example = Additive(), replace(EXAMPLE, candidates=candidates)
    top = top_items(model, example, 4, excluded=np.array([3]))
    assert top.items.tolist() == [4, 2, 1, 0]
    items, effects = history_effects(model, example, top, batch_size)
    assert items.tolist() == [2, 1, 3]  # latest first, the repeated one once
    lost = {2: 3, 1: 2 + 2, 3: 4}  # Σ (i + 1) over the occurrences
    for item, effect in zip(items, effects, strict=True):
        expected = [lost[item] * (j + 1) for j in top.items]
        assert effect.tolist() == [*expected[:3], np.inf if item == 3 else expected[3]]
    assert max(model.batches) <= batch_size
