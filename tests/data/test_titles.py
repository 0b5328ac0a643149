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
        ("the MATRIX (1999)", "matrix", "1999"),
        ("The Matrix", "matrix", ""),
        ("A Bug's Life", "bugs life", ""),
        ("E.T.", "et", ""),
        ("Face/Off", "face off", ""),
        ("Spider-Man:  Home_coming!", "spider man home coming", ""),
        ("Amélie", "amelie", ""),
        ("Tom &amp; Huck", "tom and huck", ""),
        ("Postino, Il (1994)", "il postino", "1994"),
        ("Umbrellas of Cherbourg, The (Parapluies)", "umbrellas of cherbourg parapluies", ""),
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


@pytest.mark.parametrize(
    ("typed", "item"),
    [
        ("Matrix, The (1999)", 0),
        ("The Matrix", 0),
        ("matrix", 0),
        ("MATRIX (1999)", 0),
        ("the matrix 1999", 0),
        ("et the extra terrestrial", 3),
        ("Il Postino", 4),
        ("AMELIE", 11),
        ("tom and huck", 13),
        ("L'Avventura", 14),
        ("m", 10),
        ("Sabrina (1954)", 1),
        ("sabrina 1954", 1),
    ],
)
def test_case_punctuation_article_and_year_do_not_matter(movies, typed, item):
    assert movies.exact_matches(typed) == [item]


def test_of_items_with_one_title_the_most_frequent_comes_first(movies):
    assert movies.exact_matches("sabrina") == [2, 1]


def test_an_identical_title_comes_before_others_with_the_same_words():
    titles = Titles(["heat", "Heat", "HEAT"], np.array([3, 2, 1]))
    assert titles.exact_matches("HEAT") == [2]
    assert titles.exact_matches("hEAT") == [0, 1, 2]


@pytest.mark.parametrize("typed", ["Sabrina (1960)", "matrix (2000)", "star", "star warz", "", "?!", "the"])
def test_another_year_or_other_words_are_not_the_same(movies, typed):
    assert movies.exact_matches(typed) == []


@pytest.mark.parametrize(
    ("typed", "item"),
    [
        ("star warz", 6),
        ("satr wars (1977)", 6),
        ("Teh Matrix", None),  # the article is misspelt, and so no article: four letters more
        ("matrx", 0),
        ("maatrixx", 0),
        ("Postino", None),
        ("Sabrinna", 2),
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
        ("strangelove", None),
        ("xqzzy", None),
        ("", None),
    ],
)
def test_a_misspelling_is_at_most_two_edits_and_keeps_the_numbers(movies, typed, item):
    assert movies.correct_misspelling(typed) == item


def test_of_two_titles_the_one_with_fewer_edits_is_meant_and_of_equals_the_more_frequent():
    titles = Titles(["batmen", "batman", "catman"], np.array([1, 2, 9]))
    assert titles.correct_misspelling("batmin") == 1
    assert titles.correct_misspelling("batnan") == 1


def test_titles_that_contain_the_typed_words_come_before_similar_ones(movies):
    assert movies.suggest("strangelove", 1) == [5]
    assert movies.suggest("hard", 2) == [7, 8]
    assert movies.suggest("star", 2) == [6, 16]
    assert movies.suggest("star warx", 2) == [6, 16]


def test_suggestions_are_limited_and_distinct(movies):
    near = movies.suggest("star", 4)
    assert len(near) == len(set(near)) == 4


def test_dissimilar_titles_can_be_left_out(movies):
    assert movies.suggest("xqzzy", 3, min_similarity=70) == []
    assert len(movies.suggest("xqzzy", 3)) == 3


def test_an_item_without_a_title_is_never_meant(movies):
    assert all(12 not in movies.suggest(typed, len(MOVIES)) for typed in ("", "?!", "a", "heat"))
