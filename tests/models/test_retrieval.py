from itertools import combinations

import numpy as np
import pytest

from llm4rec_cli.config.schema import SplitName, Written
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.models.baselines.retrieval import heading, typicality, word_sets
from tests.builders import tiny_dataset

# Of item 0 training holds three explanations, of item 1 one, of the others none.
EXPLAINED = [
    *("the strap is soft", "dull lens", "x", "y"),
    *("so soft a strap", None, "x", "y"),
    *("strap is soft", " ", "x", "y"),
]
REVIEWS = ["Bought for a trip. It broke soon! Would not buy again"] * 12
TITLES = ["Would not buy"] * 12
SEQUENCES = [[0, 1, 2, 3], [0, 2, 3, 1], [0, 1, 3, 0]]
DATASET = tiny_dataset(SEQUENCES, explanation=EXPLAINED, review_text=REVIEWS, review_title=TITLES)
ASKED = leave_one_out(DATASET).examples(SplitName.test)  # of items 3, 1, 0


def cosine(a, b):
    a, b = set(a.split()), set(b.split())
    return len(a & b) / np.sqrt(len(a) * len(b))


def test_typicality_is_the_mean_cosine_with_the_others_of_the_group():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefgh"), 4)) for _ in range(12)]
    group = np.array([0] * 7 + [1] * 4 + [2])
    expected = np.zeros(12)
    for i, j in combinations(range(12), 2):
        if group[i] == group[j]:
            expected[[i, j]] += cosine(texts[i], texts[j])
    expected /= np.maximum(np.bincount(group)[group] - 1, 1)
    assert typicality(word_sets(texts), group) == pytest.approx(expected)


def test_an_item_gets_its_most_typical_explanation_and_one_without_any_that_of_all(build):
    told = build("retrieval", DATASET, words=[3]).write(ASKED, Written.explanation)
    assert told == ["strap is soft", "dull lens", "strap is soft"]


def test_of_equally_typical_explanations_the_earliest_is_taken(build):
    dataset = tiny_dataset([[0, 1, 2]] * 2, explanation=["a b", "x", "y", "b c", "x", "y"])
    asked = leave_one_out(tiny_dataset([[1, 2, 0]])).examples(SplitName.test)
    assert build("retrieval", dataset, words=[3]).write(asked, Written.explanation) == ["a b"]


@pytest.mark.parametrize(
    ("sentence", "words", "said"),
    [(0, 3, "Bought for a"), (0, 12, "Bought for a trip."), (-1, 3, "Would not buy"), (-1, 1, "Would")],
)
def test_a_heading_is_the_beginning_of_a_sentence(sentence, words, said):
    assert heading(REVIEWS[0], sentence, words) == said


def test_a_review_of_no_words_has_no_heading():
    assert heading("  ", 0, 5) == ""


def test_which_sentence_and_how_many_words_is_chosen_on_validation(build):
    model = build("retrieval", DATASET, words=[1, 3, 8])
    assert model.headed == (-1, 3)
    assert model.write(ASKED, Written.review_title) == ["Would not buy"] * 3


def test_test_headings_are_not_looked_at(build):
    titles = np.array(TITLES, dtype=object)
    titles[ASKED.row] = "Bought for a trip."
    other = tiny_dataset(SEQUENCES, explanation=EXPLAINED, review_text=REVIEWS, review_title=titles)
    assert build("retrieval", other, words=[1, 3, 8]).headed == (-1, 3)
