"""Sentiment of texts: a classifier that learns words, and its agreement with stars by hand."""

import numpy as np
import pytest

from llm4rec_cli.evaluation.sentiment import sentiment, sentiment_classifier, sentiment_columns

TEXTS = ["a great strap", "the sound is great", "a broken strap", "the sound is broken", ""] * 10
STARS = np.array([5.0, 4, 1, 3, 5] * 10)


def agreement(texts, stars):
    columns = sentiment_columns(sentiment_classifier(TEXTS, STARS), texts, np.array(stars, dtype=np.float64))
    return sentiment({name: column.sum() for name, column in columns.items()})


def test_agreement_is_the_mean_of_the_shares_of_liked_and_of_disliked():
    texts = ["great", "great", "broken", "broken", "great", "great"]
    assert agreement(texts, [5, 5, 5, 1, 2, np.nan]) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_one_text_for_everybody_has_a_half():
    assert agreement(["great"] * 5, [5, 5, 5, 5, 1]) == 0.5


def test_without_any_disliked_item_there_is_no_agreement():
    assert np.isnan(agreement(["great"], [5]))


@pytest.mark.parametrize(
    ("word", "stars"),
    [
        *(("text ", stars) for stars in ([5.0] * 50, [np.nan] * 50, [5.0] * 41 + [1.0] * 9)),  # too few of one kind
        ("word", [5.0] * 25 + [1.0] * 25),  # no common word
    ],
)
def test_too_few_texts_of_one_kind_or_no_common_word_give_no_classifier(word, stars):
    assert sentiment_classifier([f"{word}{i}" for i in range(50)], np.array(stars)) is None
