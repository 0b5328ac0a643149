"""Metrics beyond accuracy: coverage of the catalogue, novelty, diversity within lists, similarity of titles to the
history, and metrics by groups of examples."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from llm4rec_cli.evaluation.bootstrap import FloatArray, MetricsOfSums

IntArray = NDArray[np.integer[Any]]

PADDING = -1  # fills lists of items that are shorter than others
WORDS_AT_ONCE = 1 << 22  # of the pairs of titles that are compared at once: about 100 MB

FREQUENCY_BUCKETS = {"0": 0, "1-4": 1, "5-9": 5, "10-19": 10, "20+": 20}  # name -> lowest count


def coverage(top_items: IntArray, n_items: int) -> float:
    """Return the share of the catalogue that is recommended to anyone, from (n, k) item numbers."""
    return len(np.unique(top_items)) / n_items


def novelty(top_items: IntArray, train_count: IntArray) -> FloatArray:
    """Return (n,) the mean self-information of each list in bits: -log2 of its items' shares of the training
    interactions; NaN for an empty list.

    Args:
        top_items: (n, k) item numbers; PADDING where a list is shorter.
        train_count: (n_items,) training interactions of each item. An unseen item counts as seen once.
    """
    bits = -np.log2(np.maximum(train_count, 1) / train_count.sum())
    return _mean(bits[top_items], top_items != PADDING)


def title_words(titles: Sequence[str]) -> csr_array:
    """Return (n_items, n_words) ones for the distinct words of each title: runs of letters and digits in lower case. At
    least one title must have a word."""
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(
        binary=True, token_pattern=r"\w+", preprocessor=lambda title: html.unescape(title).lower(), dtype=np.float32
    )
    return csr_array(vectorizer.fit_transform(titles))


def intra_list_diversity(top_items: IntArray, words: csr_array) -> FloatArray:
    """Return (n,) 1 minus the mean Jaccard index of the words of each pair of titles in a list; NaN for fewer than two
    items.

    Args:
        top_items: (n, k) item numbers; PADDING where a list is shorter.
        words: (n_items, n_words) from `title_words`.
    """
    total, n_pairs = np.zeros(len(top_items)), np.zeros(len(top_items), dtype=np.int64)
    for distance in range(1, top_items.shape[1]):
        first, second = top_items[:, :-distance], top_items[:, distance:]
        pairs = (first != PADDING) & (second != PADDING)
        total += np.where(pairs, jaccard(first, second, words), 0).sum(axis=1)
        n_pairs += pairs.sum(axis=1)
    return 1 - _ratio(total, n_pairs)


def title_similarity(
    top_items: IntArray, histories: tuple[IntArray, IntArray], target: IntArray, words: csr_array
) -> tuple[FloatArray, FloatArray]:
    """Return the similarity to the history of the recommended titles and, for comparison, of the target.

    An item's similarity is its highest Jaccard index of title words with any title of the history: one similar title is
    enough to recommend by words, and a mean would depend on the history's length and variety. Long histories are closer
    to any item, the target included, so the bias is the difference of the two values.

    Args:
        top_items: (n, k) item numbers; PADDING where a list is shorter.
        histories: flat item numbers and (n + 1,) offsets, from `Examples.histories`.
        target: (n,) item numbers.

    Returns:
        (n,) means over each list, NaN for an empty list, and (n,) of the target; NaN without a history.
    """
    flat, offsets = histories
    columns = np.column_stack([top_items, target])
    length = np.diff(offsets)
    with_history = np.flatnonzero(length)
    row = np.repeat(np.arange(len(target)), length)
    closest = np.full(columns.shape, np.nan)
    for rank in range(columns.shape[1]):
        similarity = jaccard(columns[row, rank], flat, words)
        closest[with_history, rank] = np.maximum.reduceat(similarity, offsets[with_history])
    return _mean(closest[:, :-1], top_items != PADDING), closest[:, -1]


def jaccard(first: IntArray, second: IntArray, words: csr_array) -> FloatArray:
    """Return the Jaccard index of the words of two titles; 0 where neither has a word.

    Args:
        first, second: item numbers, of the shape that is returned.
        words: (n_items, n_words) from `title_words`.
    """
    n_words = words.sum(axis=1)
    n_common = np.empty(first.size)
    left, right = first.ravel(), second.ravel()
    step = max(1, WORDS_AT_ONCE // max(1, int(n_words.max())))
    for start in range(0, first.size, step):
        block = slice(start, start + step)
        n_common[block] = words[left[block]].multiply(words[right[block]]).sum(axis=1)
    n_either = n_words[left] + n_words[right] - n_common
    return (n_common / np.maximum(n_either, 1)).reshape(first.shape)


def _mean(values: FloatArray, counted: NDArray[np.bool_]) -> FloatArray:
    """Return (n,) means of the counted values of each row; NaN for rows without any."""
    return _ratio(np.where(counted, values, 0).sum(axis=1), counted.sum(axis=1))


def _ratio(total: FloatArray, n: IntArray) -> FloatArray:
    return np.divide(total, n, out=np.full(len(total), np.nan), where=n > 0)


def frequency_groups(train_count: IntArray) -> dict[str, NDArray[np.bool_]]:
    """Return (n,) which examples are in each bucket of the target's frequency in training; unseen ones have their
    own."""
    bucket = np.searchsorted(list(FREQUENCY_BUCKETS.values()), train_count, side="right") - 1
    return {name: bucket == i for i, name in enumerate(FREQUENCY_BUCKETS)}


def by_group(values: Mapping[str, FloatArray], groups: Mapping[str, NDArray[np.bool_]]) -> dict[str, dict[str, float]]:
    """Return `n` and the mean of each metric over each group that has examples, in order. All values have shape
    (n,)."""
    return {
        name: {"n": int(inside.sum()), **{m: float(v[inside].mean()) for m, v in values.items()}}
        for name, inside in groups.items()
        if inside.any()
    }


def by_group_of_sums(
    columns: Mapping[str, FloatArray], metrics: MetricsOfSums, groups: Mapping[str, NDArray[np.bool_]]
) -> dict[str, dict[str, float]]:
    """Return as `by_group` does, of metrics that are functions of sums over examples
    (`bootstrap.bootstrap_of_sums`)."""
    return {
        name: {"n": int(inside.sum()), **of_sums({c: column[inside] for c, column in columns.items()}, metrics)}
        for name, inside in groups.items()
        if inside.any()
    }


def of_sums(columns: Mapping[str, FloatArray], metrics: MetricsOfSums) -> dict[str, float]:
    """Return metrics that are functions of sums over examples, as in `bootstrap.bootstrap_of_sums`."""
    return {name: float(value) for name, value in metrics({c: np.asarray(v.sum()) for c, v in columns.items()}).items()}
