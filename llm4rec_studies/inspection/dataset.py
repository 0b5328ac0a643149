"""Facts about a dataset that decide what a ranking on it rewards: how it is ordered, near-duplicates, popularity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.data.slices import SECONDS_A_DAY, SIMILAR_WORDS, long_tail
from llm4rec_cli.data.split import TEST, TRAIN, Split
from llm4rec_cli.data.statistics import has_dates
from llm4rec_cli.evaluation import crossed
from llm4rec_cli.evaluation.beyond_accuracy import jaccard
from llm4rec_cli.evaluation.proportions import Proportion

BoolArray = NDArray[np.bool_]

HEAD_SHARE = 0.2  # of the items, the most frequent ones
ROWS_AT_ONCE = 1024  # titles compared with the whole catalogue at once


@dataclass(frozen=True)
class Order:
    """How the order of a user's interactions comes about. A pair is two adjacent interactions of one user.

    Attributes:
        pairs: their number.
        without_time: the share of interactions that have no time.
        tied: the share of pairs with the same time; None without times, as the following.
        same_day: the share of pairs on one day (UTC); None without times in seconds since 1970.
        users_tied, users_same_day: the share of users whose last two interactions have the same time, or day, among
            those with two or more.
        users_split_by_ties: the share of those users for whom another order within ties would change a part of the
            split; None where the split does not depend on order.
        later_training: the mean over test targets of the share of training interactions that are later.
        tied_ascending_id: of the pairs with the same time, the share in which the raw id ascends; unrelated orders give
            one half. Pairs of one item are not counted. None without such pairs.
        other_ascending_id: the same among the pairs with different times, or without times.
    """

    pairs: int
    without_time: float
    tied: float | None = None
    same_day: float | None = None
    users_tied: float | None = None
    users_same_day: float | None = None
    users_split_by_ties: float | None = None
    later_training: float | None = None
    tied_ascending_id: Proportion | None = None
    other_ascending_id: Proportion | None = None


@dataclass(frozen=True)
class Catalogue:
    items: int  # number of items
    unseen: float  # the share that does not occur in training
    # the share for which another item has nearly the same words in title, or text, as in `slices`; None without either
    near_duplicates: float | None
    repeated: float  # the share of interactions, or clicks, with an item that the user's history has already
    gini: float  # Gini coefficient of the items' training interactions: 0 if all have as many, 1 if one item has all
    head_interactions: float  # the share of training interactions with the most frequent HEAD_SHARE of the items
    tail_items: float  # the share of items in the long tail, as in `slices`


@dataclass(frozen=True)
class ClickLog:
    """The test impressions of a click log."""

    impressions: int  # number of impressions
    without_history: float  # the share with an empty history
    shown: float  # mean number of items shown
    clicks: float  # mean number of items clicked
    unseen_clicks: float  # the share of clicks on items that training never shows
    click_place: float  # the mean place of a click in its list, 0 first and 1 last; one half if order says nothing
    click_place_interval: tuple[float, float]  # its 95 % interval over users


def order_of(split: Split) -> Order:
    """Return how the order of interactions comes about, of a split as ranking tasks use it."""
    dataset = split.dataset
    rows, user, item = dataset.interactions, dataset.interactions["user"].to_numpy(), dataset.sequence
    first = np.flatnonzero(user[1:] == user[:-1])
    second = first + 1
    differs = item[first] != item[second]
    last = dataset.offsets[1:][np.diff(dataset.offsets) >= 2] - 1
    if "timestamp" not in rows:
        return Order(len(first), 1.0, other_ascending_id=_ascending(dataset.id_order, item, first, second, differs))
    time = rows["timestamp"].to_numpy(dtype=np.float64)
    day = time // SECONDS_A_DAY if has_dates(dataset.manifest) else np.full(len(time), np.nan)
    tied = time[first] == time[second]
    by_order = split.in_train_domain is None
    moved = np.unique(user[first[tied & differs & (split.assignment[first] != split.assignment[second])]])
    train = np.sort(time[(split.assignment == TRAIN) & ~np.isnan(time)])
    test = time[(split.assignment == TEST) & ~np.isnan(time)]
    later = 1 - np.searchsorted(train, test, side="right") / max(1, len(train))
    dated = has_dates(dataset.manifest)
    return Order(
        pairs=len(first),
        without_time=float(np.isnan(time).mean()),
        tied=_share(tied),
        same_day=_share(day[first] == day[second]) if dated else None,
        users_tied=_share(time[last] == time[last - 1]),
        users_same_day=_share(day[last] == day[last - 1]) if dated else None,
        users_split_by_ties=len(moved) / len(last) if by_order and len(last) else None,
        later_training=float(later.mean()) if len(later) else None,
        tied_ascending_id=_ascending(dataset.id_order, item, first, second, tied & differs),
        other_ascending_id=_ascending(dataset.id_order, item, first, second, ~tied & differs),
    )


def _share(flags: BoolArray) -> float | None:
    return float(flags.mean()) if len(flags) else None


def _ascending(
    order: IntArray, item: IntArray, first: IntArray, second: IntArray, counted: BoolArray
) -> Proportion | None:
    """Return the share of the counted pairs in which the second item comes later in an order, -1 for items without."""
    before, after = order[item[first[counted]]], order[item[second[counted]]]
    comparable = (before != after) & (before >= 0) & (after >= 0)
    share = _share(after[comparable] > before[comparable])
    return None if share is None else Proportion.of(share, int(comparable.sum()))


def catalogue_of(split: Split) -> Catalogue:
    """Return facts about the items and their frequencies in training, of interactions or of a click log."""
    dataset = split.dataset
    counts = split.train_counts()
    near = _near_duplicates(dataset.words)
    sorted_counts = np.sort(counts)[::-1].astype(np.float64)
    head = sorted_counts[: max(1, round(HEAD_SHARE * len(counts)))]
    total = max(1.0, sorted_counts.sum())
    rank = np.arange(len(counts), 0, -1)  # 1 for the least frequent
    return Catalogue(
        items=len(counts),
        unseen=float((~split.seen_in_training()).mean()),
        near_duplicates=None if near is None else float(near.mean()),
        repeated=_repeated(split),
        gini=float((2 * rank - len(counts) - 1) @ sorted_counts / (len(counts) * total)),
        head_interactions=float(head.sum() / total),
        tail_items=float(long_tail(counts).mean()),
    )


def _repeated(split: Split) -> float:
    """Return the share of interactions, or of a click log's test clicks, with an item of the user's history."""
    if split.impression_assignment is None:
        pairs = split.dataset.interactions[["user", "item"]]
        return float(pairs.duplicated().mean())
    log = split.impressions(TEST)
    history, history_offsets = log.histories()
    listed, shown_offsets = log.shown()
    had = np.repeat(np.arange(len(log)), np.diff(history_offsets)) * split.n_items + history
    clicked = (np.repeat(np.arange(len(log)), np.diff(shown_offsets)) * split.n_items + listed)[log.clicked()]
    return float(np.isin(clicked, had).mean())


def _near_duplicates(words: csr_array | None) -> BoolArray | None:
    """Return (n_items,) which items have nearly the same words as another item.

    Only pairs that share one of their rarest words are compared: of two sets with a Jaccard index of at least t, each
    shares ⌈t·n⌉ of its n words with the other, hence one of its n − ⌈t·n⌉ + 1 rarest (prefix filtering: Bayardo et al.,
    WWW 2007).
    """
    if words is None:
        return None
    rarest_first = csr_array(words[:, np.argsort(words.sum(axis=0), kind="stable")])
    rarest_first.sort_indices()
    length = np.diff(rarest_first.indptr)
    n_rarest = length - np.ceil(SIMILAR_WORDS * length - 1e-9).astype(int) + 1
    place = np.arange(rarest_first.nnz) - np.repeat(rarest_first.indptr[:-1], length)
    rare = rarest_first.copy()
    rare.data[place >= np.repeat(n_rarest, length)] = 0
    rare.eliminate_zeros()
    items_of_word = rare.T.tocsr()
    near = np.zeros(len(length), dtype=bool)
    for start in range(0, len(length), ROWS_AT_ONCE):
        pairs = (rare[start : start + ROWS_AT_ONCE] @ items_of_word).tocoo()
        first, second = pairs.row + start, pairs.col
        first, second = first[first < second], second[first < second]
        is_near = jaccard(first, second, words) >= SIMILAR_WORDS
        near[first[is_near]] = near[second[is_near]] = True
    return near


def click_log_of(split: Split) -> ClickLog:
    """Return facts about the test impressions of a click log."""
    log = split.impressions(TEST)
    listed, offsets = log.shown()
    clicked = log.clicked()
    place = np.arange(len(listed)) - np.repeat(offsets[:-1], np.diff(offsets))
    relative = place / np.repeat(np.maximum(1, np.diff(offsets) - 1), np.diff(offsets))
    counted = clicked & np.repeat(np.diff(offsets) > 1, np.diff(offsets))
    by_user = crossed.means_by_user([relative[counted]], np.repeat(log.user, np.diff(offsets))[counted])
    click_place = crossed.mean(by_user)
    return ClickLog(
        impressions=len(log),
        without_history=float((log.history_length == 0).mean()),
        shown=float(log.n_shown.mean()),
        clicks=float(log.n_clicks.mean()),
        unseen_clicks=float((~split.seen_in_training())[listed[clicked]].mean()),
        click_place=click_place.value,
        click_place_interval=click_place.interval(),
    )
