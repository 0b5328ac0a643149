"""Packing and windows of sequence models."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import hold_out, leave_one_out
from llm4rec_cli.models.shared.config import Distribution
from llm4rec_cli.models.shared.sequences import Negatives, PrefixRows, SequenceRows, pack, packed_histories
from tests.models import naive

LENGTHS = st.lists(st.integers(0, 60), min_size=1, max_size=40)


def tokens(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which tokens of the packed array are real, and their (row, position) pairs."""
    packing = pack(lengths)
    real = packing.position < lengths[packing.row]
    return real, np.stack([packing.row[real], packing.position[real]], axis=1)


@given(LENGTHS)
def test_every_real_token_is_packed_once_in_groups_that_tile_the_array(lengths):
    _, packed = tokens(np.array(lengths))
    assert sorted(map(tuple, packed)) == [(row, t) for row, length in enumerate(lengths) for t in range(length)]
    packing = pack(np.array(lengths))
    assert packing.groups.prod(axis=1).sum() == len(packing.row) == len(packing.position)
    start = 0
    for rows, length in packing.groups:
        row = packing.row[start : start + rows * length].reshape(rows, length)
        position = packing.position[start : start + rows * length].reshape(rows, length)
        assert (row == row[:, :1]).all()
        assert (position == np.arange(length)).all()
        start += rows * length
    assert packing.groups[:, 0].sum() == len(lengths)
    assert packing.row[packing.last].tolist() == list(range(len(lengths)))
    assert packing.position[packing.last].tolist() == [max(n - 1, 0) for n in lengths]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=300))
def test_less_than_a_third_is_padding(lengths):
    real, _ = tokens(np.array(lengths))
    assert real.mean() > 2 / 3


def test_packing_rows_and_windows_by_hand():
    packing = pack(np.array([3, 1, 0, 2]))
    assert packing.groups.tolist() == [[2, 1], [1, 2], [1, 3]]
    assert packing.row.tolist() == [1, 2, 3, 3, 0, 0, 0]
    assert packing.position.tolist() == [0, 0, 0, 1, 0, 1, 2]
    assert packing.last.tolist() == [6, 0, 1, 3]
    assert pack(np.array([8, 7, 9, 40, 41])).groups.tolist() == [[3, 9], [2, 41]]
    packing = pack(np.array([3, 1, 0, 2, 3]), widening=1.0)
    assert packing.groups.tolist() == [[2, 1], [1, 2], [2, 3]]
    rows = SequenceRows(leave_one_out(tiny_dataset([[4, 2, 2, 7, 5, 1, 3]])), max_length=10)
    batch = rows.batch(0, [0])
    assert batch["items"].tolist() == [4, 2, 2, 7]
    assert batch["read"].tolist() == [0, 1, 2, 3]
    assert batch["targets"].tolist() == [2, 2, 7, 5]
    assert batch["groups"].tolist() == [[1, 4]]
    rows = SequenceRows(leave_one_out(tiny_dataset([[1, 2, 3], [4], [5, 6], [1, 2, 3, 4]])), max_length=10)
    pairs = [(batch["items"].tolist(), batch["targets"].tolist()) for batch in (rows.batch(0, [i]) for i in range(2))]
    assert len(rows) == 2
    assert pairs == [([5], [6]), ([1], [2])]  # two interactions stay in training whole
    rows = SequenceRows(leave_one_out(tiny_dataset([list(range(12))])), max_length=4)  # nine inputs, targets 1..9
    windows = [rows.batch(0, [i]) for i in range(len(rows))]
    assert [w["items"].tolist() for w in windows] == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [5, 6, 7, 8]]
    assert [w["targets"].tolist() for w in windows] == [[1, 2, 3, 4], [5, 6], [7, 8], [9]]
    assert [w["read"].tolist() for w in windows] == [[0, 1, 2, 3], [2, 3], [2, 3], [3]]


@given(n=st.integers(4, 120), max_length=st.integers(1, 20))
def test_windows_give_each_target_loss_once_with_enough_context(n, max_length):
    rows = SequenceRows(leave_one_out(tiny_dataset([list(range(n))])), max_length)
    seen = []
    for index in range(len(rows)):
        batch = rows.batch(0, [index])
        items = batch["items"].numpy()
        assert len(items) <= max_length
        assert (np.diff(items) == 1).all()  # consecutive: items are numbered by their place in the history
        for place, target in zip(batch["read"].tolist(), batch["targets"].tolist(), strict=True):
            assert items[place] == target - 1
            assert place + 1 == target or place + 1 >= max_length / 2  # the whole history, or half a window
            seen.append(target)
    assert sorted(seen) == list(range(1, n - 2))


def test_histories_are_cut_to_their_latest_items():
    examples = leave_one_out(tiny_dataset([[9, 8, 7, 6, 5], [1, 2, 3]])).examples(SplitName.test)
    items, groups, last, nonempty = packed_histories(examples, 3, CPU)
    assert groups.tolist() == [[1, 2], [1, 3]]
    assert items.tolist() == [1, 2, 8, 7, 6]
    assert last.tolist() == [4, 1]
    assert nonempty.tolist() == [True, True]
    examples = leave_one_out(tiny_dataset([[1, 2, 3], [4, 5, 6]])).examples(SplitName.test)
    examples.start[:] = examples.end
    items, groups, last, nonempty = packed_histories(examples, 10, CPU)
    assert groups.tolist() == [[2, 1]]
    assert last.tolist() == [0, 1]
    assert len(items) == 2
    assert not nonempty.any()


CPU = torch.device("cpu")
SPLIT = leave_one_out(
    tiny_dataset([[0, 1, 2, 3, 3, 4, 0, 5, 6], [4, 5], [7, 1, 1, 2, 0, 3], [6], [8, 9, 8, 1]], n_items=11)
)


@pytest.mark.parametrize("max_length", [2, 10])
def test_prefix_rows_are_all_prefixes_with_their_targets(max_length):
    rows = PrefixRows(SPLIT, max_length)
    batches = [rows.batch(0, [i]) for i in range(len(rows))]
    expected = [(prefix[-max_length:], target) for prefix, target in naive.prefix_rows(SPLIT)]
    assert [(b["items"].tolist(), b["targets"].item()) for b in batches] == expected
    assert [b["read"].tolist() for b in batches] == [[len(prefix) - 1] for prefix, _ in expected]
    assert rows.batch(0, list(range(len(rows))))["groups"][:, 0].sum() == len(expected)


@pytest.mark.parametrize("kind", [SequenceRows, PrefixRows])
def test_negatives_belong_to_their_row_in_any_batch(kind):
    rows = kind(SPLIT, 3, Negatives(SPLIT, 2, 0, Distribution.uniform, unseen=False))
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    batch = rows.batch(1, order)
    together = dict[int, list[list[int]]]()
    row = np.array(order)[pack(rows.lengths[order], rows.widening).row]
    for owner, drawn in zip(row[batch["read"].numpy()], batch["negatives"].tolist(), strict=True):
        together.setdefault(owner, []).append(drawn)
    assert together == {i: rows.batch(1, [i])["negatives"].tolist() for i in order}
    assert together != {i: rows.batch(2, [i])["negatives"].tolist() for i in order}


def test_negatives_are_drawn_uniformly_or_by_training_counts():
    negatives = Negatives(SPLIT, 3000, 0, Distribution.uniform, unseen=True)
    counts = np.bincount(negatives.draw(0, 0, np.array([5, 0, 0, 9]), 1)[0], minlength=11)
    assert (counts[[0, 5, 9]] == 0).all()
    assert counts[[1, 2, 3, 4, 6, 7, 8, 10]] == pytest.approx(3000 / 8, rel=0.2)
    assert set(negatives.draw(0, 0, np.arange(11), 1)[0]) == set(range(11))  # of who has all, all
    assert np.exp(negatives.log_probability) == pytest.approx(1 / 11)
    negatives = Negatives(SPLIT, 3000, 0, Distribution.popularity, unseen=False)
    counts = SPLIT.train_counts()
    share = np.bincount(negatives.draw(0, 0, np.array([0]), 1)[0], minlength=11) / 3000
    assert (counts == 0).any()
    assert share == pytest.approx(counts / counts.sum(), abs=0.03)
    assert np.exp(negatives.log_probability) == pytest.approx(counts / counts.sum())


@pytest.mark.parametrize("distribution", Distribution)
def test_cold_items_are_no_negatives(distribution):
    split = hold_out(SPLIT, 0.3, 1.0, seed=0)
    negatives = Negatives(split, 1000, 0, distribution, unseen=True)
    drawn = negatives.draw(0, 0, split.train_sequences()[0][:2], 1)
    assert not split.cold[drawn].any()
    assert (negatives.log_probability[split.cold] == -np.inf).all()
