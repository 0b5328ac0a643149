"""P5's BLEU and ROUGE by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec_cli.evaluation.paper_text import paper_columns, paper_metrics

WORDS = st.lists(st.sampled_from("abc"), max_size=8)


def scores(*pairs):
    columns = paper_columns(*map(list, zip(*pairs, strict=True)))
    sums = {name: column.sum() for name, column in columns.items()} | {"n": np.float64(len(pairs))}
    return {name: float(value) for name, value in paper_metrics(sums).items()}


def test_equal_texts_score_one():
    found = scores(("a very good toy", "a very good toy"))
    assert found == pytest.approx(dict.fromkeys(found, 1.0), abs=1e-7)


def test_one_pair_by_hand():
    """Text of 4 words, reference of 5; "the cat" and "sat" match: unigrams 3/4, bigrams 1/3, brevity e^(1 - 5/4)."""
    found = scores(("the cat sat down", "the cat has sat there"))
    assert found["paper/bleu2"] == pytest.approx(math.sqrt(3 / 4 * 1 / 3) * math.exp(-1 / 4))
    assert found["paper/bleu4"] == 0, "no trigram matches, and nothing is smoothed"
    assert found["paper/rouge1"] == pytest.approx(2 * 3 / (4 + 5), abs=1e-7)
    assert found["paper/rouge2"] == pytest.approx(2 * 1 / (3 + 4), abs=1e-7)
    recall, precision = 3 / 5, 3 / 4
    beta = precision / recall
    assert found["paper/rougeL"] == pytest.approx((1 + beta**2) * recall * precision / (recall + beta**2 * precision))


def test_case_and_punctuation_count():
    assert scores(("Good toy.", "good toy"))["paper/rouge1"] == 0


def test_rouge_counts_a_repeated_word_once_and_bleu_clips_it():
    found = scores(("good good good", "good toy"))
    assert found["paper/rouge1"] == pytest.approx(2 * (1 * 1 / 2) / (3 / 2), abs=1e-7)
    columns = paper_columns(["good good good"], ["good toy"])
    assert (columns["paper/matches1"][0], columns["paper/ngrams1"][0]) == (1, 3)


def test_bleu_is_of_the_corpus_and_rouge_the_mean_of_texts():
    found = scores(("a b", "a b"), ("c d e f", "c x y z"))
    assert found["paper/bleu2"] == pytest.approx(math.sqrt(3 / 6 * 1 / 4))
    assert found["paper/rouge1"] == pytest.approx((1 + 1 / 4) / 2, abs=1e-7)


@pytest.mark.parametrize("pair", [("", "a b"), ("a b", ""), ("", "")])
def test_an_empty_text_scores_zero(pair):
    assert set(scores(pair).values()) == {0.0}


@given(WORDS, WORDS)
def test_rouge_l_is_of_the_longest_common_subsequence(a, b):
    def subsequences(words):
        found = {()}
        for word in words:
            found |= {(*one, word) for one in found}
        return found

    common = max(map(len, subsequences(a) & subsequences(b)))
    recall, precision = common / max(len(b), 1), common / max(len(a), 1)
    beta = precision / recall if common else 1
    expected = (1 + beta**2) * recall * precision / (recall + beta**2 * precision) if common else 0
    assert scores((" ".join(a), " ".join(b)))["paper/rougeL"] == pytest.approx(expected)
