"""Splits: training interactions, targets, and histories."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from llm4rec_cli.config.schema import SplitName, SplitRule
from llm4rec_cli.conformance.builders import tiny_dataset, tiny_log
from llm4rec_cli.data.split import (
    TEST,
    TRAIN,
    UNUSED,
    VALID,
    hold_out,
    keep_impressions,
    leave_one_out,
    mind,
    mind_last_day,
    p5_reviews,
    split_dataset,
    temporal,
    transfer,
)
from llm4rec_cli.errors import DataError

# Three users; interactions happen at times 0..9: 80 % lie before time 8, 60 % before time 6.
SEQUENCES = [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9]]
TIMES = [0, 1, 2, 6, 8, 3, 4, 9, 5, 7]


def timed(times=TIMES, sequences=SEQUENCES, rule=None):
    dataset = tiny_dataset(sequences)
    dataset.interactions["timestamp"] = np.array(times, dtype=float)
    dataset.manifest["split"] = rule or {"rule": "temporal", "cuts": [0.6, 0.8]}
    return dataset


def histories(split, name):
    examples = split.examples(name)
    flat, offsets = examples.histories()
    return {
        int(user): (flat[start:end].tolist(), int(target))
        for user, target, start, end in zip(examples.user, examples.target, offsets[:-1], offsets[1:], strict=True)
    }


@pytest.mark.parametrize(
    ("times", "assignment"),
    [
        (TIMES, [TRAIN, TRAIN, TRAIN, VALID, TEST, TRAIN, TRAIN, TEST, TRAIN, VALID]),
        ([0, 1, 2, 8, 9, 3, 6, 7, 4, 5], [TRAIN, TRAIN, TRAIN, TEST, UNUSED, TRAIN, VALID, UNUSED, TRAIN, TRAIN]),
        (range(10), [TRAIN] * 6 + [VALID, UNUSED] + [UNUSED] * 2),  # the third user is new in test
        # the cuts fall on times 1 and 2
        ([0, 0, 0, 1, 2, 0, 1, 2, 0, 1], [TRAIN, TRAIN, TRAIN, VALID, TEST, TRAIN, VALID, TEST, TRAIN, VALID]),
    ],
    ids=[
        "all users are cut at the same moment",
        "only the first interaction of a period is a target",
        "who first appears in a period has no history and no target",
        "equal times stay on one side",
    ],
)
def test_a_temporal_split(times, assignment):
    split = split_dataset(timed(times))
    assert split.assignment.tolist() == assignment
    assert split.train_counts().sum() == assignment.count(TRAIN)


def test_a_temporal_history_is_all_that_came_before_and_the_rule_comes_from_the_manifest():
    split = split_dataset(timed())
    assert histories(split, SplitName.valid) == {0: ([0, 1, 2], 3), 2: ([8], 9)}
    assert histories(split, SplitName.test) == {0: ([0, 1, 2, 3], 4), 1: ([5, 6], 7)}
    flat, offsets = split.train_sequences()
    assert np.split(flat, offsets[1:-1].tolist())[2].tolist() == [8]
    dataset = timed(rule={"rule": "leave_one_out"})
    assert (split_dataset(dataset).assignment == leave_one_out(dataset).assignment).all()
    assert split_dataset(dataset).assignment.tolist() == [0, 0, 0, VALID, TEST, 0, VALID, TEST, 0, 0]


def test_no_training_interaction_is_later_than_a_target():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 20, 300)
    times = np.concatenate([np.sort(rng.integers(0, 500, n)) for n in lengths])
    dataset = timed(times, [rng.integers(0, 50, n).tolist() for n in lengths])
    split = temporal(dataset, 0.8, 0.9)
    latest = times[split.assignment == TRAIN].max()
    assert latest < times[split.assignment == VALID].min()
    assert times[np.isin(split.assignment, [TRAIN, VALID])].max() < times[split.assignment == TEST].min()
    for name in SplitName:
        examples = split.examples(name)
        assert len(set(examples.user.tolist())) == len(examples) > 50
        assert (examples.history_length > 0).all()


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (None, "has no times"),
        ([np.nan, *TIMES[1:]], "has no time for 1 of 10 interactions"),
        ([5] * 10, "too many share a time"),
        ([0] * 6 + [1] * 4, "too many share a time"),
    ],
)
def test_a_temporal_split_without_usable_times_is_refused_with_the_reason(times, message):
    dataset = timed(times or TIMES)
    if times is None:
        del dataset.interactions["timestamp"]
    with pytest.raises(DataError, match=message) as refused:
        split_dataset(dataset)
    assert "leave_one_out" in refused.value.remedy


# ---- holdout of items and users

RNG = np.random.default_rng(0)
SHOP = leave_one_out(tiny_dataset([RNG.integers(0, 40, RNG.integers(3, 12)).tolist() for _ in range(60)], n_items=40))


def cold_of(split):
    assert split.cold is not None
    return set(np.flatnonzero(split.cold).tolist())


def users_of(split):
    """Return the users in training or validation."""
    user = split.dataset.interactions["user"].to_numpy()
    return set(user[np.isin(split.assignment, [TRAIN, VALID])].tolist())


@pytest.mark.parametrize(("cold_items", "train_users"), [(0.2, 1.0), (0.0, 0.3), (0.2, 0.3)])
def test_cold_items_and_excluded_users_leave_only_train_and_valid(cold_items, train_users):
    split = hold_out(SHOP, cold_items, train_users, seed=0)
    cold = cold_of(split) if cold_items else set()
    kept_users = users_of(hold_out(SHOP, 0.0, train_users, seed=0)) if train_users < 1 else set(range(60))
    assert (len(cold), len(kept_users)) == (round(cold_items * 40), round(train_users * 60))
    rows = SHOP.dataset.interactions
    for user, item, before, after in zip(rows["user"], rows["item"], SHOP.assignment, split.assignment, strict=True):
        excluded = before != TEST and (item in cold or user not in kept_users)
        assert after == (UNUSED if excluded else before)


def test_held_out_interactions_stay_in_histories_and_training_never_sees_a_cold_item():
    split = hold_out(SHOP, 0.5, 0.5, seed=0)
    assert histories(split, SplitName.test) == histories(SHOP, SplitName.test)
    after, before = histories(split, SplitName.valid), histories(SHOP, SplitName.valid)
    assert 0 < len(after) < len(before)
    assert all(before[user] == example for user, example in after.items())
    assert cold_of(split) & {item for history, _ in after.values() for item in history}
    split = hold_out(SHOP, 0.3, 1.0, seed=0)
    flat, offsets = split.train_sequences()
    assert not cold_of(split) & set(flat.tolist())
    assert split.train_counts()[split.cold].sum() == 0
    whole, whole_offsets = SHOP.train_sequences()
    for user in range(60):
        kept = [i for i in whole[whole_offsets[user] : whole_offsets[user + 1]].tolist() if i not in cold_of(split)]
        assert flat[offsets[user] : offsets[user + 1]].tolist() == kept
    assert split.softmax_items().tolist() == sorted(set(range(40)) - cold_of(split))
    assert SHOP.softmax_items() is None
    assert hold_out(SHOP, 0.0, 0.5, seed=0).softmax_items() is None


def test_draws_follow_the_seed_a_larger_share_includes_a_smaller_one_and_nothing_held_out_is_the_split_itself():
    assert cold_of(hold_out(SHOP, 0.3, 1.0, seed=0)) == cold_of(hold_out(SHOP, 0.3, 0.5, seed=0))
    assert cold_of(hold_out(SHOP, 0.3, 1.0, seed=0)) != cold_of(hold_out(SHOP, 0.3, 1.0, seed=1))
    assert users_of(hold_out(SHOP, 0.0, 0.3, seed=0)) != users_of(hold_out(SHOP, 0.0, 0.3, seed=1))
    shares = [0.05, 0.1, 0.3, 0.7]
    cold = [cold_of(hold_out(SHOP, share, 1.0, seed=3)) for share in shares]
    users = [users_of(hold_out(SHOP, 0.0, share, seed=3)) for share in shares]
    for drawn in (cold, users):
        assert all(small < large for small, large in pairwise(drawn))
    assert len(cold_of(hold_out(SHOP, 1e-9, 1.0, seed=0))) == 1
    assert len(users_of(hold_out(SHOP, 0.0, 1e-9, seed=0))) <= 1
    assert hold_out(SHOP, 0.0, 1.0, seed=0) is SHOP
    assert SHOP.without_holdout() is SHOP
    assert (hold_out(SHOP, 0.5, 0.5, seed=0).without_holdout().assignment == SHOP.assignment).all()


def test_items_and_users_are_drawn_uniformly():
    times_cold, times_kept = np.zeros(40), np.zeros(60)
    for seed in range(600):
        times_cold[list(cold_of(hold_out(SHOP, 0.25, 1.0, seed)))] += 1
        times_kept[list(users_of(hold_out(SHOP, 0.0, 0.25, seed)))] += 1
    assert chisquare(times_cold).pvalue > 0.001
    assert chisquare(times_kept).pvalue > 0.001


def test_a_temporal_split_loses_the_cold_items_too():
    split = temporal(timed([0, 1, 2, 8, 9, 3, 6, 7, 4, 5]), 0.6, 0.8)
    held = hold_out(split, 0.1, 1.0, seed=0)
    (cold,) = cold_of(held)
    expected = [UNUSED if item == cold and code != TEST else code for item, code in enumerate(split.assignment)]
    assert held.assignment.tolist() == expected


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
        hold_out(split, cold_items, train_users, seed=0)
    assert "lower dataset.cold_items" in error.value.remedy


# ---- P5's random split of all interactions


@pytest.mark.parametrize(
    ("users", "items", "interactions", "train", "valid", "test"),
    [(35_598, 18_357, 296_337, 237_070, 29_634, 29_633), (22_363, 12_101, 198_502, 158_802, 19_850, 19_850)],
    ids=["sports", "beauty"],
)
def test_p5_s_split_has_the_papers_sizes(users, items, interactions, train, valid, test):
    shared = np.array_split(np.arange(interactions) % items, users)
    assignment = p5_reviews(tiny_dataset(shared, n_items=items), seed=0)
    assert np.bincount(assignment).tolist() == [train, valid, test]


@given(
    sequences=st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=12), min_size=1, max_size=12),
    seed=st.integers(0, 9),
)
def test_every_user_and_every_item_has_a_training_interaction(sequences, seed):
    dataset = tiny_dataset(sequences)
    try:
        assignment = p5_reviews(dataset, seed)
    except DataError:
        assert len(dataset.interactions) <= max(9, 5 * (len(sequences) + 9))
        return
    trained = dataset.interactions[assignment == TRAIN]
    assert set(trained["user"]) == set(range(len(sequences)))
    assert set(trained["item"]) == set(dataset.sequence.tolist())
    assert (assignment == TRAIN).sum() >= round(0.8 * len(assignment))
    assert (assignment == VALID).sum() - (assignment == TEST).sum() in (0, 1)


def test_targets_of_p5_s_split_are_drawn_uniformly_and_a_split_that_leaves_none_is_refused():
    dataset = tiny_dataset([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]] * 10)
    times_test = sum((p5_reviews(dataset, seed) == TEST).astype(int) for seed in range(600))
    assert chisquare(times_test).pvalue > 0.001
    with pytest.raises(DataError, match="1 of 4 are left to validate and test") as refused:
        p5_reviews(tiny_dataset([[0, 1], [0, 1]]), seed=0)
    assert "leave_one_out" in refused.value.remedy


def test_a_history_of_p5_s_split_is_all_that_precedes_test_items_too():
    dataset = tiny_dataset([[0, 1, 2, 3, 4]])
    dataset.manifest["split"] = {"rule": "p5_reviews"}
    dataset.interactions["part"] = np.array([TEST, TRAIN, TEST, VALID, TEST], dtype=np.int8)
    examples = split_dataset(dataset).examples(SplitName.test)
    flat, offsets = examples.histories()
    assert [flat[start:end].tolist() for start, end in pairwise(offsets)] == [[], [0, 1], [0, 1, 2, 3]]


# ---- a split by domain


def domains(sequences, test_domain="shop"):
    """Return a dataset of two domains: items 0 to 4 are books, 5 to 9 are in the shop."""
    dataset = tiny_dataset(sequences, n_items=10)
    dataset.items["domain"] = ["books"] * 5 + ["shop"] * 5
    dataset.manifest["split"] = {"rule": "transfer", "test_domain": test_domain}
    return dataset


VISITS = [[0, 5, 1, 6, 2], [7, 8], [3, 4], [9, 1]]


def test_of_shared_users_the_test_domain_is_test_and_histories_and_training_are_of_the_others():
    split = split_dataset(domains(VISITS))
    assert split.assignment.tolist() == [TRAIN, TEST, TRAIN, TEST, VALID, UNUSED, UNUSED, TRAIN, VALID, TEST, TRAIN]
    other = split_dataset(domains(VISITS, "books"))
    assert other.assignment.tolist() == [TEST, TRAIN, TEST, VALID, TEST, TRAIN, VALID, UNUSED, UNUSED, TRAIN, TEST]
    assert histories(split, SplitName.valid) == {0: ([0, 1], 2), 2: ([3], 4)}
    examples = split.examples(SplitName.test)
    flat, offsets = examples.histories()
    histories_of_test = [flat[start:end].tolist() for start, end in pairwise(offsets)]
    assert examples.user.tolist() == [0, 0, 3]
    assert examples.target.tolist() == [5, 6, 9]
    assert histories_of_test == [[0, 1, 2], [0, 1, 2], [1]]  # including those after the target in time
    flat, offsets = split.train_sequences()
    assert [flat[start:end].tolist() for start, end in pairwise(offsets)] == [[0, 1], [], [3], [1]]
    assert split.n_items == 10
    assert split.train_counts()[5:].sum() == 0
    assert split.softmax_items().tolist() == [0, 1, 2, 3, 4]
    held = hold_out(split_dataset(domains([[0, 1, 2, 3, 4, 5], [4, 3, 2, 1, 0, 6]])), 0.1, 1.0, seed=0)
    assert set(held.softmax_items().tolist()) == {0, 1, 2, 3, 4} - cold_of(held) | {7, 8, 9} - cold_of(held)
    assert held.without_holdout().in_train_domain is held.in_train_domain
    assert split.examples(SplitName.valid).outside.tolist() == [5, 6, 7, 8, 9]
    assert split.examples(SplitName.test)[:1].outside.tolist() == [0, 1, 2, 3, 4]
    assert leave_one_out(split.dataset).examples(SplitName.test).outside is None
    with pytest.raises(DataError, match="no user of domain 'shop' is also in another domain"):
        transfer(domains([[0, 1], [5, 6]]), "shop")


# ---- user names


def test_a_users_name_is_that_of_the_last_training_interaction_with_a_name():
    dataset = tiny_dataset([[0, 1, 2, 3, 4], [0, 1, 2], [0, 1], [0]])
    names = ["Ann", " Ann B. ", "", "Valid", "Test", None, "Valid", "Test", "Cy", "", " "]
    dataset.interactions["user_name"] = pd.Series(names, dtype="str")
    assert leave_one_out(dataset).user_names() == ["Ann B.", "u1", "Cy", "u3"]
    assert SHOP.user_names()[:2] == ["u0", "u1"], "without names their ids"


# ---- no target is trained on


def world(rule):
    """Return a split by this rule; users have histories in two domains, without repeated items."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 15, 200)
    dataset = tiny_dataset([rng.permutation(60)[:n].tolist() for n in lengths], n_items=60)
    dataset.items["domain"] = ["one"] * 30 + ["two"] * 30
    dataset.interactions["timestamp"] = np.concatenate([np.sort(rng.random(n)) for n in lengths])
    dataset.manifest["split"] = {"rule": rule.value, "seed": 0, "cuts": [0.8, 0.9], "test_domain": "two"}
    if rule is SplitRule.p5_reviews:
        dataset.interactions["part"] = p5_reviews(dataset, 0)
    if rule is SplitRule.given:
        dataset.interactions["part"] = rng.choice(["train", "valid", "test", "history"], int(lengths.sum()))
    return split_dataset(dataset)


def trained_pairs(split):
    """Return the user and item of each training interaction."""
    flat, offsets = split.train_sequences()
    return set(zip(np.repeat(np.arange(split.n_users), np.diff(offsets)).tolist(), flat.tolist(), strict=True))


def target_pairs(split, name):
    examples = split.examples(name)
    return set(zip(examples.user.tolist(), examples.target.tolist(), strict=True))


@pytest.mark.parametrize("shares", [(0.0, 1.0), (0.2, 0.5)])
@pytest.mark.parametrize("rule", [rule for rule in SplitRule if not rule.splits_impressions])
def test_no_target_of_any_task_is_a_training_interaction(rule, shares):
    split = hold_out(world(rule), *shares, seed=0)
    valid, test = (target_pairs(split, name) for name in SplitName)
    assert len(trained_pairs(split)) > 100
    assert min(len(valid), len(test)) > 20
    assert not valid & test
    assert not trained_pairs(split) & (valid | test)


@pytest.mark.parametrize("rule", [SplitRule.leave_one_out, SplitRule.temporal])
def test_nothing_later_than_a_users_target_is_trained_on(rule):
    assert share_with_later_training(world(rule)) == 0


def share_with_later_training(split):
    """Return the share of test examples that precede a training interaction of their user."""
    examples = split.examples(SplitName.test)
    ends = split.dataset.offsets[examples.user + 1]
    return np.mean(
        [(split.assignment[row + 1 : end] == TRAIN).any() for row, end in zip(examples.row, ends, strict=True)]
    )


def test_p5_s_split_trains_on_later_interactions_and_targets_so_that_rankings_use_leave_one_out():
    reviews = world(SplitRule.p5_reviews)
    assert (reviews.for_ranking().assignment == leave_one_out(reviews.dataset).assignment).all()
    plain = world(SplitRule.leave_one_out)
    assert plain.for_ranking() is plain
    # This is why it is labelled `leaky`: P5 itself uses leave-one-out for ranking.
    split = world(SplitRule.p5_reviews)
    assert share_with_later_training(split) > 0.5
    targets = target_pairs(world(SplitRule.leave_one_out), SplitName.test)
    assert len(targets & trained_pairs(split)) > 0.7 * len(targets)


def visits(n_train, n_dev):
    """Return impressions that differ in the items shown."""
    folders = ["train"] * n_train + ["dev"] * n_dev
    return [(folder, i % 7, i, [i % 5], f"{i}-1 {i + 1}-0") for i, folder in enumerate(folders)]


def log_of(*impressions):
    return tiny_log(impressions, [f"item {i}" for i in range(len(impressions) + 1)])


def test_mind_s_split_is_dev_and_a_random_twentieth_of_train_of_which_a_share_may_be_kept():
    split = split_dataset(log_of(*visits(200, 30)))
    assert np.bincount(split.impression_assignment).tolist() == [190, 10, 30]
    assert set(split.impressions(TEST).id) == {str(i) for i in range(200, 230)}
    ids = [set(split.impressions(code).id) for code in (TRAIN, VALID, TEST)]
    assert len(set.union(*ids)) == 230
    first, again, other = (set(mind(split.dataset, seed).impressions(VALID).id) for seed in (0, 0, 1))
    assert first == again != other
    kept = {share: keep_impressions(split, share, seed=0) for share in (0.001, 0.1, 0.5)}
    of_share = {share: set(part.impressions(TRAIN).id) for share, part in kept.items()}
    assert [len(some) for some in of_share.values()] == [1, 19, 95]
    assert of_share[0.001] < of_share[0.1] < of_share[0.5] < set(split.impressions(TRAIN).id)
    for code in (VALID, TEST):
        assert kept[0.1].impressions(code).id.tolist() == split.impressions(code).id.tolist()
    assert set(keep_impressions(split, 0.1, seed=1).impressions(TRAIN).id) != of_share[0.1]
    assert kept[0.1].train_counts().sum() == 19  # each has one click


@pytest.mark.parametrize(("n_train", "train", "valid"), [(156_965, 149_116, 7_849), (4_032, 3_830, 202), (2, 1, 1)])
def test_validation_has_the_size_that_prompt4nr_s_has(n_train, train, valid):
    dataset = log_of(("train", 0, 0, [], "0-1 1-0"), ("dev", 0, 0, [], "0-1 1-0"))
    rows = dataset.impressions.iloc[np.repeat([0, 1], [n_train, 1])].reset_index(drop=True)
    assert np.bincount(mind(replace(dataset, impressions=rows), 0).impression_assignment).tolist() == [train, valid, 1]


def test_by_days_validation_is_the_last_day_of_train_and_a_part_without_impressions_is_refused():
    day = 86_400.0
    times = [day - 1, day, 2 * day - 1, 2 * day, 2 * day + 5, 3 * day - 1]
    dataset = log_of(*(("train", 0, time, [], "0-1 1-0") for time in times), ("dev", 0, 3 * day, [], "0-1 1-0"))
    dataset.manifest["split"]["rule"] = "mind_last_day"
    assert split_dataset(dataset).impression_assignment.tolist() == [TRAIN] * 3 + [VALID] * 3 + [TEST]
    dataset = log_of(("train", 0, 5.0, [], "0-1 1-0"), ("train", 0, 9.0, [], "0-1"), ("dev", 0, 10.0, [], "0-1 1-0"))
    for n_train, n_dev, missing in ((0, 3, "train"), (1, 3, "train"), (5, 0, "test")):
        with pytest.raises(DataError, match=f"has no {missing} impressions"):
            split_dataset(log_of(*visits(n_train, n_dev)))
    with pytest.raises(DataError, match="has no train impressions: 2 in train, 1 in dev"):
        mind_last_day(dataset)


def test_an_impression_has_its_history_its_list_and_its_clicks(monkeypatch):
    rows = [("train", 0, 1, [2, 0], "1-0 0-1 2-1"), ("train", 1, 2, [], "3-1 1-0"), ("dev", 2, 5, [3], "0-0 2-0")]
    split = split_dataset(log_of(*rows))
    (shown, offsets), (histories, ends) = split.click_log.shown(), split.click_log.histories()
    assert (shown.tolist(), offsets.tolist()) == ([1, 0, 2, 3, 1, 0, 2], [0, 3, 5, 7])
    assert (histories.tolist(), ends.tolist()) == ([2, 0, 3], [0, 2, 2, 3])
    assert split.click_log.clicked().tolist() == [False, True, True, True, False, False, False]
    assert (split.click_log.user.tolist(), split.click_log.time.tolist()) == ([0, 1, 2], [1, 2, 5])
    assert (split.click_log.n_shown.tolist(), split.click_log.n_clicks.tolist()) == ([3, 2, 2], [2, 1, 0])
    assert split.click_log.rankable.tolist() == [True, True, False]
    some = split.click_log[np.array([2, 0])]
    assert some.shown()[0].tolist() == [0, 2, 1, 0, 2]
    assert some.histories(last=1)[0].tolist() == [3, 0]
    assert some.n_clicks.tolist() == [0, 2]
    rows = [("train", 0, 1, [], "1-0 0-1"), ("train", 1, 2, [], "0-0 1-1"), ("dev", 2, 5, [3], "0-0 1-0 2-1")]
    monkeypatch.setattr("llm4rec_cli.data.split.IMPRESSIONS_AT_ONCE", 2)
    log = split_dataset(log_of(*rows)).click_log
    assert log.clicked().tolist() == [False, True, False, True, False, False, True]
    assert log.n_clicks.tolist() == [1, 1, 1]
    split = split_dataset(log_of(("train", 0, 1, [], "1-1 0-0 1-0 0-0"), *visits(3, 1)))
    assert split.click_log[:1].clicked().tolist() == [True, False, True, False]


def test_training_counts_clicks_and_sees_lists_histories_and_training_interactions():
    rows = [("train", i, 1, [4], "0-1 1-0") for i in range(20)]
    split = split_dataset(tiny_log([*rows, ("dev", 0, 2, [5], "2-1 3-0")], ["any"] * 6))
    assert split.train_counts().tolist() == [19, 0, 0, 0, 0, 0]
    assert split.seen_in_training().tolist() == [True, True, False, False, True, False]
    assert leave_one_out(tiny_dataset(SEQUENCES)).seen_in_training().nonzero()[0].tolist() == [0, 1, 2, 5, 8, 9]


def test_a_given_split_is_that_of_the_files_for_rankings_too():
    dataset = tiny_dataset([[0, 1, 2], [3, 4]], part=["history", "train", "test", "valid", "test"])
    dataset.manifest["split"] = {"rule": "given", "seed": 0}
    split = split_dataset(dataset)
    assert split.assignment.tolist() == [UNUSED, TRAIN, TEST, VALID, TEST]
    assert split.for_ranking() is split
    assert histories(split, SplitName.test) == {0: ([0, 1], 2), 1: ([3], 4)}
    dataset = tiny_dataset([[0, 1, 2, 3]], part=["history", "train", "valid", "test"])
    assert split_dataset(dataset).assignment.tolist() == [TRAIN, TRAIN, VALID, TEST]  # leave_one_out
    assert split_dataset(dataset).for_ranking().assignment.tolist() == [TRAIN, TRAIN, VALID, TEST]


def test_repeats_are_counted_in_training_and_validation_alone():
    dataset = tiny_dataset([[0, 1, 0, 2, 0], [3, 3, 3], [4, 5], [6, 7, 8, 6]])
    known = [[0, 1, 0, 2], [3, 3], [4, 5], [6, 7, 8]]  # without each test target
    repeats = sum(len(items) - len(set(items)) for items in known)
    assert leave_one_out(dataset).repeated() == pytest.approx(repeats / sum(map(len, known)))
    assert leave_one_out(tiny_dataset([[0, 1, 0], [0, 1, 1]])).repeated() == 0, "only test targets repeat an item"
