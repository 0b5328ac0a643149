"""Ranks, first places and agreement, against values worked out by hand and against the library."""

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llm4rec_studies.human.agreement import Estimate, Scale, first_places, krippendorff_alpha, ranks, system_results

SKIPPED = [np.nan] * 3
# Two raters, two examples, three systems; the second rater skipped the second example.
SCORES = np.array([[[5, 3, 3], [1, 4, 2]], [[4, 4, 1], SKIPPED]], dtype=float)


def results(ratings, scale=Scale.score):
    return system_results(np.asarray(ratings, dtype=float), scale, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("function", "given", "scale", "expected"),
    [
        (ranks, [5, 3, 3], Scale.score, [1, 2.5, 2.5]),  # ties share the mean of their ranks
        (ranks, [4, 4, 1], Scale.score, [1.5, 1.5, 3]),
        (ranks, [2, 2, 2], Scale.score, [2, 2, 2]),
        (ranks, [3, 1, 2], Scale.rank, [3, 1, 2]),
        (ranks, [1, 2, 1], Scale.rank, [1.5, 3, 1.5]),  # a text of two systems is a tie
        (first_places, [5, 3, 3], Scale.score, [1, 0, 0]),
        (first_places, [4, 4, 1], Scale.score, [0.5, 0.5, 0]),
        (first_places, [2, 1, 3], Scale.rank, [0, 1, 0]),
    ],
)
def test_ties_share_ranks_and_first_places(function, given, scale, expected):
    assert function(np.array(given, float), scale).tolist() == expected


def test_each_example_counts_once_with_the_mean_over_its_raters():
    first, second, third = results(SCORES)
    # Ranks of the first example: 1, 2.5, 2.5 and 1.5, 1.5, 3, so on average 1.25, 2, 2.75; of the second: 3, 1, 2.
    assert [s.mean_rank.mean for s in (first, second, third)] == pytest.approx([2.125, 1.5, 2.375])
    assert [s.first.mean for s in (first, second, third)] == pytest.approx([0.375, 0.625, 0])
    assert [s.mean_score.mean for s in (first, second, third)] == pytest.approx([2.75, 3.75, 2])


def test_an_example_that_nobody_judged_does_not_count():
    with_empty = np.concatenate([SCORES, np.full((2, 1, 3), np.nan)], axis=1)
    assert results(with_empty) == results(SCORES)


def test_ranks_give_no_mean_score():
    assert [s.mean_score for s in results([[[1, 2]]], Scale.rank)] == [None, None]


def test_the_interval_is_over_examples():
    equal = results([[[5, 1]] * 10, [[4, 2]] * 10])  # raters differ, examples do not
    assert equal[0].mean_score == Estimate(4.5, (4.5, 4.5))
    (first, _) = results([[[5, 1], [1, 5]] * 25])
    low, high = first.first.interval
    assert (low, high) == pytest.approx((0.5 - 0.14, 0.5 + 0.14), abs=0.03)  # 1.96 · sqrt(0.25 / 50)


@given(scores=arrays(float, (3, 5, 4), elements=st.integers(1, 5).map(float)))
def test_ranks_sum_to_the_same_and_first_places_to_one(scores):
    assert ranks(scores, Scale.score).sum(axis=-1) == pytest.approx(10)
    assert first_places(scores, Scale.score).sum(axis=-1) == pytest.approx(1)


@given(scores=arrays(float, (2, 6, 3), elements=st.integers(1, 5).map(float)))
def test_scores_and_the_ranks_made_of_them_give_the_same_results(scores):
    by_rank = results(ranks(scores, Scale.score), Scale.rank)
    for scored, ranked in zip(results(scores), by_rank, strict=True):
        assert (scored.mean_rank, scored.first) == (ranked.mean_rank, ranked.first)


# ---- agreement


def test_alpha_by_hand():
    # Two raters, three texts: 1 1, 1 2, 2 2. Of the six values three are 1 and three are 2; of two values the ordinal
    # distance is one number, which cancels. Observed: 2 of 6 pairs differ; expected: 2 · 3 · 3 / 5 of 6.
    ratings = np.array([[1, 1, 2], [1, 2, 2]], dtype=float)
    assert krippendorff_alpha(ratings) == pytest.approx(1 - (2 / 6) / (18 / 5 / 6))


def test_alpha_is_ordinal():
    # The raters swap two values, neighbours or the ends: on a nominal scale both would be the same.
    near = np.array([[1, 2, 3, 4, 5], [2, 1, 3, 4, 5]], dtype=float)
    far = np.array([[1, 2, 3, 4, 5], [5, 2, 3, 4, 1]], dtype=float)
    assert krippendorff_alpha(near) > krippendorff_alpha(far)


def test_alpha_with_missing_values_equals_the_librarys():
    # The example of Krippendorff (2011), "Computing Krippendorff's alpha-reliability": 0.815 on an ordinal scale.
    x = np.nan
    ratings = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, x, x, x],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, x, 3],
        [x, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, x],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, x],
    ]
    alpha = krippendorff_alpha(np.array(ratings))
    assert alpha == pytest.approx(0.815, abs=5e-4)
    assert alpha == pytest.approx(krippendorff.alpha(ratings, level_of_measurement="ordinal"))


def test_perfect_agreement_is_one():
    assert krippendorff_alpha(np.array([[1, 3, 5], [1, 3, 5]], dtype=float)) == pytest.approx(1)


@pytest.mark.parametrize(
    "ratings",
    [
        [[1, 2, 3]],  # one rater
        [[1, 2, np.nan], [np.nan, np.nan, 3]],  # no text has two raters
        [[2, 2, 2], [2, 2, 2]],  # nothing varies
        [[2, 2, 5], [2, 2, np.nan]],  # nor in texts with two raters
        [[np.nan] * 3] * 2,
    ],
)
def test_undefined_alpha_is_none(ratings):
    assert krippendorff_alpha(np.array(ratings, dtype=float)) is None
