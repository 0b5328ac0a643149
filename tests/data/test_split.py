"""Splits: what is trained on, what is asked about, and what a history holds."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import chisquare

from llm4rec_cli.data.split import TEST, TRAIN, UNUSED, VALID, Split, divide, held_out, leave_one_out, temporal
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


# ---- what is held out of training

RNG = np.random.default_rng(0)
SHOP = leave_one_out(tiny_dataset([RNG.integers(0, 40, RNG.integers(3, 12)).tolist() for _ in range(60)], n_items=40))


def cold_of(split):
    assert split.cold is not None
    return set(np.flatnonzero(split.cold).tolist())


def users_of(split):
    """Who is trained or validated on."""
    user = split.dataset.interactions["user"].to_numpy()
    return set(user[np.isin(split.part, [TRAIN, VALID])].tolist())


@pytest.mark.parametrize(("cold_items", "train_users"), [(0.2, 1.0), (0.0, 0.3), (0.2, 0.3)])
def test_cold_items_and_users_left_out_leave_train_and_valid_and_nothing_else(cold_items, train_users):
    split = held_out(SHOP, cold_items, train_users, seed=0)
    cold = cold_of(split) if cold_items else set()
    kept_users = users_of(held_out(SHOP, 0.0, train_users, seed=0)) if train_users < 1 else set(range(60))
    assert (len(cold), len(kept_users)) == (round(cold_items * 40), round(train_users * 60))
    rows = SHOP.dataset.interactions
    for user, item, before, after in zip(rows["user"], rows["item"], SHOP.part, split.part, strict=True):
        taken = before != TEST and (item in cold or user not in kept_users)
        assert after == (UNUSED if taken else before)


def test_what_is_held_out_stays_in_the_histories_that_are_asked_with():
    split = held_out(SHOP, 0.5, 0.5, seed=0)
    assert histories(split, Part.test) == histories(SHOP, Part.test)
    asked, before = histories(split, Part.valid), histories(SHOP, Part.valid)
    assert 0 < len(asked) < len(before)
    assert all(before[user] == question for user, question in asked.items())
    assert cold_of(split) & {item for history, _ in asked.values() for item in history}


def test_training_never_sees_a_cold_item():
    split = held_out(SHOP, 0.3, 1.0, seed=0)
    flat, offsets = split.train_sequences()
    assert not cold_of(split) & set(flat.tolist())
    assert split.train_counts()[split.cold].sum() == 0
    whole, whole_offsets = SHOP.train_sequences()
    for user in range(60):
        kept = [i for i in whole[whole_offsets[user] : whole_offsets[user + 1]].tolist() if i not in cold_of(split)]
        assert flat[offsets[user] : offsets[user + 1]].tolist() == kept


def test_the_training_softmax_is_over_the_items_that_are_not_cold():
    split = held_out(SHOP, 0.3, 1.0, seed=0)
    assert split.softmax_items().tolist() == sorted(set(range(40)) - cold_of(split))
    assert SHOP.softmax_items() is None
    assert held_out(SHOP, 0.0, 0.5, seed=0).softmax_items() is None


def test_a_larger_share_holds_a_smaller_one():
    shares = [0.05, 0.1, 0.3, 0.7]
    cold = [cold_of(held_out(SHOP, share, 1.0, seed=3)) for share in shares]
    users = [users_of(held_out(SHOP, 0.0, share, seed=3)) for share in shares]
    for drawn in (cold, users):
        assert all(small < large for small, large in pairwise(drawn))


def test_the_draws_follow_the_seed():
    assert cold_of(held_out(SHOP, 0.3, 1.0, seed=0)) == cold_of(held_out(SHOP, 0.3, 0.5, seed=0))
    assert cold_of(held_out(SHOP, 0.3, 1.0, seed=0)) != cold_of(held_out(SHOP, 0.3, 1.0, seed=1))
    assert users_of(held_out(SHOP, 0.0, 0.3, seed=0)) != users_of(held_out(SHOP, 0.0, 0.3, seed=1))


def test_items_and_users_are_drawn_alike_often():
    times_cold, times_kept = np.zeros(40), np.zeros(60)
    for seed in range(600):
        times_cold[list(cold_of(held_out(SHOP, 0.25, 1.0, seed)))] += 1
        times_kept[list(users_of(held_out(SHOP, 0.0, 0.25, seed)))] += 1
    assert chisquare(times_cold).pvalue > 0.001
    assert chisquare(times_kept).pvalue > 0.001


def test_the_smallest_share_is_one():
    assert len(cold_of(held_out(SHOP, 1e-9, 1.0, seed=0))) == 1
    assert len(users_of(held_out(SHOP, 0.0, 1e-9, seed=0))) <= 1


def test_nothing_held_out_is_the_split_itself():
    assert held_out(SHOP, 0.0, 1.0, seed=0) is SHOP
    assert SHOP.whole() is SHOP
    assert (held_out(SHOP, 0.5, 0.5, seed=0).whole().part == SHOP.part).all()


def test_a_click_log_has_no_interactions_to_hold_out():
    empty = replace(SHOP.dataset, interactions=SHOP.dataset.interactions[:0])
    split = Split(empty, SHOP.part[:0])
    assert held_out(split, 0.3, 0.5, seed=0) is split


def test_a_temporal_split_loses_the_same():
    split = temporal(timed([0, 1, 2, 8, 9, 3, 6, 7, 4, 5]), 0.6, 0.8)
    held = held_out(split, 0.1, 1.0, seed=0)
    (cold,) = cold_of(held)
    expected = [UNUSED if item == cold and part != TEST else part for item, part in enumerate(split.part)]
    assert held.part.tolist() == expected


@pytest.mark.parametrize(
    ("sequences", "cold_items", "train_users"),
    [
        ([[0, 1, 2, 3, 4]] * 3, 0.99, 1.0),  # every item is cold
        ([[0, 1, 2]] * 3, 0.01, 1.0),  # no user has two to train on
        ([[0, 1]] * 50 + [[0, 1, 2, 3, 4]], 0.0, 0.01),  # the user who stays has nothing to validate on
    ],
)
def test_too_little_left_is_refused_with_both_settings(sequences, cold_items, train_users):
    split = leave_one_out(tiny_dataset(sequences))
    with pytest.raises(DataError, match=f"cold_items={cold_items:g} and dataset.train_users={train_users:g}") as error:
        held_out(split, cold_items, train_users, seed=0)
    assert "lower dataset.cold_items" in error.value.remedy
