"""The codes by which a model names items: as made here, or read from a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from llm4rec_cli.data.recdataset import IntArray, RecDataset
from llm4rec_cli.data.streams import stream

END = -1  # fills the places after the last code of a shorter id


@dataclass(frozen=True)
class ItemIds:
    """The ids of all items, which several items may share.

    Attributes:
        codes: (n_items, levels), each from 0 on at its own level; END after the last code of a shorter id.
        parallel: whether a code means the same whatever the codes before it. Otherwise it refines these.
        numbers_last: whether an item's last code only tells it from others, and so means nothing.
    """

    codes: IntArray
    parallel: bool = False
    numbers_last: bool = False

    @property
    def sizes(self) -> list[int]:
        """Return the number of codes to choose from at each level."""
        return [int(level.max()) + 1 for level in self.codes.T]

    @cached_property
    def distinct(self) -> tuple[IntArray, IntArray]:
        """The distinct ids (n, levels), and the place of each item's id among them (n_items,)."""
        ids, place = np.unique(self.codes, axis=0, return_inverse=True)
        return ids, place.reshape(-1)

    @cached_property
    def group_sizes(self) -> IntArray:
        """(n_items,) how many items have each item's id."""
        place = self.distinct[1]
        return np.bincount(place)[place]

    def separated(self, seed: int) -> ItemIds:
        """Return ids with a last code that numbers the items of equal ids at random; without equal ids, these."""
        if self.group_sizes.max() == 1:
            return self
        place = self.distinct[1]
        order = np.lexsort((stream(seed, "extra code").permutation(len(place)), place))
        first = np.concatenate([[0], np.cumsum(np.bincount(place))[:-1]])
        number = np.empty(len(place), dtype=np.int64)
        number[order] = np.arange(len(place)) - first[place[order]]
        return ItemIds(np.column_stack([self.codes, number]), self.parallel, numbers_last=True)

    def to_json(self, dataset: RecDataset) -> str:
        """Return a JSON object, raw item id -> codes, as `ids.kind=file` reads it."""
        raw = dataset.items["item_id"]
        rows = (
            f"{json.dumps(str(item))}: {row[row != END].tolist()}" for item, row in zip(raw, self.codes, strict=True)
        )
        return "{\n" + ",\n".join(rows) + "\n}\n"


def from_pieces(items: Sequence[Sequence[str]], numbers_last: bool = False) -> ItemIds:
    """Return ids given as texts: at each level, distinct texts are numbered in the order of items."""
    codes = np.full((len(items), max(map(len, items))), END, dtype=np.int64)
    for level in range(codes.shape[1]):
        number: dict[str, int] = {}
        for item, pieces in enumerate(items):
            if level < len(pieces):
                codes[item, level] = number.setdefault(pieces[level], len(number))
    return ItemIds(codes, numbers_last=numbers_last)
