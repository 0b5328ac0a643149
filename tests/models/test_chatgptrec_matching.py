"""Titles as chat models write them: which item is meant, and how that is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec_cli.models.chatgptrec.matching import How, Matcher

CATALOGUE = [
    "Matrix, The (1999)",  # 0
    "Sabrina (1954)",  # 1
    "Sabrina (1995)",  # 2
    "Die Hard",  # 3
    "Die Hard 2",  # 4
    "Rocky II",  # 5
    "Rocky III",  # 6
    "unknown product",  # 7
    "unknown product",  # 8
    "Tom &amp; Huck",  # 9
    "",  # 10
    "Olay Total Effects Moisturizer, 1.7 Fluid Ounce",  # 11
    "Olay Total Effects Moisturizer, 3.4 Fluid Ounce",  # 12
    "Heat",  # 13
    "Body Heat",  # 14
    "L'Oreal Paris Voluminous Mascara, Blackest Black",  # 15
    "heat",  # 16, another one
    "七人の侍",  # 17
]
NONE = -1


@pytest.fixture(scope="module")
def matcher():
    return Matcher(CATALOGUE, threshold=92)


def read(matcher, title):
    found = matcher.match([title])
    return int(found.items[0]), found.how[0]


@pytest.mark.parametrize(
    ("title", "item", "how"),
    [
        ("Matrix, The (1999)", 0, How.exact),
        ("The Matrix (1999)", 0, How.normalised),
        ("the matrix", 0, How.normalised),
        ("The Matrix 1999", 0, How.normalised),
        ("The Matrix (2003)", NONE, How.hallucinated),
        ("Sabrina (1995)", 2, How.exact),
        ("SABRINA (1995)", 2, How.normalised),
        ("Sabrinna (1995)", 2, How.fuzzy),
        ("Sabrinna", 1, How.fuzzy),  # of either year
        ("Saprina (1995)", NONE, How.hallucinated),  # a wrong letter in seven is much
        ("Tom & Huck", 9, How.normalised),
        ("七人の侍", 17, How.exact),
        ("L’Oréal Paris Voluminous Mascara - Blackest Black", 15, How.normalised),
        ("L'Oreal Paris Voluminos Mascara, Blackest Black", 15, How.fuzzy),
        ("Blackest Black L'Oreal Paris Voluminous Mascara", 15, How.fuzzy),
        ("L'Oreal Paris Voluminous Mascara, Black", 15, How.fuzzy),
        ("Olay Total Effects Moisturiser, 3.4 Fluid Ounce", 12, How.fuzzy),
        ("Olay Total Effects Moisturizer, 5 Fluid Ounce", NONE, How.hallucinated),
        ("Olay Total Effects Moisturizer", NONE, How.hallucinated),
        ("Die Hard 3", NONE, How.hallucinated),
        ("Rocky IV", NONE, How.hallucinated),
        ("Rocky", NONE, How.hallucinated),
        ("Heat of the Body", NONE, How.hallucinated),
        ("The Godfather", NONE, How.hallucinated),
        ("", NONE, How.hallucinated),
        ("?!", NONE, How.hallucinated),
    ],
)
def test_a_title_means_the_item_that_bears_it_or_a_like_one(matcher, title, item, how):
    assert read(matcher, title) == (item, how)


def test_likeness_is_100_for_equal_titles_and_0_for_those_of_no_item(matcher):
    found = matcher.match(
        ["Body Heat", "BODY HEAT!", "Blackest Black L'Oreal Paris Voluminous Mascara", "The Godfather"]
    )
    assert found.score.tolist() == [100, 100, 95, 0]  # 95: WRatio's discount for another order


def test_an_item_is_meant_once_and_then_again_is_a_duplicate(matcher):
    found = matcher.match(["Body Heat", "Body Heat", "body heat"])
    assert found.items.tolist() == [14, NONE, NONE]
    assert found.how == [How.exact, How.duplicate, How.duplicate]


def test_of_items_with_one_title_each_is_meant_in_turn(matcher):
    found = matcher.match(["unknown product"] * 3)
    assert found.items.tolist() == [7, 8, NONE]
    assert found.how == [How.exact, How.exact, How.duplicate]
    assert found.ties.tolist() == [2, 2, 2]


def test_items_that_are_equal_but_for_case_tie_where_the_case_is_another(matcher):
    found = matcher.match(["HEAT", "Heat"])
    assert found.items.tolist() == [16, 13]  # the exact one goes first, whatever its place
    assert found.ties.tolist() == [2, 1]


def test_without_a_year_the_items_of_all_years_tie(matcher):
    found = matcher.match(["Sabrina"])
    assert (found.items[0], found.how[0], found.ties[0]) == (1, How.normalised, 2)


def test_an_exact_title_is_not_taken_by_a_like_one_before_it(matcher):
    listed = ["L'Oreal Paris Voluminos Mascara, Blackest Black", CATALOGUE[15]]
    found = matcher.match(listed)
    assert found.items.tolist() == [NONE, 15]
    assert found.how == [How.duplicate, How.exact]


def test_only_candidates_are_meant_where_they_are_given(matcher):
    found = matcher.match(["Die Hard", "Body Heat", "unknown product", "Sabrina"], np.array([14, 8, 2]))
    assert found.items.tolist() == [NONE, 14, 8, 2]
    assert found.ties.tolist() == [0, 1, 1, 1]


def test_with_a_threshold_of_100_nothing_is_merely_alike():
    listed = ["Matrix, The (1999)", "the matrix", "Blackest Black L'Oreal Paris Voluminous Mascara", "Body  Heat"]
    found = Matcher(CATALOGUE, threshold=100).match(listed)
    assert found.how == [How.exact, How.duplicate, How.hallucinated, How.normalised]


def test_an_item_without_a_title_is_never_meant():
    matcher = Matcher(["", "?!", "Heat"], threshold=1)
    assert all(set(matcher.match([title]).items.tolist()) <= {NONE, 2} for title in ("", "!?", "Heart", "xyz"))


def test_an_empty_list_means_nothing(matcher):
    found = matcher.match([])
    assert (found.items.tolist(), found.how) == ([], [])


titles = st.one_of(st.sampled_from(CATALOGUE), st.text("aehtHE 12(9)", max_size=12), st.text(max_size=5))


@given(st.lists(titles, max_size=8), st.none() | st.sets(st.integers(0, len(CATALOGUE) - 1)))
def test_no_item_is_meant_twice_and_an_item_is_told_exactly_where_one_was_found(matcher, listed, among):
    found = matcher.match(listed, None if among is None else np.array(sorted(among), dtype=np.int64))
    meant = found.items[found.items != NONE].tolist()
    assert len(meant) == len(set(meant))
    assert set(meant) <= (set(range(len(CATALOGUE))) if among is None else among)
    for item, how, score, ties in zip(found.items, found.how, found.score, found.ties, strict=True):
        assert (item != NONE) == (how in (How.exact, How.normalised, How.fuzzy))
        assert (ties == 0) == (score == 0) == (how is How.hallucinated)
        assert score == 0 or score >= 92


@given(st.lists(titles, max_size=8))
def test_the_exact_ones_are_those_that_an_exact_reading_would_find(matcher, listed):
    left = list(range(len(CATALOGUE)))
    expected = []
    for title in listed:
        item = next((i for i in left if title and CATALOGUE[i] == title), NONE)
        expected.append(item)
        left = [i for i in left if i != item]
    found = matcher.match(listed)
    assert np.where([how is How.exact for how in found.how], found.items, NONE).tolist() == expected
