"""Clicks of the training part, and the items that each is contrasted with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llm4rec_cli.data.examples import Histories, IntArray
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.data.streams import stream


@dataclass(frozen=True)
class Clicks(Histories):
    """n clicks, each with the history before it.

    Attributes:
        user, sequence, start, end: as in `Histories`.
        item: (n,) the clicked items.
        others: flat item numbers that `first` and `last` index.
        first, last: (n,) others[first:last] are the items that a click's negatives come from: shown, but not clicked.
            Of interaction data they are the user's training items, which cannot be negatives.
        pool: None for impressions; for interaction data, the items that negatives come from: all that take part in
            training, so no held-out item.
    """

    user: IntArray
    sequence: IntArray
    start: IntArray
    end: IntArray
    item: IntArray
    others: IntArray
    first: IntArray
    last: IntArray
    pool: IntArray | None
    ROWS = ("user", "start", "end", "item", "first", "last")

    def with_negatives(self, i: int, k: int, seed: int, *epoch: int) -> IntArray:
        """Return (k + 1,) the clicked item and its negatives, drawn by (seed, epoch, click); without an epoch once for
        all."""
        return np.append(self.item[i], self.draw_negatives(i, k, stream(seed, "clicks' negatives", *epoch, i)))

    def draw_negatives(self, i: int, k: int, rng: np.random.Generator) -> IntArray:
        """Return (k,) items that were not clicked, distinct where there are at least k."""
        others = self.others[self.first[i] : self.last[i]]
        if self.pool is None:
            return rng.choice(others, size=k, replace=len(others) < k)
        if len(self.pool) < 2 * (len(others) + k):  # rejection sampling would take long
            allowed = np.setdiff1d(self.pool, others)
            return rng.choice(allowed, size=k, replace=len(allowed) < k)
        drawn: list[int] = []
        while len(drawn) < k:
            item = int(self.pool[rng.integers(len(self.pool))])
            if item not in others and item not in drawn:
                drawn.append(item)
        return np.array(drawn)


def training_clicks(split: Split) -> Clicks:
    """Return the training clicks. Impressions in which all items were clicked are skipped. In interaction data each
    interaction with a history is a click, unless its user has the whole catalogue."""
    return _impression_clicks(split) if split.impression_assignment is not None else _interaction_clicks(split)


def _impression_clicks(split: Split) -> Clicks:
    impressions = split.impressions(TRAIN)
    items, offsets = impressions.shown()
    clicked = impressions.clicked()
    not_clicked = np.concatenate([[0], np.cumsum(~clicked)])[offsets]  # offsets into the items that were not clicked
    impression = np.repeat(np.arange(len(impressions)), np.diff(offsets))[clicked]
    usable = np.flatnonzero(np.diff(not_clicked)[impression] > 0)
    impression = impression[usable]
    return Clicks(
        impressions.user[impression],
        impressions.sequence,
        impressions.start[impression],
        impressions.end[impression],
        items[clicked][usable],
        items[~clicked],
        not_clicked[impression],
        not_clicked[impression + 1],
        None,
    )


def _interaction_clicks(split: Split) -> Clicks:
    flat, offsets = split.train_sequences()
    user = np.repeat(np.arange(split.n_users), np.diff(offsets))
    place = np.arange(len(flat))
    items = split.softmax_items()
    pool = np.arange(split.n_items) if items is None else items
    n_own = np.bincount(np.unique(user * split.n_items + flat) // split.n_items, minlength=split.n_users)
    usable = np.flatnonzero((place > offsets[user]) & (n_own < len(pool))[user])
    user, place = user[usable], place[usable]
    return Clicks(user, flat, offsets[user], place, flat[place], flat, offsets[user], offsets[user + 1], pool)
