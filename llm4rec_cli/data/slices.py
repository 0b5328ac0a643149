"""Slices: named groups of targets, by properties of the data that make a target easy or hard apart from a user's taste.

A slice is a property of the target and of what its user did before, whatever history a control lets a model see. Slices
overlap, and a target may be in none. Metrics on them are the breakdown `slice` of metrics.json.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import SECONDS_A_DAY, Split
from llm4rec_cli.data.statistics import has_dates
from llm4rec_cli.evaluation.beyond_accuracy import jaccard

BoolArray = NDArray[np.bool_]


SIMILAR_WORDS = 0.7  # Jaccard index: two titles of ten words each that share nine have 0.82, and with eight 0.67
TAIL_SHARE = 0.2  # of the training interactions
SHORT_HISTORY = 5  # items
SLICE = "slice/"  # prefix of the columns of predictions.parquet
DIAGNOSTIC = ("ascending_id", "descending_id")  # they show a flaw of the data and do not belong to a result


def target_slices(split: Split, examples: Examples) -> dict[str, BoolArray]:
    """Return (n,) which targets are in each slice.

    `same_day`: the interaction that precedes the target's is on the same day (UTC), so that the order of the two is the
        file's or the clock's, and predicting the target is completing a basket. Absent without times in seconds since
        1970, and under `transfer`, where histories and targets have no common order.
    `near_duplicate`: another item of the history has a title with nearly the same words, by a Jaccard index of at least
        SIMILAR_WORDS: another size, colour or edition. Texts are compared where no item has a title; absent without
        either. Words have no weights: long texts of a common form count as near-duplicates.
    `repeated`: the target is in the history.
    `cold`: the target is not in training, whether held out on purpose or not.
    `long_tail`: the target is in training, and among its least frequent items, which have at most TAIL_SHARE of the
        interactions there. Items of one frequency are all in the tail or none is.
    `seen_transition`: in some training sequence the target directly follows the item that is last in the history.
    `new_transition`: the target is in training, but never there.
    `short_history`: the history has at most SHORT_HISTORY items, a fixed bound: no user of a dense dataset has so few.
    `ascending_id`, `descending_id`: the target's raw id is after, or before, that of the history's last item. Only
        without times: they show whether order within a file may be that of ids. They condition on the target, so a
        metric on one of them estimates nothing else.

    Args:
        split: the split for ranking tasks (`Split.for_ranking`).
        examples: of one of its parts, possibly under a control.
    """
    examples = before_control(split, examples)
    flat, offsets = examples.histories()
    row = np.repeat(np.arange(len(examples)), np.diff(offsets))
    target = examples.target[row]
    counts = split.train_counts()
    result: dict[str, BoolArray] = {}
    if has_dates(split.dataset.manifest) and split.in_train_domain is None:
        day = split.dataset.interactions["timestamp"].to_numpy() // SECONDS_A_DAY  # NaN equals nothing
        result["same_day"] = (examples.history_length > 0) & (day[examples.row] == day[examples.row - 1])
    if (words := split.dataset.words) is not None:
        similar = (jaccard(target, flat, words) >= SIMILAR_WORDS) & (target != flat)
        result["near_duplicate"] = _any(similar, row, len(examples))
    result |= {
        "repeated": _any(target == flat, row, len(examples)),
        "cold": counts[examples.target] == 0,
        "long_tail": long_tail(counts)[examples.target],
        "short_history": examples.history_length <= SHORT_HISTORY,
    }
    has_history = examples.history_length > 0
    last = examples.sequence[examples.end - 1]
    seen = has_history & _follows(split, last, examples.target)
    result |= {"seen_transition": seen, "new_transition": has_history & ~seen & ~result["cold"]}
    if "timestamp" not in split.dataset.interactions:
        order = split.dataset.id_order
        result["ascending_id"] = has_history & (order[examples.target] > order[last])
        result["descending_id"] = has_history & (order[examples.target] < order[last])
    return result


def _follows(split: Split, earlier: IntArray, later: IntArray) -> BoolArray:
    """Return (n,) whether some user's training sequence has both items of a pair, the later one directly after."""
    flat, offsets = split.train_sequences()
    starts = np.zeros(len(flat) + 1, dtype=bool)
    starts[offsets] = True
    within = ~starts[1:-1]
    pairs = flat[:-1][within].astype(np.int64) * split.n_items + flat[1:][within]
    return np.isin(earlier.astype(np.int64) * split.n_items + later, pairs)


def long_tail(counts: IntArray) -> BoolArray:
    """Return (n_items,) which items are in training but in its long tail, as in `target_slices`; `counts` are their
    training interactions."""
    at_most = np.cumsum(np.bincount(counts) * np.arange(counts.max(initial=0) + 1))  # by items of that count or fewer
    return (counts > 0) & (at_most[counts] <= TAIL_SHARE * counts.sum())


def before_control(split: Split, examples: Examples) -> Examples:
    """Return the examples with the histories of their own users, in which a control may have put others.

    Under `transfer` histories end elsewhere, and remain as they are.
    """
    if split.in_train_domain is not None:
        return examples
    dataset = split.dataset
    return replace(examples, sequence=dataset.sequence, start=dataset.offsets[examples.user], end=examples.row)


def _any(flags: BoolArray, row: IntArray, n: int) -> BoolArray:
    """Return (n,) whether any flag of each example is set; `row` is the example of each."""
    return np.bincount(row[flags], minlength=n) > 0
