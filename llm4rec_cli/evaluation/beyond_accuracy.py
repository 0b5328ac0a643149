"""What accuracy hides: how much of the catalogue is ever recommended, how rare, how various and how like the history
that is, and for which targets the hits are."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

IntArray = NDArray[np.integer[Any]]
FloatArray = NDArray[np.floating[Any]]

NOTHING = -1  # in lists of items that are shorter than others
PAIRS_AT_ONCE = 1 << 18  # of titles that are compared

FREQUENCY_BUCKETS = {"0": 0, "1-4": 1, "5-9": 5, "10-19": 10, "20+": 20}  # name -> least count


def coverage(top_items: IntArray, n_items: int) -> float:
    """The share of the catalogue that is recommended to anyone.

    Args:
        top_items: (n, k) item numbers, the best k of each example.
        n_items: size of the catalogue.
    """
    return len(np.unique(top_items)) / n_items


def novelty(top_items: IntArray, train_count: IntArray) -> FloatArray:
    """How rarely chosen the items of each list are: the mean of -log2 of their shares of the training interactions.

    Args:
        top_items: (n, k) item numbers; NOTHING where a list is shorter.
        train_count: (n_items,) training interactions of each item. One never seen there is as novel as one seen once.

    Returns:
        (n,) bits; NaN for an empty list.
    """
    bits = -np.log2(np.maximum(train_count, 1) / train_count.sum())
    return _mean(bits[top_items], top_items != NOTHING)


def title_words(titles: Sequence[str]) -> csr_array:
    """(n_items, n_words) the different words of each title as ones: runs of letters and digits in lower case.

    Args:
        titles: one an item, at least one of them with a word.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(binary=True, token_pattern=r"\w+", preprocessor=_lower, dtype=np.float32)
    return csr_array(vectorizer.fit_transform(titles))


def _lower(title: str) -> str:
    return html.unescape(title).lower()


def intra_list_diversity(top_items: IntArray, words: csr_array) -> FloatArray:
    """How different the titles of each list are: one less the mean Jaccard index of the words of any two of them.

    Args:
        top_items: (n, k) item numbers; NOTHING where a list is shorter.
        words: (n_items, n_words) as of `title_words`.

    Returns:
        (n,) values in [0, 1]; NaN for a list of less than two items.
    """
    total, n_pairs = np.zeros(len(top_items)), np.zeros(len(top_items), dtype=np.int64)
    for apart in range(1, top_items.shape[1]):
        first, second = top_items[:, :-apart], top_items[:, apart:]
        pairs = (first != NOTHING) & (second != NOTHING)
        total += np.where(pairs, jaccard(first, second, words), 0).sum(axis=1)
        n_pairs += pairs.sum(axis=1)
    return 1 - _ratio(total, n_pairs)


def title_similarity(
    top_items: IntArray, histories: tuple[IntArray, IntArray], target: IntArray, words: csr_array
) -> tuple[FloatArray, FloatArray]:
    """How close recommended titles are to the history, and beside it how close the target is.

    An item is as close as the history's title that is most like it, by the Jaccard index of their words. Whoever
    recommends by the sound of titles needs one that is like, not many, and a mean over the history would tell of its
    length and variety. Long histories are closer to anything, the target too: the bias is the difference of the two.

    Args:
        top_items: (n, k) item numbers; NOTHING where a list is shorter.
        histories: flat item numbers and (n + 1,) offsets, as of `Examples.histories`.
        target: (n,) item numbers.
        words: (n_items, n_words) as of `title_words`.

    Returns:
        (n,) means over each list, NaN for an empty one, and (n,) of the target; both in [0, 1], NaN without a history.
    """
    flat, offsets = histories
    columns = np.column_stack([top_items, target])
    length = np.diff(offsets)
    known = np.flatnonzero(length)  # rows with a history
    row = np.repeat(np.arange(len(target)), length)
    closest = np.full(columns.shape, np.nan)
    for rank in range(columns.shape[1]):
        closest[known, rank] = np.maximum.reduceat(jaccard(columns[row, rank], flat, words), offsets[known])
    return _mean(closest[:, :-1], top_items != NOTHING), closest[:, -1]


def jaccard(first: IntArray, second: IntArray, words: csr_array) -> FloatArray:
    """The share of the words of two titles that is common to both; 0 where neither has one.

    Args:
        first, second: item numbers, of one shape.
        words: (n_items, n_words) as of `title_words`.

    Returns:
        values in [0, 1], of the same shape.
    """
    n_words = words.sum(axis=1)
    n_common = np.empty(first.size)
    left, right = first.ravel(), second.ravel()
    for start in range(0, first.size, PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        n_common[part] = words[left[part]].multiply(words[right[part]]).sum(axis=1)
    n_either = n_words[left] + n_words[right] - n_common
    return (n_common / np.maximum(n_either, 1)).reshape(first.shape)


def _mean(values: FloatArray, counted: NDArray[np.bool_]) -> FloatArray:
    """(n,) means of those values of each row that are counted; NaN where none is."""
    return _ratio(np.where(counted, values, 0).sum(axis=1), counted.sum(axis=1))


def _ratio(total: FloatArray, n: IntArray) -> FloatArray:
    return np.divide(total, n, out=np.full(len(total), np.nan), where=n > 0)


def by_frequency(values: Mapping[str, NDArray[np.floating[Any]]], train_count: IntArray) -> dict[str, dict[str, float]]:
    """Means by how often the target occurs in training; targets never seen there stand apart.

    Args:
        values: (n,) values a metric, one an example.
        train_count: (n,) training interactions of each example's target.

    Returns:
        For each bucket that has examples, in order: `n`, and the mean of each metric.
    """
    return by_group(values, frequency_groups(train_count))


def frequency_groups(train_count: IntArray) -> dict[str, NDArray[np.bool_]]:
    """(n,) which examples are in each bucket, of (n,) training interactions of each example's target."""
    bucket = np.searchsorted(list(FREQUENCY_BUCKETS.values()), train_count, side="right") - 1
    return {name: bucket == i for i, name in enumerate(FREQUENCY_BUCKETS)}


def by_group(
    values: Mapping[str, NDArray[np.floating[Any]]], groups: Mapping[str, NDArray[np.bool_]]
) -> dict[str, dict[str, float]]:
    """Means of groups of examples.

    Args:
        values: (n,) values a metric, one an example.
        groups: (n,) which examples are in each.

    Returns:
        For each group that has examples, in order: `n`, and the mean of each metric.
    """
    return {
        name: {"n": int(inside.sum()), **{m: float(v[inside].mean()) for m, v in values.items()}}
        for name, inside in groups.items()
        if inside.any()
    }


def by_group_of_sums(
    columns: Mapping[str, NDArray[np.floating[Any]]],
    metrics: Callable[[Mapping[str, NDArray[np.floating[Any]]]], Mapping[str, NDArray[np.floating[Any]]]],
    groups: Mapping[str, NDArray[np.bool_]],
) -> dict[str, dict[str, float]]:
    """What is computed of sums over examples, in groups of them.

    Args:
        columns, metrics: as of `bootstrap.bootstrap_of_sums`.
        groups: (n,) which examples are in each.

    Returns:
        For each group that has examples, in order: `n`, and each metric.
    """
    return {
        name: {
            "n": int(inside.sum()),
            **{m: float(v) for m, v in metrics({c: of[inside].sum() for c, of in columns.items()}).items()},
        }
        for name, inside in groups.items()
        if inside.any()
    }
