from itertools import combinations

import numpy as np
import pytest

from llm4rec_cli.config.schema import SplitName, Written
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.models.baselines.retrieval import title_from_review, typicality, word_sets

# Training explanations: three of item 0, one of item 1, none of the others.
EXPLAINED = [
    *("the strap is soft", "dull lens", "x", "y"),
    *("so soft a strap", None, "x", "y"),
    *("strap is soft", " ", "x", "y"),
]
REVIEWS = ["Bought for a trip. It broke soon! Would not buy again"] * 12
TITLES = ["Would not buy"] * 12
SEQUENCES = [[0, 1, 2, 3], [0, 2, 3, 1], [0, 1, 3, 0]]
DATASET = tiny_dataset(SEQUENCES, explanation=EXPLAINED, review_text=REVIEWS, review_title=TITLES)
EXAMPLES = leave_one_out(DATASET).examples(SplitName.test)  # targets: items 3, 1, 0


def cosine(a, b):
    a, b = set(a.split()), set(b.split())
    return len(a & b) / np.sqrt(len(a) * len(b))


def test_typicality_is_the_mean_cosine_and_an_item_gets_its_most_typical_explanation(build):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefgh"), 4)) for _ in range(12)]
    group = np.array([0] * 7 + [1] * 4 + [2])
    expected = np.zeros(12)
    for i, j in combinations(range(12), 2):
        if group[i] == group[j]:
            expected[[i, j]] += cosine(texts[i], texts[j])
    expected /= np.maximum(np.bincount(group)[group] - 1, 1)
    assert typicality(word_sets(texts), group) == pytest.approx(expected)
    texts = build("retrieval", DATASET, words=[3]).write(EXAMPLES, Written.explanation)
    assert texts == ["strap is soft", "dull lens", "strap is soft"]
    dataset = tiny_dataset([[0, 1, 2]] * 2, explanation=["a b", "x", "y", "b c", "x", "y"])
    examples = leave_one_out(tiny_dataset([[1, 2, 0]])).examples(SplitName.test)
    assert build("retrieval", dataset, words=[3]).write(examples, Written.explanation) == ["a b"]


def test_a_title_is_the_beginning_of_a_sentence_chosen_on_validation(build):
    for sentence, words, title in (
        *((0, 3, "Bought for a"), (0, 12, "Bought for a trip."), (-1, 3, "Would not buy")),
        (-1, 1, "Would"),
    ):
        assert title_from_review(REVIEWS[0], sentence, words) == title
    assert title_from_review("  ", 0, 5) == ""
    model = build("retrieval", DATASET, words=[1, 3, 8])
    assert model.title_rule == (-1, 3)
    assert model.write(EXAMPLES, Written.review_title) == ["Would not buy"] * 3
