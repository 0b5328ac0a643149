"""Likes and dislikes: which rows there are, what their histories show, and draws of a few rows."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from llm4rec_cli.config.schema import Control
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.controls import controlled_examples
from llm4rec_cli.data.likes import labelled_rows, shots
from llm4rec_cli.data.split import TEST, TRAIN, VALID, hold_out, leave_one_out, split_dataset
from llm4rec_cli.errors import UsageError

SEQUENCES = [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9]]
RATINGS = [5, 3, 4, np.nan, 1, 2, 5, 4, 3, 5]
TIMES = [0.0, 1, 2, 6, 8, 3, 4, 9, 5, 7]
TIMED = replace(
    tiny_dataset(SEQUENCES, rating=RATINGS, timestamp=TIMES),
    manifest={"name": "tiny", "fingerprint": "tiny", "split": {"rule": "temporal", "seed": 0, "cuts": [0.3, 0.6]}},
)


def shown(rows):
    """Return the history of each row as (item, liked)."""
    flat, offsets = rows.examples.histories()
    pairs = list(zip(flat.tolist(), rows.examples.liked_in_history().tolist(), strict=True))
    return [pairs[start:end] for start, end in pairwise(offsets)]


def test_a_row_is_a_rated_interaction_with_the_latest_likes_and_dislikes_before_it():
    rows = labelled_rows(leave_one_out(TIMED), TEST, 3, None)
    assert rows.examples.target.tolist() == [4, 7]
    assert rows.label.tolist() == [False, True]
    assert shown(rows) == [[(0, True), (1, False), (2, True)], [(5, False), (6, True)]]  # item 3 has no rating
    assert shown(labelled_rows(leave_one_out(TIMED), TEST, 3, 2)) == [[(1, False), (2, True)], [(5, False), (6, True)]]
    assert labelled_rows(leave_one_out(TIMED), TEST, 0.5, None).label.tolist() == [True, True]
    split = leave_one_out(tiny_dataset(SEQUENCES, rating=RATINGS))
    assert split.for_likes() is split


def test_every_interaction_of_a_period_is_an_example():
    split = split_dataset(TIMED).for_likes()
    parts = {part: labelled_rows(split, part, 3, None).examples.target.tolist() for part in (TRAIN, VALID, TEST)}
    assert parts == {TRAIN: [0, 1, 2], VALID: [5, 6, 8], TEST: [4, 7, 9]}  # times 6 and 7 are in test; 6 has no rating
    assert shown(labelled_rows(split, TEST, 3, None))[2] == [(8, False)]


def test_what_is_held_out_is_not_an_example_of_training_or_validation():
    settings = {"rule": "temporal", "seed": 0, "cuts": [0.2, 0.6]}  # before time 2, and before 6
    split = hold_out(split_dataset(replace(TIMED, manifest=TIMED.manifest | {"split": settings})), 0.1, 1.0, 0)
    assert split.cold is not None
    (cold,) = np.flatnonzero(split.cold)
    assert cold in (5, 6, 8)  # of the validation period
    parts = {part: labelled_rows(split.for_likes(), part, 3, None).examples.target.tolist() for part in (VALID, TEST)}
    assert parts == {VALID: [item for item in (2, 5, 6, 8) if item != cold], TEST: [4, 7, 9]}


def test_shuffled_histories_keep_the_like_of_each_item():
    rows = labelled_rows(leave_one_out(TIMED), TEST, 3, None)
    shuffled = replace(rows, examples=controlled_examples(rows.examples, Control.shuffle_history, 1))
    assert [sorted(history) for history in shown(shuffled)] == [sorted(history) for history in shown(rows)]
    assert shown(shuffled) != shown(rows)


def test_a_few_rows_are_drawn_by_seed_larger_draws_include_smaller_ones_and_more_cannot_be_drawn():
    long = tiny_dataset([list(range(50))], rating=np.arange(50) % 5 + 1.0)
    rows = labelled_rows(leave_one_out(long), TRAIN, 3, 10)
    draws = {(n, seed): set(shots(rows, n, seed).examples.row.tolist()) for n in (8, 20) for seed in (0, 1)}
    assert [len(draw) for draw in draws.values()] == [8, 8, 20, 20]
    assert draws[8, 0] < draws[20, 0]
    assert draws[8, 0] != draws[8, 1]
    drawn = shots(rows, 20, 0)
    assert (np.diff(drawn.examples.row) > 0).all()
    assert (drawn.label == (drawn.examples.row % 5 + 1 > 3)).all()
    assert shots(rows, None, 0) is rows
    with pytest.raises(UsageError, match=r"task\.shots=9 draws from only 3 training rows"):
        shots(labelled_rows(split_dataset(TIMED), TRAIN, 3, None), 9, 0)
