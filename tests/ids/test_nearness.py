from dataclasses import replace

import numpy as np
import pytest

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.ids.item_ids import END, ItemIds
from llm4rec_cli.ids.nearness import code_slices, common_codes

CODES = np.array([[0, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0], [2, 2, 2], [1, END, END]])
PAIRS = [(0, 1), (1, 0), (0, 2), (1, 3), (3, 1), (4, 1), (3, 5), (5, 3), (0, 0)]


def shares(ids):
    a, b = np.array(PAIRS).T
    return common_codes(ids, a, b).tolist()


def test_codes_that_refine_one_another_have_a_prefix_in_common():
    assert shares(ItemIds(CODES)) == pytest.approx([2 / 3, 2 / 3, 1 / 3, 0, 0, 0, 1 / 3, 1, 1])


def test_parallel_codes_are_compared_place_by_place():
    assert shares(ItemIds(CODES, parallel=True)) == pytest.approx([2 / 3, 2 / 3, 1 / 3, 2 / 3, 2 / 3, 0, 1 / 3, 1, 1])


def test_a_last_code_that_only_numbers_items_does_not_count():
    assert shares(ItemIds(CODES, numbers_last=True)) == pytest.approx([1, 1, 1 / 2, 0, 0, 0, 1 / 2, 0, 1])


def test_separated_ids_say_that_their_last_code_is_a_number():
    ids = ItemIds(np.array([[0, 1], [0, 1], [2, 0]]), parallel=True)
    assert not ids.numbers_last
    assert ids.separated(0).numbers_last
    assert ids.separated(0).parallel
    assert common_codes(ids.separated(0), np.array([0]), np.array([1])) == [1.0]


def test_targets_near_to_and_far_from_the_history():
    # targets 0, 0, 3, 1 after (4, 1), (0, 2), (4, 2), (1, 1)
    split = leave_one_out(tiny_dataset([[4, 1, 0], [0, 2, 0], [4, 2, 3], [1, 1, 1], [5, 5, 5]]))
    examples = split.examples(SplitName.test)
    slices = code_slices(ItemIds(CODES), examples)
    assert slices["near_codes"].tolist() == [True, False, False, False, False]  # two of three; one of three
    assert slices["far_codes"].tolist() == [False, False, True, False, False]  # no other item is neither
    empty = replace(examples, start=examples.end)
    assert not any(inside.any() for inside in code_slices(ItemIds(CODES), empty).values())
