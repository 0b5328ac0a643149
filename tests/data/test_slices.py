from dataclasses import replace

import numpy as np
import pytest

from llm4rec_cli.config.schema import Control, SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.controls import controlled_examples
from llm4rec_cli.data.slices import long_tail, target_slices
from llm4rec_cli.data.split import leave_one_out, transfer

DAY = 86_400.0
SEQUENCES = [[0, 1, 2, 3], [3, 2, 1, 3], [4, 1, 0, 5], [0, 1, 2, 4, 3, 5]]  # targets 3, 3, 5, 5
MIDNIGHT = 20_000 * DAY
TIMES = MIDNIGHT + np.array([0, 1, 2, DAY - 1, 0, 1, DAY - 1, DAY, 5, 5, 5, np.nan, 1, 2, 3, 4, DAY, 2 * DAY - 1])


def split(sequences=SEQUENCES, titles=None, times=None):
    """Return a leave-one-out split of these sequences."""
    columns = {} if times is None else {"timestamp": times}
    dataset = tiny_dataset(sequences, **columns)
    if times is not None:
        dataset.manifest["times"] = [float(np.nanmin(times)), float(np.nanmax(times))]
    if titles is not None:
        dataset = replace(dataset, items=dataset.items.assign(title=titles))
    return leave_one_out(dataset)


def members(name, split):
    """Return the users whose test target is in a slice."""
    examples = split.examples(SplitName.test)
    return examples.user[target_slices(split, examples)[name]].tolist()


def test_a_target_on_the_day_of_the_last_item():
    assert members("same_day", split(times=TIMES)) == [0, 3]  # not across midnight, nor without a time


@pytest.mark.parametrize("times", [None, [1e12 + time for time in range(18)], [*range(18)]])  # none; ms; steps
def test_without_dates_no_slice_is_of_one_day(times):
    assert "same_day" not in target_slices(split(times=times), split(times=times).examples(SplitName.test))


def test_a_near_duplicate_shares_most_words_with_another_item_of_the_history():
    nine = "a b c d e f g h i"
    titles = ["other", f"{nine} ten", "A &amp; B", f"{nine} TWELVE!", "", "a b c d e f g h x y"]
    # 3 shares nine words of eleven with 1; 5 shares eight words of twelve with 1 and 3; 4 has no words
    assert members("near_duplicate", split(titles=titles)) == [0, 1]
    assert members("near_duplicate", split([[3, 0, 3], [4, 5, 4]], titles)) == []  # itself, and items without words
    assert "near_duplicate" not in target_slices(split(), split().examples(SplitName.test))
    dataset = tiny_dataset([[0, 1, 2]], texts=["red dye", "x", "Red dye."])
    assert members("near_duplicate", leave_one_out(dataset)) == [0]


def test_repeated_cold_and_short_and_transitions_seen_in_training_or_not():
    assert members("repeated", split()) == [1]
    assert members("cold", split()) == [2, 3]  # 5 is only in test
    assert members("short_history", split()) == [0, 1, 2, 3]
    assert members("short_history", split([[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 0]])) == [0]
    # in training 0 -> 1, 3 -> 2, 4 -> 1, 0 -> 1 -> 2 -> 4; the last pairs are 2 -> 3, 1 -> 3, 0 -> 5 and 3 -> 5
    assert members("seen_transition", split()) == []
    assert members("new_transition", split()) == [0, 1]  # 5 is not in training
    sequences = [[0, 1, 2, 0, 1], [1, 2, 2, 1], [2, 0, 1, 0], [3, 0, 3]]  # 1 -> 0, 2 -> 1, 2 -> 2 are of no one user
    # in training 0 -> 1 -> 2, 1 -> 2, 2 -> 0, 3; the last pairs are 0 -> 1, 2 -> 1, 1 -> 0, 0 -> 3
    assert members("seen_transition", split(sequences)) == [0]
    assert members("new_transition", split(sequences)) == [1, 2, 3]


def test_the_long_tail_has_at_most_a_fifth_of_the_training_interactions():
    assert long_tail(np.array([8, 1, 1, 0])).tolist() == [False, True, True, False]  # 2 of 10; unseen ones are cold
    assert long_tail(np.array([7, 1, 1, 1])).tolist() == [False] * 4  # equal counts are not divided
    assert long_tail(np.array([11, 2, 1, 1])).tolist() == [False, False, True, True]  # 2 of 15; 4 were too many
    assert members("long_tail", split([[0, 0, 0, 0, 1, 2, 1], [0, 0, 0, 0, 0, 3, 0]])) == [0]


def test_order_by_raw_id_is_only_looked_at_without_times():
    dataset = tiny_dataset([[0, 1, 2], [2, 1, 0], [0, 1, 1]], has_times=False)
    dataset = replace(dataset, items=dataset.items.assign(item_id=["9", "10", "100"]))  # numbers, not text
    assert members("ascending_id", leave_one_out(dataset)) == [0]
    assert members("descending_id", leave_one_out(dataset)) == [1]
    assert "ascending_id" not in target_slices(split(times=TIMES), split().examples(SplitName.test))


@pytest.mark.parametrize("control", [Control.shuffle_history, Control.swap_users])
def test_slices_are_of_the_users_own_history_under_a_control(control):
    titles = ["a", "b", "c", "b", "d", "e"]
    own = split(titles=titles, times=TIMES)
    examples = own.examples(SplitName.test)
    before = target_slices(own, examples)
    after = target_slices(own, controlled_examples(examples, control, 0))
    assert {name: inside.tolist() for name, inside in after.items()} == {n: b.tolist() for n, b in before.items()}
    assert before["near_duplicate"].any()


def test_transfer_has_no_common_order_of_history_and_target():
    dataset = tiny_dataset([[0, 1, 2], [1, 0, 3]], timestamp=[1.0, 2, 3, 1, 2, 3])
    dataset = replace(dataset, items=dataset.items.assign(domain=["a", "a", "b", "b"]))
    dataset.manifest["times"] = [1.0, 3.0]
    split = transfer(dataset, "b")
    slices = target_slices(split, split.examples(SplitName.test))
    assert "same_day" not in slices
    assert slices["cold"].tolist() == [True, True]
