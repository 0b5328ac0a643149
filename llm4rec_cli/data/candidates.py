"""Sampled candidates: drawn once for a whole split, cached, and shared by every model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.config.schema import Candidates
from llm4rec_cli.data import store
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.recdataset import RecDataset
from llm4rec_cli.data.split import VALID, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError
from llm4rec_cli.files import write_once
from llm4rec_cli.progress import track

VERSION = 1  # raised when the same seed draws other candidates
SMOOTHING = 1.0  # added to each item's training count, so items unseen in training can be drawn too
_CELLS = 1 << 22  # entries of the largest matrix held at once


def with_candidates(
    examples: Examples, split: Split, kind: Candidates, negatives: int, seed: int, cache: Path, number: int = 0
) -> Examples:
    """Return the examples with sampled candidates: the target first, then distinct items new to the user.

    Candidates are drawn for the whole split and cached. They depend on the dataset, the split and the other arguments,
    not on which examples are passed, nor on what is held out of training.

    Args:
        examples: at least one, all of one split.
        kind: `full` returns the examples unchanged; `uniform` draws items with equal probability; `popularity` draws,
            without replacement, in proportion to training count + SMOOTHING.
        number: `task.draw`.

    Raises:
        DataError: the catalogue is too small for some user.
    """
    if kind is Candidates.full:
        return examples
    split = split.without_holdout()
    code = split.assignment[examples.row[0]]
    rows = np.flatnonzero(split.assignment == code)
    of_draw = f"-draw{number}" if number else ""
    name = f"{'valid' if code == VALID else 'test'}-{kind.value}-{negatives}-seed{seed}{of_draw}-v{VERSION}"
    dataset = store.dataset_folder(cache, split.dataset.manifest["name"], split.dataset.fingerprint)
    path = cache / "candidates" / f"{dataset.name}-{name}.npy"  # not in the dataset's folder: it is written once

    def draw(aside: Path) -> None:
        weight = split.train_counts() + SMOOTHING if kind is Candidates.popularity else np.ones(split.n_items)
        if examples.outside is not None:
            weight[examples.outside] = 0.0
        user = split.dataset.interactions["user"].to_numpy()[rows]
        drawn = _draw(split.dataset, user, weight, negatives, stream(seed, name))
        with aside.open("wb") as file:  # np.save would add .npy to another name
            np.save(file, np.column_stack([split.dataset.sequence[rows], drawn]), allow_pickle=False)

    write_once(path, draw)
    candidates = np.load(path)[np.searchsorted(rows, examples.row)]
    assert (candidates[:, 0] == examples.target).all(), f"{path} holds candidates of other interactions"
    return replace(examples, candidates=candidates)


def _draw(
    dataset: RecDataset, user: IntArray, weight: NDArray[np.floating], negatives: int, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Draw (n, negatives) distinct items for n users, in proportion to weight and outside each user's history."""
    n_items = dataset.n_items
    owned = np.unique(dataset.interactions["user"].to_numpy().astype(np.int64) * n_items + dataset.sequence)
    drawable = owned[weight[owned % n_items] > 0]
    n_drawable = np.count_nonzero(weight)
    fewest = n_drawable - int(np.bincount(drawable // n_items).max(initial=0))
    if fewest < negatives:
        raise DataError(
            f"{negatives} negatives cannot be drawn: one user has all but {fewest} of the {n_drawable} items",
            f"lower task.negatives to {fewest} at most, or choose task.candidates=full",
        )
    cumulative = np.cumsum(weight / weight.sum())
    drawn = np.full((len(user), negatives), -1, dtype=np.int32)
    chunk = max(1, _CELLS // max(n_items, 2 * negatives))
    for start in track(range(0, len(user), chunk), "drawing candidates"):
        rows = slice(start, start + chunk)
        drawn[rows] = _draw_with_replacement(user[rows].astype(np.int64), owned, cumulative, n_items, negatives, rng)
        short = start + np.flatnonzero(drawn[rows, -1] < 0)
        if len(short):
            drawn[short] = _fill(drawn[short], user[short].astype(np.int64), owned, weight, rng)
    return drawn


def _draw_with_replacement(
    user: IntArray,
    owned: IntArray,
    cumulative: NDArray[np.floating],
    n_items: int,
    negatives: int,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """Return (n, negatives) items, in rows that end with -1 where too few are new: draw with replacement and keep the
    first of each new item, which gives the same distribution as without replacement."""
    shape = (len(user), 2 * negatives)
    item = np.minimum(np.searchsorted(cumulative, rng.random(shape), side="right"), n_items - 1)
    is_new = ~_contains(owned, user[:, None] * n_items + item)
    order = np.argsort(item, axis=1, kind="stable")
    in_order = np.take_along_axis(item, order, axis=1)
    repeated = np.zeros(shape, dtype=bool)
    np.put_along_axis(repeated, order[:, 1:], in_order[:, 1:] == in_order[:, :-1], axis=1)
    is_new &= ~repeated
    first = np.argsort(~is_new, axis=1, kind="stable")[:, :negatives]
    return np.where(np.take_along_axis(is_new, first, axis=1), np.take_along_axis(item, first, axis=1), -1).astype(
        np.int32
    )


def _fill(
    drawn: NDArray[np.int32], user: IntArray, owned: IntArray, weight: NDArray[np.floating], rng: np.random.Generator
) -> NDArray[np.int32]:
    """Replace the -1 at the ends of rows by further draws from the same distribution.

    Sorting items by exponential arrival times with their weight as rate draws without replacement; owned and drawn
    items are excluded.
    """
    n, n_items = len(user), len(weight)
    with np.errstate(divide="ignore"):
        arrival = rng.exponential(size=(n, n_items)) / weight  # inf for an item that is never drawn
    arrival[_contains(owned, user[:, None] * n_items + np.arange(n_items))] = np.inf
    row, column = np.nonzero(drawn >= 0)
    arrival[row, drawn[row, column]] = np.inf
    earliest = np.argsort(arrival, axis=1)[:, : drawn.shape[1]]
    missing = np.cumsum(drawn < 0, axis=1) - 1
    return np.where(drawn < 0, np.take_along_axis(earliest, np.maximum(missing, 0), axis=1), drawn).astype(np.int32)


def _contains(sorted_keys: IntArray, keys: IntArray) -> NDArray[np.bool_]:
    """Return which keys are among the sorted ones."""
    place = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return sorted_keys[place] == keys
