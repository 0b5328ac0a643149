"""Typed titles: exact matches, misspellings that are corrected, and suggestions."""

import numpy as np
import pytest

from llm4rec_cli.data.titles import Titles, normalised

MOVIES = [
    "Matrix, The (1999)",  # 0
    "Sabrina (1954)",  # 1
    "Sabrina (1995)",  # 2, the more frequent
    "E.T. the Extra-Terrestrial (1982)",  # 3
    "Postino, Il (1994)",  # 4
    "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb (1963)",  # 5
    "Star Wars (1977)",  # 6
    "Die Hard (1988)",  # 7
    "Die Hard 2 (1990)",  # 8
    "Heat (1995)",  # 9
    "M (1931)",  # 10
    "Amélie (2001)",  # 11
    "",  # 12
    "Tom & Huck (1995)",  # 13
    "Avventura, L' (1960)",  # 14
    "Blade Runner (1982)",  # 15
    "Star Kid (1997)",  # 16
]
COUNTS = np.array([9, 1, 5, 1, 1, 1, 9, 5, 2, 1, 1, 1, 1, 1, 1, 1, 1])


@pytest.fixture(scope="module")
def movies():
    return Titles(MOVIES, COUNTS)


@pytest.mark.parametrize(
    ("title", "words", "year"),
    [
        ("Matrix, The (1999)", "matrix", "1999"),
        ("A Bug's Life", "bugs life", ""),
        ("E.T.", "et", ""),
        ("Face/Off", "face off", ""),
        ("Spider-Man:  Home_coming!", "spider man home coming", ""),
        ("Tom &amp; Huck", "tom and huck", ""),
        ("Postino, Il (1994)", "il postino", "1994"),
        ("Avventura, L’", "lavventura", ""),
        ("The", "the", ""),
        ("2001", "2001", ""),
        ("(1984)", "", "1984"),
        ("七人の侍", "七人の侍", ""),
        ("?!", "", ""),
    ],
)
def test_a_title_is_reduced_to_its_words_and_year(title, words, year):
    assert normalised(title) == (words, year)


def test_case_punctuation_article_and_year_do_not_matter(movies):
    for item, titles in {
        0: ("Matrix, The (1999)", "The Matrix", "matrix", "MATRIX (1999)", "the matrix 1999"),
        1: ("Sabrina (1954)", "sabrina 1954"),
        3: ("et the extra terrestrial",),
        4: ("Il Postino",),
        10: ("m",),
        11: ("AMELIE",),
        13: ("tom and huck",),
        14: ("L'Avventura",),
    }.items():
        assert [movies.exact_matches(typed) for typed in titles] == [[item]] * len(titles)
    for typed in ("Sabrina (1960)", "matrix (2000)", "star", "star warz", "", "?!", "the"):
        assert movies.exact_matches(typed) == [], "another year or other words are not the same"


def test_of_several_titles_an_identical_one_comes_first_then_fewer_edits_then_the_more_frequent(movies):
    assert movies.exact_matches("sabrina") == [2, 1]
    titles = Titles(["heat", "Heat", "HEAT"], np.array([3, 2, 1]))
    assert titles.exact_matches("HEAT") == [2]
    assert titles.exact_matches("hEAT") == [0, 1, 2]
    titles = Titles(["batmen", "batman", "catman"], np.array([1, 2, 9]))
    assert titles.correct_misspelling("batmin") == 1
    assert titles.correct_misspelling("batnan") == 1


@pytest.mark.parametrize(
    ("typed", "item"),
    [
        ("star warz", 6),
        ("Teh Matrix", None),  # the article is misspelt, and so no article: four letters more
        ("matrx", 0),
        ("maatrixx", 0),
        ("Sabrinna (1954)", 1),
        ("dr strangelove or how i learned to stop worying and love teh bomb", 5),
        ("hat", 9),  # three letters may differ by one,
        ("haat", 9),
        ("hxxt", None),  # not by two
        ("n", None),  # a single one not at all
        ("die hard 3", None),  # sequels are no misspellings
        ("die hrad 2", 8),
        ("star wars (1999)", None),
        ("blade runer 2049", None),
        ("", None),
    ],
)
def test_a_misspelling_is_at_most_two_edits_and_keeps_the_numbers(movies, typed, item):
    assert movies.correct_misspelling(typed) == item


def test_suggestions_contain_the_typed_words_before_similar_ones_and_are_limited_and_distinct(movies):
    assert movies.suggest("strangelove", 1) == [5]
    assert movies.suggest("hard", 2) == [7, 8]
    assert movies.suggest("star", 2) == [6, 16]
    assert movies.suggest("star warx", 2) == [6, 16]
    near = movies.suggest("star", 4)
    assert len(near) == len(set(near)) == 4
    assert movies.suggest("xqzzy", 3, min_similarity=70) == []
    assert len(movies.suggest("xqzzy", 3)) == 3
    assert all(12 not in movies.suggest(typed, len(MOVIES)) for typed in ("", "?!", "a", "heat"))
