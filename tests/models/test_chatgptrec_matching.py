"""Matching of titles as chat models write them to items."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llm4rec_cli.models.chatgptrec.matching import MatchKind, TitleMatcher

TABLE = yaml.safe_load((Path(__file__).parent / "tables/titles.yaml").read_text(encoding="utf-8"))
CATALOGUE = TABLE["catalogue"]
NONE = -1


@pytest.fixture(scope="module")
def matcher():
    return TitleMatcher(CATALOGUE, threshold=92)


def test_a_title_matches_the_item_with_it_or_with_a_similar_one(matcher):
    found = [
        [title, int(one.items[0]), one.kinds[0].name]
        for title, *_ in TABLE["matches"]
        for one in [matcher.match([title])]
    ]
    assert found == TABLE["matches"]
    matches = matcher.match(
        ["Body Heat", "BODY HEAT!", "Blackest Black L'Oreal Paris Voluminous Mascara", "The Godfather"]
    )
    assert matches.score.tolist() == [100, 100, 95, 0]  # 95: WRatio's discount for another order
    matches = matcher.match([])
    assert (matches.items.tolist(), matches.kinds) == ([], [])


def test_duplicates_and_ties_by_hand(matcher):
    exact, normalised, duplicate = MatchKind.exact, MatchKind.normalised, MatchKind.duplicate
    for titles, candidates, items, kinds, ties in (
        (["Body Heat", "Body Heat", "body heat"], None, [14, NONE, NONE], [exact, duplicate, duplicate], [1, 1, 1]),
        (["unknown product"] * 3, None, [7, 8, NONE], [exact, exact, duplicate], [2, 2, 2]),  # matched in turn
        (["HEAT", "Heat"], None, [16, 13], [normalised, exact], [2, 1]),  # exact matches are made first
        (["Sabrina"], None, [1], [normalised], [2]),  # without a year the items of all years tie
        (
            ["L'Oreal Paris Voluminos Mascara, Blackest Black", CATALOGUE[15]],
            None,
            [NONE, 15],
            [duplicate, exact],
            [1, 1],
        ),
        (["Die Hard", "Body Heat", "unknown product"], [14, 8, 2], [NONE, 14, 8], None, [0, 1, 1]),
        (["Sabrina"], [14, 8, 2], [2], [normalised], [1]),
    ):
        matches = matcher.match(titles, None if candidates is None else np.array(candidates))
        assert matches.items.tolist() == items
        assert kinds is None or matches.kinds == kinds
        assert matches.ties.tolist() == ties


def test_a_threshold_of_100_allows_no_fuzzy_match_and_a_missing_title_none():
    titles = ["Matrix, The (1999)", "the matrix", "Blackest Black L'Oreal Paris Voluminous Mascara", "Body  Heat"]
    matches = TitleMatcher(CATALOGUE, threshold=100).match(titles)
    assert matches.kinds == [MatchKind.exact, MatchKind.duplicate, MatchKind.hallucinated, MatchKind.normalised]
    matcher = TitleMatcher(["", "?!", "Heat"], threshold=1)
    assert all(set(matcher.match([title]).items.tolist()) <= {NONE, 2} for title in ("", "!?", "Heart", "xyz"))


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
