"""Which texts a generated one is compared with besides its reference."""

import numpy as np
import pytest

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.other_texts import DRAWN, other_rows
from llm4rec_cli.data.split import TEST, TRAIN, UNUSED, VALID, Split

# user 0: item 0, item 1; user 1: item 0, item 1; user 2: item 0, item 1
ASSIGNMENT = [VALID, TEST] * 3
TEXTS = ["a", "b", "c", "d", "e", "f"]


def drawn(assignment=ASSIGNMENT, texts=TEXTS, sequences=((0, 1),) * 3, part=SplitName.test):
    split = Split(tiny_dataset(sequences, explanation=texts), np.array(assignment, dtype=np.int8))
    examples = split.examples(part)
    return [[sorted(rows.tolist()) for rows in kind] for kind in other_rows(split, examples, "explanation")]


def test_others_write_about_the_item_and_the_user_about_other_items_in_the_same_part():
    of_item, of_user = drawn()
    assert of_item == [[3, 5], [1, 5], [1, 3]]
    assert of_user == [[0], [2], [4]]
    assert drawn(part=SplitName.valid) == [[[2, 4], [0, 4], [0, 2]], [[], [], []]]
    assert drawn(texts=["a", "b", "c", " ", None, "f"])[0] == [[5], [1, 5], [1]]
    of_item, of_user = drawn([VALID, TEST, VALID, TEST], TEXTS[:4], [(1, 1), (0, 1)])
    assert of_item == [[3], [0, 1]]
    assert of_user == [[], [2]]


@pytest.mark.parametrize("code", [TRAIN, UNUSED])
def test_texts_that_were_trained_on_or_are_of_no_part_are_not_compared_with(code):
    of_item, of_user = drawn([VALID, TEST, VALID, code, code, TEST])
    assert of_item == [[5], [1]]
    assert of_user == [[0], []]


def test_of_many_a_few_are_drawn_by_the_seed_of_the_data():
    n = 20
    of_item = drawn([TEST] * n, TEXTS[:1] * n, [(0,)] * n)[0]
    assert all(len(rows) == DRAWN and row not in rows for row, rows in enumerate(of_item))
    assert len({tuple(rows) for rows in of_item}) > n / 2
    assert of_item == drawn([TEST] * n, TEXTS[:1] * n, [(0,)] * n)[0]
