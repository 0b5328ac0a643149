"""Prompt4NR's training rows: each click, and items that were not clicked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from llm4rec_cli.data.examples import Histories, IntArray
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.prompt4nr.config import Draw, Loss, Prompt4NRConfig
from llm4rec_cli.models.prompt4nr.sequences import Filler, packed


@dataclass(frozen=True)
class Clicks(Histories):
    """n clicks, each with the history before it.

    Attributes:
        user, sequence, start, end: as in `Histories`.
        item: (n,) what was clicked.
        others: flat item numbers that `first` and `last` point into.
        first, last: (n,) what could have been clicked and was not is others[first:last]; of a shop, what the user's
            training part holds, and so cannot be drawn.
        n_items: of a shop, the size of the catalogue that negatives are drawn from; None = they are drawn from others.
    """

    user: IntArray
    sequence: IntArray
    start: IntArray
    end: IntArray
    item: IntArray
    others: IntArray
    first: IntArray
    last: IntArray
    n_items: int | None

    def __getitem__(self, index: IntArray) -> Clicks:
        """Those clicks only."""
        own = ("user", "start", "end", "item", "first", "last")
        return replace(self, **{name: getattr(self, name)[index] for name in own})

    def negatives(self, i: int, k: int, rng: np.random.Generator) -> IntArray:
        """(k,) items that were not clicked; distinct ones where there are so many."""
        others = self.others[self.first[i] : self.last[i]]
        if self.n_items is None:
            return rng.choice(others, size=k, replace=len(others) < k)
        if self.n_items < 2 * (len(others) + k):  # drawing until k fit would not end soon
            left = np.setdiff1d(np.arange(self.n_items), others)
            return rng.choice(left, size=k, replace=len(left) < k)
        drawn: list[int] = []
        while len(drawn) < k:
            found = int(rng.integers(self.n_items))
            if found not in others and found not in drawn:
                drawn.append(found)
        return np.array(drawn)


def clicks_of(split: Split) -> Clicks:
    """The clicks of the training part: of a click log those on impressions where something was not clicked; of a shop
    every interaction that has a history."""
    return _of_impressions(split) if split.impression_assignment is not None else _of_sequences(split)


def _of_impressions(split: Split) -> Clicks:
    trained = split.impressions(TRAIN)
    items, offsets = trained.shown()
    clicked = trained.clicked()
    left = np.concatenate([[0], np.cumsum(~clicked)])[offsets]
    impression = np.repeat(np.arange(len(trained)), np.diff(offsets))
    of = impression[clicked]
    kept = np.flatnonzero(np.diff(left)[of] > 0)
    of = of[kept]
    return Clicks(
        trained.user[of],
        trained.sequence,
        trained.start[of],
        trained.end[of],
        items[clicked][kept],
        items[~clicked],
        left[of],
        left[of + 1],
        None,
    )


def _of_sequences(split: Split) -> Clicks:
    flat, offsets = split.train_sequences()
    user = np.repeat(np.arange(split.n_users), np.diff(offsets))
    place = np.arange(len(flat))
    kept = np.flatnonzero(place > offsets[user])
    user, place = user[kept], place[kept]
    return Clicks(user, flat, offsets[user], place, flat[place], flat, offsets[user], offsets[user + 1], split.n_items)


class ClickRows:
    """A row is a click with its negatives that compete with it, or, pointwise, one of these alone.

    Negatives are drawn by (seed, epoch, click); with `draw=fixed` by (seed, click), so they are the same in all epochs.
    """

    def __init__(self, config: Prompt4NRConfig, clicks: Clicks, filler: Filler, seed: int) -> None:
        self.config, self.clicks, self.filler, self.seed = config, clicks, filler, seed
        self.group = 1 + config.negatives

    def __len__(self) -> int:
        return len(self.clicks) * (self.group if self.config.loss is Loss.pointwise else 1)

    def batch(self, epoch: int, indices: list[int]) -> dict[str, Tensor]:
        """The filled templates, as `Prompt4NR.forward` takes them.

        `is_click` (n,) bool tells which are about a click; listwise, each is followed by its negatives.
        """
        rows = np.array(indices)
        if self.config.loss is Loss.pointwise:
            click, which = rows // self.group, rows % self.group
            items = np.array([self._group(epoch, int(i))[j] for i, j in zip(click, which, strict=True)])
        else:
            click, which = np.repeat(rows, self.group), np.tile(np.arange(self.group), len(rows))
            items = np.concatenate([self._group(epoch, int(i)) for i in rows])
        of, user = np.unique(click, return_inverse=True)
        filled = self.filler.fill(self.filler.histories(self.clicks[of]), user, items)
        return {
            "places": torch.from_numpy(filled.mask),
            "is_click": torch.from_numpy(which == 0),
            **packed(filled.tokens),
        }

    def _group(self, epoch: int, click: int) -> IntArray:
        key = (epoch, click) if self.config.draw is Draw.fresh else (click,)
        rng = stream(self.seed, "clicks' negatives", *key)
        negatives = self.clicks.negatives(click, self.config.negatives, rng)
        return np.concatenate([[self.clicks.item[click]], negatives])
