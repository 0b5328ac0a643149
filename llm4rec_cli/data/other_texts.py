"""Held-out texts of other users about the same item, and of the same user about other items."""

from __future__ import annotations

import numpy as np

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.data.streams import stream

DRAWN = 5  # texts at most per example and kind


def other_rows(split: Split, examples: Examples, column: str) -> tuple[list[IntArray], list[IntArray]]:
    """Return for each example the rows of at most DRAWN texts of other users about its item, and of its user about
    other items.

    Both are drawn by `dataset.seed` from the validation and test interactions with a text; for validation examples,
    from those of validation. No model was trained on them or on the example's own text. So a model that knows nothing
    of the user is as likely to come near one as the other, which a training text would not ensure: models repeat those.
    """
    assignment = split.assignment
    held_out = (assignment != TRAIN) & (assignment <= assignment[examples.row].max(initial=TRAIN))
    rows = np.flatnonzero(held_out & split.dataset.has_value(column))
    user, item = (split.dataset.interactions[name].to_numpy() for name in ("user", "item"))
    return _draw(split, rows, item, user, examples, "other texts of the item"), _draw(
        split, rows, user, item, examples, "other texts of the user"
    )


def other_texts(split: Split, examples: Examples, column: str) -> tuple[list[list[str]], list[list[str]]]:
    """Return the texts in the rows of `other_rows`."""
    texts = split.dataset.interactions[column].to_numpy()
    of_item, of_user = ([texts[rows].tolist() for rows in drawn] for drawn in other_rows(split, examples, column))
    return of_item, of_user


def _draw(
    split: Split, rows: IntArray, same: IntArray, other: IntArray, examples: Examples, name: str
) -> list[IntArray]:
    """Return at most DRAWN of the rows with the example's value of `same` and another value of `other`."""
    rows = rows[np.argsort(same[rows], kind="stable")]
    first, last = (np.searchsorted(same[rows], same[examples.row], side) for side in ("left", "right"))
    drawn = []
    for row, start, end in zip(examples.row, first, last, strict=True):
        others = rows[start:end][other[rows[start:end]] != other[row]]
        drawn.append(stream(split.dataset.seed, name, int(row)).permutation(others)[:DRAWN])
    return drawn
