"""Training rows: each click with items that were not clicked, drawn by key."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from llm4rec_cli.data.split import TRAIN, leave_one_out, split_dataset
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.prompt4nr.config import Draw, Loss
from llm4rec_cli.models.prompt4nr.rows import ClickRows, clicks_of
from llm4rec_cli.models.prompt4nr.sequences import Ragged, Sequences
from tests.builders import tiny_dataset, tiny_log
from tests.models.prompt4nr_data import config, log

SHOP = leave_one_out(tiny_dataset([[0, 1, 2, 3, 4], [5, 6, 5, 7], [8, 9, 1]], n_items=40))
NARROW = leave_one_out(tiny_dataset([[0, 1, 2, 3, 4, 5], [6, 7, 0]], n_items=8))


class Telling:
    """A filler whose sequences tell which history was asked about, by its length, and which item."""

    def histories(self, asked):
        return asked.histories()

    def fill(self, users, user, items):
        told = np.stack([items, np.diff(users[1])[user]], axis=1)
        return Sequences(Ragged.of(told.tolist()), np.zeros(len(items), dtype=np.int64))


def rows(split=None, seed=0, **settings):
    settings = {"loss": Loss.listwise, "draw": Draw.fresh, "negatives": 4} | settings
    return ClickRows(replace(config(), **settings), clicks_of(split or log()), Telling(), seed)


def told(of, epoch, indices):
    """(n, 2) items and lengths of histories, and which are clicks, in order of the rows."""
    batch = of.batch(epoch, indices)
    tokens = batch["tokens"].view(-1, 2)
    return tokens[batch["begins"] // 2].tolist(), batch["is_click"].tolist()


def groups(of, epoch, indices=None):
    """Of each click its item and its negatives."""
    pairs, _ = told(of, epoch, list(range(len(of))) if indices is None else indices)
    items = [item for item, _ in pairs]
    return [items[start : start + of.group] for start in range(0, len(items), of.group)]


def shown_with_clicks(split):
    """(clicked, not clicked, length of the history) of each training click beside which something was left."""
    trained = split.impressions(TRAIN)
    items, offsets = trained.shown()
    clicked = trained.clicked()
    found = []
    for i, (begin, end) in enumerate(pairwise(offsets)):
        listed, label = items[begin:end], clicked[begin:end]
        found += [(int(item), set(listed[~label].tolist()), int(trained.history_length[i])) for item in listed[label]]
    return [one for one in found if one[1]]


def test_every_click_is_a_row_with_negatives_of_its_own_impression():
    expected = shown_with_clicks(log())
    of = rows()
    pairs, is_click = told(of, 0, list(range(len(of))))
    assert len(of) == len(expected) > 40
    assert is_click == [True, False, False, False, False] * len(of)
    assert [length for _, length in pairs] == [length for *_, length in expected for _ in range(5)]
    for (clicked, *negatives), (item, others, _) in zip(groups(of, 0), expected, strict=True):
        assert clicked == item
        assert set(negatives) <= others
        assert len(set(negatives)) == 4 or len(others) < 4


def trained_on(*listed):
    """Impressions that each occur twenty times, since one of them all becomes validation."""
    rows = [("train", 0, 0.0, [], shown) for shown in listed for _ in range(20)]
    return split_dataset(tiny_log([*rows, ("dev", 0, 9.0, [], "1-1 2-0")], ["a"] * 7))


def test_negatives_are_distinct_where_there_are_enough_and_else_drawn_anew():
    found = groups(rows(trained_on("0-1 1-0 2-0 3-0 4-0", "5-1 6-0")), 0)
    assert {(group[0], *sorted(group[1:])) for group in found} == {(0, 1, 2, 3, 4), (5, 6, 6, 6, 6)}


def test_impressions_of_which_everything_or_nothing_was_clicked_give_no_row():
    found = groups(rows(trained_on("0-1 1-1", "2-0 3-0", "4-1 5-0 6-1"), negatives=1), 0)
    assert {tuple(group) for group in found} == {(4, 5), (6, 5)}


def test_negatives_are_drawn_anew_each_epoch_by_key():
    of = rows(negatives=2)
    first = groups(of, 0)
    assert groups(of, 1) != first
    assert groups(of, 0) == first  # whatever was asked in between
    assert groups(rows(negatives=2, seed=1), 0) != first
    items = [group[0] for group in first]
    assert [group[0] for group in groups(of, 1)] == items


def test_over_the_epochs_every_item_left_is_drawn():
    of = rows(negatives=1)
    expected = shown_with_clicks(log())
    seen = [set() for _ in expected]
    for epoch in range(80):
        for one, (_, negative) in zip(seen, groups(of, epoch), strict=True):
            one.add(negative)
    assert seen == [others for _, others, _ in expected]


def test_fixed_negatives_are_the_same_in_all_epochs():
    of = rows(draw=Draw.fixed, negatives=2)
    assert groups(of, 0) == groups(of, 1) == groups(of, 7)
    assert groups(of, 0) != groups(rows(draw=Draw.fixed, negatives=2, seed=1), 0)


def test_a_row_is_the_same_in_whatever_batch():
    of = rows()
    whole = groups(of, 3)
    assert groups(of, 3, [5]) == [whole[5]]
    assert groups(of, 3, [9, 2, 30]) == [whole[9], whole[2], whole[30]]


def test_pointwise_rows_are_the_listwise_ones_one_by_one():
    lists, points = rows(), rows(loss=Loss.pointwise)
    assert len(points) == 5 * len(lists)
    every = list(range(len(points)))
    assert told(points, 2, every) == told(lists, 2, list(range(len(lists))))
    pairs, is_click = told(points, 2, [7, 0, 33])
    whole, labels = told(points, 2, every)
    assert pairs == [whole[7], whole[0], whole[33]]
    assert is_click == [labels[7], labels[0], labels[33]] == [False, True, False]


@pytest.mark.parametrize("split", [SHOP, NARROW])
def test_of_a_shop_every_interaction_with_a_history_is_a_click_and_negatives_are_new_to_the_user(split):
    of = rows(split)
    pairs, _ = told(of, 0, list(range(len(of))))
    trained = [split.dataset.sequence[begin : end - 2].tolist() for begin, end in pairwise(split.dataset.offsets)]
    expected = [(items[at], at, items) for items in trained for at in range(1, len(items))]
    assert [tuple(pair) for pair in pairs[:: of.group]] == [(item, at) for item, at, _ in expected]
    for (_, *negatives), (_, _, items) in zip(groups(of, 0), expected, strict=True):
        assert not set(negatives) & set(items)
        assert len(set(negatives)) == 4
        assert max(negatives) < split.n_items


def test_negatives_of_a_shop_are_drawn_alike_from_all_its_items():
    clicks = clicks_of(SHOP)
    drawn = Counter(item for draw in range(2_000) for item in clicks.negatives(0, 4, stream(0, "test", draw)).tolist())
    assert set(drawn) == set(range(3, 40))  # 0, 1, 2 are the user's
    mean = 8_000 / 37
    assert all(abs(n - mean) < 5 * mean**0.5 for n in drawn.values())
