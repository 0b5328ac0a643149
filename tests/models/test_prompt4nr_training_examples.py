"""Training examples: each click with items that were not clicked, drawn by key."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from llm4rec_cli.conformance.builders import tiny_dataset, tiny_log
from llm4rec_cli.data.split import TRAIN, hold_out, leave_one_out, split_dataset
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.prompt4nr.sequences import FilledTemplates
from llm4rec_cli.models.prompt4nr.settings import ClickLoss, NegativeDraw
from llm4rec_cli.models.prompt4nr.training_examples import ClickExamples
from llm4rec_cli.models.shared.clicks import training_clicks
from llm4rec_cli.models.shared.tokens import Ragged
from tests.models.prompt4nr_data import config, log

SHOP = leave_one_out(tiny_dataset([[0, 1, 2, 3, 4], [5, 6, 5, 7], [8, 9, 1]], n_items=40))
NARROW = leave_one_out(tiny_dataset([[0, 1, 2, 3, 4, 5], [6, 7, 0]], n_items=8))


class FakeFiller:
    """A filler whose sequences are the item and the length of the history."""

    def tokenize_histories(self, histories):
        return histories.histories()

    def fill(self, histories, history, items):
        rows = np.stack([items, np.diff(histories[1])[history]], axis=1)
        return FilledTemplates(Ragged.from_rows(rows.tolist()), np.zeros(len(items), dtype=np.int64))


def examples_of(split=None, seed=0, **settings):
    settings = {"loss": ClickLoss.listwise, "draw": NegativeDraw.fresh, "negatives": 4} | settings
    return ClickExamples(replace(config(), **settings), training_clicks(split or log()), FakeFiller(), seed)


def pairs_and_clicks(examples, epoch, indices):
    """(n, 2) items and lengths of histories, and which are clicks, in order of the rows."""
    batch = examples.batch(epoch, indices)
    tokens = batch["tokens"].view(-1, 2)
    return tokens[batch["starts"] // 2].tolist(), batch["is_click"].tolist()


def groups(examples, epoch, indices=None):
    """The item and the negatives of each click."""
    pairs, _ = pairs_and_clicks(examples, epoch, list(range(len(examples))) if indices is None else indices)
    items = [item for item, _ in pairs]
    return [items[start : start + examples.group_size] for start in range(0, len(items), examples.group_size)]


def shown_with_clicks(split):
    """(clicked, not clicked, length of the history) of each training click on an impression with an unclicked item."""
    impressions = split.impressions(TRAIN)
    items, offsets = impressions.shown()
    clicked = impressions.clicked()
    clicks = []
    for i, (begin, end) in enumerate(pairwise(offsets)):
        listed, label = items[begin:end], clicked[begin:end]
        others = set(listed[~label].tolist())
        clicks += [(int(item), others, int(impressions.history_length[i])) for item in listed[label] if others]
    return clicks


def test_every_click_is_an_example_with_negatives_of_its_impression():
    expected = shown_with_clicks(log())
    examples = examples_of()
    pairs, is_click = pairs_and_clicks(examples, 0, list(range(len(examples))))
    assert len(examples) == len(expected) > 40
    assert is_click == [True, False, False, False, False] * len(examples)
    assert [length for _, length in pairs] == [length for *_, length in expected for _ in range(5)]
    for (clicked, *negatives), (item, others, _) in zip(groups(examples, 0), expected, strict=True):
        assert clicked == item
        assert set(negatives) <= others
        assert len(set(negatives)) == 4 or len(others) < 4


def trained_on(*listed):
    """Impressions that occur twenty times each, as one of them becomes validation."""
    rows = [("train", 0, 0.0, [], shown) for shown in listed for _ in range(20)]
    return split_dataset(tiny_log([*rows, ("dev", 0, 9.0, [], "1-1 2-0")], ["a"] * 7))


def test_negatives_are_distinct_where_there_are_enough_and_all_are_drawn_in_time():
    drawn = groups(examples_of(trained_on("0-1 1-0 2-0 3-0 4-0", "5-1 6-0")), 0)
    assert {(group[0], *sorted(group[1:])) for group in drawn} == {(0, 1, 2, 3, 4), (5, 6, 6, 6, 6)}
    # impressions with all or no items clicked give no example
    drawn = groups(examples_of(trained_on("0-1 1-1", "2-0 3-0", "4-1 5-0 6-1"), negatives=1), 0)
    assert {tuple(group) for group in drawn} == {(4, 5), (6, 5)}
    examples = examples_of(negatives=1)
    expected = shown_with_clicks(log())
    seen = [set() for _ in expected]
    for epoch in range(80):
        for negatives, (_, negative) in zip(seen, groups(examples, epoch), strict=True):
            negatives.add(negative)
    assert seen == [others for _, others, _ in expected]


def test_negatives_depend_on_seed_row_and_where_drawn_anew_epoch():
    examples = examples_of(negatives=2)
    first = groups(examples, 0)
    assert groups(examples, 1) != first
    assert groups(examples, 0) == first  # whatever was drawn in between
    assert groups(examples_of(negatives=2, seed=1), 0) != first
    assert [group[0] for group in groups(examples, 1)] == [group[0] for group in first]
    assert groups(examples, 0, [9, 2, 30]) == [first[9], first[2], first[30]]
    examples = examples_of(draw=NegativeDraw.fixed, negatives=2)
    assert groups(examples, 0) == groups(examples, 1) == groups(examples, 7)
    assert groups(examples, 0) != groups(examples_of(draw=NegativeDraw.fixed, negatives=2, seed=1), 0)


def test_pointwise_examples_are_the_listwise_ones_one_by_one():
    lists, points = examples_of(), examples_of(loss=ClickLoss.pointwise)
    assert len(points) == 5 * len(lists)
    every = list(range(len(points)))
    assert pairs_and_clicks(points, 2, every) == pairs_and_clicks(lists, 2, list(range(len(lists))))
    pairs, is_click = pairs_and_clicks(points, 2, [7, 0, 33])
    whole, labels = pairs_and_clicks(points, 2, every)
    assert pairs == [whole[7], whole[0], whole[33]]
    assert is_click == [labels[7], labels[0], labels[33]] == [False, True, False]


@pytest.mark.parametrize("split", [SHOP, NARROW])
def test_every_interaction_with_a_history_is_a_click_and_its_negatives_are_new_to_the_user(split):
    examples = examples_of(split)
    pairs, _ = pairs_and_clicks(examples, 0, list(range(len(examples))))
    trained = [split.dataset.sequence[begin : end - 2].tolist() for begin, end in pairwise(split.dataset.offsets)]
    expected = [(items[i], i, items) for items in trained for i in range(1, len(items))]
    assert [tuple(pair) for pair in pairs[:: examples.group_size]] == [(item, length) for item, length, _ in expected]
    for (_, *negatives), (_, _, items) in zip(groups(examples, 0), expected, strict=True):
        assert not set(negatives) & set(items)
        assert len(set(negatives)) == 4
        assert max(negatives) < split.n_items


def test_no_negative_is_held_out_of_training_and_all_others_are_drawn_uniformly():
    sequences = [[0, 1, 2, 3, 4], [5, 6, 5, 7], [8, 9, 1]]
    for n_items in (40, 12):  # by rejection, and from what is left
        split = hold_out(leave_one_out(tiny_dataset(sequences, n_items=n_items)), 0.3, 1.0, seed=1)
        warm, clicks = set(split.softmax_items().tolist()), training_clicks(split)
        drawn = {item for i in range(300) for item in clicks.draw_negatives(0, 4, stream(0, "test", i)).tolist()}
        assert drawn == warm - set(clicks.others[clicks.first[0] : clicks.last[0]].tolist())
    clicks = training_clicks(SHOP)
    draws = [clicks.draw_negatives(0, 4, stream(0, "test", draw)) for draw in range(2_000)]
    counts = np.bincount(np.concatenate(draws), minlength=40)
    assert not counts[:3].any()  # the user's
    assert (np.abs(counts[3:] - 8_000 / 37) < 5 * (8_000 / 37) ** 0.5).all()
    everything = leave_one_out(tiny_dataset([[0, 1, 2, 3, 1, 0], [2, 1, 0, 3]], n_items=4))
    assert training_clicks(everything).user.tolist() == [1], "a user who has the whole catalogue gives no clicks"
