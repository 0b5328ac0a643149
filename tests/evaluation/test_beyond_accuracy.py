import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llm4rec_cli.evaluation import beyond_accuracy
from llm4rec_cli.evaluation.beyond_accuracy import (
    PADDING,
    by_group,
    by_group_of_sums,
    coverage,
    frequency_groups,
    intra_list_diversity,
    jaccard,
    novelty,
    title_similarity,
    title_words,
)

TITLES = ["Red Hair Dye", "red hair BRUSH", "Tom &amp; Huck", "", "dye; red, red hair", "Amélie"]
WORDS = title_words(TITLES)


def test_coverage_counts_each_item_once():
    assert coverage(np.array([[0, 1], [1, 2]]), n_items=12) == 0.25


def test_values_are_averaged_by_how_often_the_target_was_seen():
    values = {"hr@10": np.array([0.0, 1.0, 0.0, 1.0, 1.0])}
    assert by_group(values, frequency_groups(np.array([0, 1, 4, 19, 2000]))) == {
        "0": {"n": 1, "hr@10": 0.0},
        "1-4": {"n": 2, "hr@10": 0.5},
        "10-19": {"n": 1, "hr@10": 1.0},
        "20+": {"n": 1, "hr@10": 1.0},
    }


def test_what_is_computed_of_sums_is_computed_in_each_group():
    columns = {"square": np.array([1.0, 9.0, 16.0]), "n": np.ones(3)}
    groups = {"odd": np.array([True, True, False]), "none": np.zeros(3, bool), "even": np.array([False, False, True])}
    result = by_group_of_sums(columns, lambda sums: {"rms": np.sqrt(sums["square"] / sums["n"])}, groups)
    assert result == {"odd": {"n": 2, "rms": 5**0.5}, "even": {"n": 1, "rms": 4.0}}


def test_novelty_is_the_mean_surprise_at_the_items_of_a_list():
    train_count = np.array([8, 4, 2, 1, 1, 0])  # shares 1/2, 1/4, 1/8, 1/16, 1/16
    top_items = np.array([[0, 1], [2, 3], [1, PADDING], [PADDING, PADDING]])
    assert novelty(top_items, train_count) == pytest.approx([1.5, 3.5, 2, np.nan], nan_ok=True)


def test_an_item_never_seen_in_training_is_as_novel_as_one_seen_once():
    assert novelty(np.array([[0], [1]]), np.array([0, 1, 7])).tolist() == [3, 3]


def test_titles_are_compared_by_their_different_words_in_lower_case():
    assert jaccard(np.array([0, 0, 0, 2, 3]), np.array([1, 4, 2, 2, 3]), WORDS) == pytest.approx([2 / 4, 1, 0, 1, 0])
    assert WORDS.sum(axis=1).tolist() == [3, 3, 2, 0, 3, 1]


def test_pairs_are_compared_a_block_at_a_time(monkeypatch):
    first, second = np.divmod(np.arange(36), 6)
    at_once = jaccard(first, second, WORDS)
    monkeypatch.setattr(beyond_accuracy, "WORDS_AT_ONCE", 5)
    assert jaccard(first, second, WORDS).tolist() == at_once.tolist()


def naive_jaccard(one, other):
    common, either = naive_words[one] & naive_words[other], naive_words[one] | naive_words[other]
    return len(common) / len(either) if either else 0.0


naive_words = [
    {"red", "hair", "dye"},
    {"red", "hair", "brush"},
    {"tom", "huck"},
    set(),
    {"dye", "red", "hair"},
    {"amélie"},
]
lists = arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=st.integers(PADDING, 5))


@given(lists)
def test_diversity_is_that_of_a_naive_reference(top_items):
    for items, diversity in zip(top_items, intra_list_diversity(top_items, WORDS), strict=True):
        known = [item for item in items if item != PADDING]
        pairs = [naive_jaccard(a, b) for i, a in enumerate(known) for b in known[:i]]
        assert diversity == pytest.approx(1 - np.mean(pairs) if pairs else np.nan, nan_ok=True)


@given(lists, st.data())
def test_closeness_is_that_of_a_naive_reference(top_items, data):
    n, item = len(top_items), st.integers(0, 5)
    histories = data.draw(st.lists(st.lists(item, max_size=4), min_size=n, max_size=n))
    target = np.array(data.draw(st.lists(item, min_size=n, max_size=n)))
    flat = np.array([item for history in histories for item in history], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, histories)])
    recommended, of_target = title_similarity(top_items, (flat, offsets), target, WORDS)
    for i, history in enumerate(histories):
        nearest = [max((naive_jaccard(a, b) for b in history), default=np.nan) for a in top_items[i] if a != PADDING]
        assert recommended[i] == pytest.approx(np.mean(nearest) if nearest else np.nan, nan_ok=True)
        assert of_target[i] == pytest.approx(
            max((naive_jaccard(target[i], b) for b in history), default=np.nan), nan_ok=True
        )
