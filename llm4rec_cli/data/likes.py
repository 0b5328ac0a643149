"""Likes and dislikes: ratings above and below a threshold, with the history of each as of its time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import UsageError


@dataclass(frozen=True)
class LabelledRows:
    """n interactions, and whether the user liked the item of each.

    Attributes:
        examples: with `liked`.
        label: (n,)
    """

    examples: Examples
    label: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, index: IntArray) -> LabelledRows:
        return LabelledRows(self.examples[index], self.label[index])


def rated(dataset: RecDataset) -> NDArray[np.float64]:
    """Return (n_interactions,) the users' ratings; NaN where there is none."""
    return dataset.interactions["rating"].to_numpy(dtype=np.float64)


def labelled_rows(split: Split, part: int, liked_above: float, history: int | None) -> LabelledRows:
    """Return the rated interactions of one part (TRAIN, VALID or TEST), each with the user's rated interactions before
    it as its history, at most the latest `history` ones; a user's first has none."""
    rating = rated(split.dataset)
    has_rating = ~np.isnan(rating)
    n_before = np.concatenate([[0], np.cumsum(has_rating)])
    row = np.flatnonzero((split.assignment == part) & has_rating)
    user = split.dataset.interactions["user"].to_numpy()[row]
    start, end = n_before[split.dataset.offsets[user]], n_before[row]
    if history is not None:
        start = np.maximum(start, end - history)
    liked = rating[has_rating] > liked_above
    target = split.dataset.sequence[row]
    examples = Examples(user, target, split.dataset.sequence[has_rating], start, end, row, liked=liked)
    return LabelledRows(examples, rating[row] > liked_above)


def shots(rows: LabelledRows, n: int | None, seed: int) -> LabelledRows:
    """Return n of the rows, in their order, drawn by the model's seed; all if n is None. With one seed, a larger draw
    includes a smaller one.

    Raises:
        UsageError: there are fewer.
    """
    if n is None:
        return rows
    if n > len(rows):
        raise UsageError(f"task.shots={n} draws from only {len(rows):,} training rows", f"task.shots={len(rows)}")
    return rows[np.sort(stream(seed, "shots").permutation(len(rows))[:n])]
