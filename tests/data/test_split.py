"""Splits: what is trained on, what is asked about, and what a history holds."""

import numpy as np
import pytest

from llm4rec_cli.data.split import TEST, TRAIN, UNUSED, VALID, divide, leave_one_out, temporal
from llm4rec_cli.errors import DataError
from llm4rec_cli.schema import Part
from tests.builders import tiny_dataset

# Three users; interactions happen at times 0..9: 80 % lie before time 8, 60 % before time 6.
SEQUENCES = [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9]]
TIMES = [0, 1, 2, 6, 8, 3, 4, 9, 5, 7]


def timed(times=TIMES, sequences=SEQUENCES, rule=None):
    dataset = tiny_dataset(sequences)
    dataset.interactions["timestamp"] = np.array(times, dtype=float)
    dataset.manifest["split"] = rule or {"rule": "temporal", "cuts": [0.6, 0.8]}
    return dataset


def histories(split, part):
    asked = split.examples(part)
    flat, offsets = asked.histories()
    return {
        int(user): (flat[start:end].tolist(), int(target))
        for user, target, start, end in zip(asked.user, asked.target, offsets[:-1], offsets[1:], strict=True)
    }


def test_a_temporal_split_cuts_all_users_at_the_same_moment():
    split = divide(timed())
    assert split.part.tolist() == [TRAIN, TRAIN, TRAIN, VALID, TEST, TRAIN, TRAIN, TEST, TRAIN, VALID]


def test_a_temporal_history_is_all_that_came_before():
    split = divide(timed())
    assert histories(split, Part.valid) == {0: ([0, 1, 2], 3), 2: ([8], 9)}
    assert histories(split, Part.test) == {0: ([0, 1, 2, 3], 4), 1: ([5, 6], 7)}
    flat, offsets = split.train_sequences()
    assert np.split(flat, offsets[1:-1].tolist())[2].tolist() == [8]


def test_only_the_first_interaction_of_a_period_is_asked_about_and_the_others_are_not_trained_on():
    split = temporal(timed([0, 1, 2, 8, 9, 3, 6, 7, 4, 5]), 0.6, 0.8)
    assert split.part.tolist() == [TRAIN, TRAIN, TRAIN, TEST, UNUSED, TRAIN, VALID, UNUSED, TRAIN, TRAIN]
    assert split.train_counts().sum() == 6


def test_a_user_who_first_appears_in_a_period_has_no_history_to_ask_about():
    split = temporal(timed([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), 0.6, 0.8)
    assert split.part.tolist() == [TRAIN] * 6 + [VALID, UNUSED] + [UNUSED] * 2  # the third is new in test


def test_equal_times_stay_on_one_side():
    split = temporal(timed([0, 0, 0, 1, 2, 0, 1, 2, 0, 1]), 0.6, 0.8)  # the cuts fall on times 1 and 2
    assert split.part.tolist() == [TRAIN, TRAIN, TRAIN, VALID, TEST, TRAIN, VALID, TEST, TRAIN, VALID]


def test_no_training_interaction_is_later_than_one_that_is_asked_about():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 20, 300)
    times = np.concatenate([np.sort(rng.integers(0, 500, n)) for n in lengths])
    dataset = timed(times, [rng.integers(0, 50, n).tolist() for n in lengths])
    split = temporal(dataset, 0.8, 0.9)
    latest = times[split.part == TRAIN].max()
    assert latest < times[split.part == VALID].min()
    assert times[np.isin(split.part, [TRAIN, VALID])].max() < times[split.part == TEST].min()
    for part in Part:
        asked = split.examples(part)
        assert len(set(asked.user.tolist())) == len(asked) > 50
        assert (asked.history_length > 0).all()


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (None, "has no times"),
        ([np.nan, *TIMES[1:]], "has no time for 1 of 10 interactions"),
        ([5] * 10, "too many share a time"),
        ([0] * 6 + [1] * 4, "too many share a time"),
    ],
)
def test_a_temporal_split_is_refused_with_the_reason_where_times_do_not_tell(times, said):
    dataset = timed(times or TIMES)
    if times is None:
        del dataset.interactions["timestamp"]
    with pytest.raises(DataError, match=said) as refused:
        divide(dataset)
    assert "leave_one_out" in refused.value.remedy


def test_the_rule_comes_from_the_manifest():
    dataset = timed(rule={"rule": "leave_one_out"})
    assert (divide(dataset).part == leave_one_out(dataset).part).all()
    assert divide(dataset).part.tolist() == [0, 0, 0, VALID, TEST, 0, VALID, TEST, 0, 0]
