"""Matching of titles as chat models write them to items."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec_cli.models.chatgptrec.matching import MatchKind, TitleMatcher

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
    "heat",  # 16, another item
    "七人の侍",  # 17
]
NONE = -1


@pytest.fixture(scope="module")
def matcher():
    return TitleMatcher(CATALOGUE, threshold=92)


def match_one(matcher, title):
    matches = matcher.match([title])
    return int(matches.items[0]), matches.kinds[0]


@pytest.mark.parametrize(
    ("title", "item", "kind"),
    [
        ("Matrix, The (1999)", 0, MatchKind.exact),
        ("The Matrix (1999)", 0, MatchKind.normalised),
        ("the matrix", 0, MatchKind.normalised),
        ("The Matrix 1999", 0, MatchKind.normalised),
        ("The Matrix (2003)", NONE, MatchKind.hallucinated),
        ("Sabrina (1995)", 2, MatchKind.exact),
        ("SABRINA (1995)", 2, MatchKind.normalised),
        ("Sabrinna (1995)", 2, MatchKind.fuzzy),
        ("Sabrinna", 1, MatchKind.fuzzy),  # of both years
        ("Saprina (1995)", NONE, MatchKind.hallucinated),  # one wrong letter in seven is below the threshold
        ("Tom & Huck", 9, MatchKind.normalised),
        ("七人の侍", 17, MatchKind.exact),
        ("L’Oréal Paris Voluminous Mascara - Blackest Black", 15, MatchKind.normalised),
        ("L'Oreal Paris Voluminos Mascara, Blackest Black", 15, MatchKind.fuzzy),
        ("Blackest Black L'Oreal Paris Voluminous Mascara", 15, MatchKind.fuzzy),
        ("L'Oreal Paris Voluminous Mascara, Black", 15, MatchKind.fuzzy),
        ("Olay Total Effects Moisturiser, 3.4 Fluid Ounce", 12, MatchKind.fuzzy),
        ("Olay Total Effects Moisturizer, 5 Fluid Ounce", NONE, MatchKind.hallucinated),
        ("Olay Total Effects Moisturizer", NONE, MatchKind.hallucinated),
        ("Die Hard 3", NONE, MatchKind.hallucinated),
        ("Rocky IV", NONE, MatchKind.hallucinated),
        ("Rocky", NONE, MatchKind.hallucinated),
        ("Heat of the Body", NONE, MatchKind.hallucinated),
        ("The Godfather", NONE, MatchKind.hallucinated),
        ("", NONE, MatchKind.hallucinated),
        ("?!", NONE, MatchKind.hallucinated),
    ],
)
def test_a_title_matches_the_item_with_it_or_with_a_similar_one(matcher, title, item, kind):
    assert match_one(matcher, title) == (item, kind)


def test_similarity_is_100_for_equal_titles_and_0_without_a_match(matcher):
    matches = matcher.match(
        ["Body Heat", "BODY HEAT!", "Blackest Black L'Oreal Paris Voluminous Mascara", "The Godfather"]
    )
    assert matches.score.tolist() == [100, 100, 95, 0]  # 95: WRatio's discount for another order


def test_an_item_is_matched_once_and_further_titles_are_duplicates(matcher):
    matches = matcher.match(["Body Heat", "Body Heat", "body heat"])
    assert matches.items.tolist() == [14, NONE, NONE]
    assert matches.kinds == [MatchKind.exact, MatchKind.duplicate, MatchKind.duplicate]


def test_items_that_share_a_title_are_matched_in_turn(matcher):
    matches = matcher.match(["unknown product"] * 3)
    assert matches.items.tolist() == [7, 8, NONE]
    assert matches.kinds == [MatchKind.exact, MatchKind.exact, MatchKind.duplicate]
    assert matches.ties.tolist() == [2, 2, 2]


def test_items_that_differ_in_case_alone_tie_for_a_title_in_another_case(matcher):
    matches = matcher.match(["HEAT", "Heat"])
    assert matches.items.tolist() == [16, 13]  # exact matches are made first
    assert matches.ties.tolist() == [2, 1]


def test_without_a_year_the_items_of_all_years_tie(matcher):
    matches = matcher.match(["Sabrina"])
    assert (matches.items[0], matches.kinds[0], matches.ties[0]) == (1, MatchKind.normalised, 2)


def test_an_exact_match_precedes_a_similar_title_before_it(matcher):
    titles = ["L'Oreal Paris Voluminos Mascara, Blackest Black", CATALOGUE[15]]
    matches = matcher.match(titles)
    assert matches.items.tolist() == [NONE, 15]
    assert matches.kinds == [MatchKind.duplicate, MatchKind.exact]


def test_titles_match_candidates_only(matcher):
    matches = matcher.match(["Die Hard", "Body Heat", "unknown product", "Sabrina"], np.array([14, 8, 2]))
    assert matches.items.tolist() == [NONE, 14, 8, 2]
    assert matches.ties.tolist() == [0, 1, 1, 1]


def test_with_a_threshold_of_100_there_are_no_fuzzy_matches():
    titles = ["Matrix, The (1999)", "the matrix", "Blackest Black L'Oreal Paris Voluminous Mascara", "Body  Heat"]
    matches = TitleMatcher(CATALOGUE, threshold=100).match(titles)
    assert matches.kinds == [MatchKind.exact, MatchKind.duplicate, MatchKind.hallucinated, MatchKind.normalised]


def test_an_item_without_a_title_is_never_matched():
    matcher = TitleMatcher(["", "?!", "Heat"], threshold=1)
    assert all(set(matcher.match([title]).items.tolist()) <= {NONE, 2} for title in ("", "!?", "Heart", "xyz"))


def test_an_empty_list_has_no_matches(matcher):
    matches = matcher.match([])
    assert (matches.items.tolist(), matches.kinds) == ([], [])


title_texts = st.one_of(st.sampled_from(CATALOGUE), st.text("aehtHE 12(9)", max_size=12), st.text(max_size=5))


@given(st.lists(title_texts, max_size=8), st.none() | st.sets(st.integers(0, len(CATALOGUE) - 1)))
def test_no_item_is_matched_twice_and_kind_score_and_ties_agree(matcher, titles, candidates):
    matches = matcher.match(titles, None if candidates is None else np.array(sorted(candidates), dtype=np.int64))
    matched = matches.items[matches.items != NONE].tolist()
    assert len(matched) == len(set(matched))
    assert set(matched) <= (set(range(len(CATALOGUE))) if candidates is None else candidates)
    for item, kind, score, ties in zip(matches.items, matches.kinds, matches.score, matches.ties, strict=True):
        assert (item != NONE) == (kind in (MatchKind.exact, MatchKind.normalised, MatchKind.fuzzy))
        assert (ties == 0) == (score == 0) == (kind is MatchKind.hallucinated)
        assert score == 0 or score >= 92


@given(st.lists(title_texts, max_size=8))
def test_exact_matches_are_those_of_an_exact_matcher(matcher, titles):
    free = list(range(len(CATALOGUE)))
    expected = []
    for title in titles:
        item = next((i for i in free if title and CATALOGUE[i] == title), NONE)
        expected.append(item)
        free = [i for i in free if i != item]
    matches = matcher.match(titles)
    assert np.where([kind is MatchKind.exact for kind in matches.kinds], matches.items, NONE).tolist() == expected
