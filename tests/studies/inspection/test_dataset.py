from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from llm4rec_cli.conformance.builders import tiny_dataset, tiny_log
from llm4rec_cli.data.split import leave_one_out, split_dataset
from llm4rec_cli.evaluation.proportions import Proportion
from llm4rec_studies.inspection.dataset import catalogue_of, click_log_of, order_of

DAY = 86_400.0
# User 0: items 1 and 2 tie in training; 3 and 0 tie across validation and test. User 1: no ties; the last two on a day.
SEQUENCES = [[1, 2, 3, 0], [0, 3, 1]]
TIMES = [0, 0, DAY, DAY, 2 * DAY, 3 * DAY, 3 * DAY + 1]


def order(sequences=SEQUENCES, times=TIMES):
    """Return the order of a leave-one-out split; times are in seconds since a midnight."""
    times = None if times is None else [20_000 * DAY + time for time in times]
    dataset = tiny_dataset(sequences, has_times=times is not None, **({} if times is None else {"timestamp": times}))
    if times is not None:
        dataset.manifest["times"] = [min(times), max(times)]
    return order_of(leave_one_out(dataset))


def test_ties_days_and_the_order_within_ties():
    result = order()
    assert (result.pairs, result.without_time) == (5, 0)
    assert result.tied == pytest.approx(2 / 5)
    assert result.same_day == pytest.approx(3 / 5)
    assert (result.users_tied, result.users_same_day) == (0.5, 1)
    assert order(times=[*TIMES[:-1], TIMES[-2]]).users_tied == 1
    assert result.tied_ascending_id == Proportion.of(1 / 2, 2)  # i1 i2 ascends, i3 i0 descends
    assert result.other_ascending_id == Proportion.of(2 / 3, 3)  # i2 i3, i0 i3; i3 i1


def test_users_whose_split_depends_on_the_order_within_ties():
    assert order().users_split_by_ties == 0.5  # user 0 alone
    assert order(times=[0, 0, DAY, 2 * DAY, 0, 1, 2]).users_split_by_ties == 0  # training alone ties
    assert order(times=[0, 0, 0, DAY, 0, 1, 2]).users_split_by_ties == 0.5  # training and validation
    assert order([[1, 2, 0, 0], [0, 3, 1]]).users_split_by_ties == 0  # of one item


def test_training_interactions_later_than_a_test_target():
    # Training at 0, 0 and 2 days; targets at 1 day and 3 days.
    assert order().later_training == pytest.approx((1 / 3 + 0) / 2)


def test_without_times_only_the_order_of_ids_is_known():
    result = order(times=None)
    assert (result.without_time, result.tied, result.users_split_by_ties) == (1, None, None)
    assert result.other_ascending_id == Proportion.of(3 / 5, 5)


def test_the_gini_coefficient_and_the_head():
    catalogue = catalogue_of(leave_one_out(tiny_dataset([[0, 0, 0, 0, 0, 0, 1, 1, 1], [1, 2, 3, 4]], n_items=5)))
    # Training: six of item 0, two of item 1, one of item 2: 6 2 1 0 0.
    differences = [abs(a - b) for a, b in combinations([6, 2, 1, 0, 0], 2)]
    assert catalogue.gini == pytest.approx(sum(differences) / (5 * 9))  # Σ|a − b| over pairs / (n · total)
    assert catalogue.head_interactions == pytest.approx(6 / 9)
    assert catalogue.unseen == pytest.approx(2 / 5)
    assert catalogue.tail_items == pytest.approx(1 / 5)
    assert catalogue.repeated == pytest.approx(7 / 13)


def test_near_duplicates_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    titles = [" ".join(rng.choice(list("abcdefghij"), rng.integers(0, 9))) for _ in range(120)]
    words = [set(title.split()) for title in titles]
    dataset = tiny_dataset([[0, 1, 2]], n_items=120)
    catalogue = catalogue_of(leave_one_out(replace(dataset, items=dataset.items.assign(title=titles))))
    similar = {
        item
        for pair in combinations(range(120), 2)
        if (either := words[pair[0]] | words[pair[1]]) and len(words[pair[0]] & words[pair[1]]) / len(either) >= 0.7
        for item in pair
    }
    assert 0 < catalogue.near_duplicates < 1
    assert catalogue.near_duplicates == pytest.approx(len(similar) / 120)


def test_a_click_log():
    log = tiny_log(
        [
            ("train", 0, 1, [0], "1-1 2-0"),
            ("train", 0, 1, [0], "1-1 2-0"),
            ("dev", 0, 2, [1, 2], "3-0 2-1 1-0"),  # a click at one half, of the history
            ("dev", 1, 3, [], "4-1 0-0"),  # a click at 0, on an item never shown in training
        ],
        texts=["a", "b", "c", "d", "e"],
    )
    result = click_log_of(split_dataset(log))
    assert (result.impressions, result.without_history, result.shown, result.clicks) == (2, 0.5, 2.5, 1)
    assert (result.unseen_clicks, result.click_place) == (0.5, 0.25)
    assert result.click_place_interval == pytest.approx(stats.t.interval(0.95, df=1, loc=0.25, scale=0.25))  # two users
    assert catalogue_of(split_dataset(log)).repeated == 0.5
