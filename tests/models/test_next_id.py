from dataclasses import replace

import numpy as np

from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.schema import Part
from tests.builders import tiny_dataset

DATASET = tiny_dataset([[0, 2, 3], [4, 1, 2], [3, 5, 0]], n_items=6)


def test_guesses_the_number_after_the_highest_of_the_history(build):
    scores = build("next_id", DATASET).score(leave_one_out(DATASET).examples(Part.test))
    assert scores.tolist() == [[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]]  # no item after 5


def test_guesses_among_candidates(build):
    asked = replace(leave_one_out(DATASET).examples(Part.test), candidates=np.array([[3, 0], [2, 5], [0, 1]]))
    assert build("next_id", DATASET).score(asked).tolist() == [[1, 0], [0, 1], [0, 0]]


def test_an_empty_history_guesses_nothing(build):
    asked = leave_one_out(DATASET).examples(Part.test)
    scores = build("next_id", DATASET).score(replace(asked, end=asked.start))
    assert scores.tolist() == [[0] * 6] * 3
