"""BLEU, ROUGE and the rest: by hand, and against the libraries' own corpus scores."""

import numpy as np
import pytest
import sacrebleu

from llm4rec_cli.evaluation.bootstrap import bootstrap_of_sums
from llm4rec_cli.evaluation.metrics import METRICS, Kind, selectable
from llm4rec_cli.evaluation.text import (
    FITS,
    bleu_counts,
    diversity,
    nearer_shares,
    rouge1_matrix,
    text_columns,
    text_metrics,
    text_values,
)

GENERATED = ["the strap is very soft", "I love the color of it", "a good buy", "The lens is sharp and light"]
REFERENCES = ["The strap is soft and long", "I love the colour of it", "a good buy", "the lens is sharp and clear"]
BRIEF = [["a", "b c"], ["x y z", "x"], ["the strap is", "soft"]]


def columns(generated, references, features=None):
    return text_columns(text_values(generated, references, features), bleu_counts(generated, references))


def metrics(generated, references, features=None):
    sums = columns(generated, references, features)
    return text_metrics({name: column.sum() for name, column in sums.items()})


def test_rouge_by_hand():
    values = text_values(["the red strap is soft"], ["The strap is not soft!"])
    assert values["rouge1"] == pytest.approx([4 / 5])  # the, strap, is, soft, of five words in each
    assert values["rouge2"] == pytest.approx([1 / 4])  # strap is
    assert values["rougeL"] == pytest.approx([4 / 5])


def test_rouge_1_of_all_pairs_is_that_of_each():
    texts = ["The cat, the CAT sat!", "the the the cat", "a dog", "Zürich été schön", "", "sat on the mat the cat"]
    expected = [text_values([text] * len(texts), texts)["rouge1"] for text in texts]
    assert rouge1_matrix(texts) == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    ("generated", "references", "score"), [(["", "!"], ["a good buy", "soft"], 0), (REFERENCES, REFERENCES, 1)]
)
def test_a_text_without_words_scores_nothing_and_a_copy_one(generated, references, score):
    values = metrics(generated, references)
    assert [values[name] for name in ("bleu2", "bleu4", "rouge1", "rouge2", "rougeL")] == pytest.approx([score] * 5)


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize(
    ("generated", "references"),
    [(GENERATED, REFERENCES), *((texts, ["a b c d e", "b x"]) for texts in BRIEF)],
)
def test_bleu_is_that_of_sacrebleu_over_the_corpus_with_its_smoothing_and_brevity(order, generated, references):
    expected = sacrebleu.BLEU(max_ngram_order=order).corpus_score(generated, [references]).score / 100
    assert metrics(generated, references)[f"bleu{order}"] == pytest.approx(expected)


def test_an_interval_of_bleu_is_that_of_resampled_corpora():
    rng = np.random.default_rng(0)
    generated, references = GENERATED * 12, REFERENCES * 12
    intervals = bootstrap_of_sums(columns(generated, references), text_metrics, np.arange(48), np.random.default_rng(1))
    drawn = [rng.integers(48, size=48) for _ in range(400)]
    scores = [
        sacrebleu.BLEU().corpus_score([generated[i] for i in d], [[references[i] for i in d]]).score for d in drawn
    ]
    low, high = np.quantile(scores, [0.025, 0.975]) / 100
    assert intervals["bleu4"] == pytest.approx((low, high), abs=0.02)
    assert high - low > 0.1


@pytest.mark.parametrize(
    ("text", "feature", "matched"),
    [
        ("The Strap is soft", "strap", 1),
        ("soft straps", "strap", 0),
        ("its battery life is long", "battery life", 1),
        ("a life of a battery", "battery life", 0),
        ("made of c++ (really)", "c++", 1),
    ],
)
def test_a_feature_is_matched_as_a_whole_word_or_phrase(text, feature, matched):
    assert text_values([text], ["x"], [feature])["feature_match"].tolist() == [matched]


def test_feature_match_is_the_share_of_those_with_a_feature():
    values = metrics(["soft strap", "soft", "strap"], ["x", "x", "x"], ["strap", "strap", ""])
    assert values["feature_match"] == 0.5
    assert np.isnan(text_values(["strap"], ["x"], [None])["feature_match"]).all()
    assert "feature_match" not in metrics(["soft"], ["x"], [""])


AMPS = ["loud amp", "quiet amp", "loud red amp"]  # what three users say about one item
OTHER_AMPS = [[b for j, b in enumerate(AMPS) if i != j] for i in range(3)]


def test_the_share_of_other_texts_that_are_further_away_by_hand():
    # ROUGE-L of "loud amp" to the three: 1, 1/2, 4/5
    assert nearer_shares(["loud amp"] * 3, AMPS, OTHER_AMPS).tolist() == [1, 0, 0.5]
    assert nearer_shares(AMPS, AMPS, OTHER_AMPS).tolist() == [1, 1, 1], "the references themselves"


@pytest.mark.parametrize("sentence", ["loud amp", "a red one", "quiet", "", "!"])
def test_one_sentence_for_all_who_write_about_an_item_fits_no_user(sentence):
    assert nearer_shares([sentence] * 3, AMPS, OTHER_AMPS).mean() == 0.5


def test_ties_count_half_and_without_other_texts_there_is_no_value():
    shares = nearer_shares(["loud", "", "loud"], ["loud amp"] * 3, [["Loud amp!"], ["red", "amp"], []])
    assert shares == pytest.approx([0.5, 0.5, np.nan], nan_ok=True)


def test_the_measure_of_similarity_may_be_another():
    lengths = {"similarity": lambda a, b: -abs(len(a) - len(b))}
    assert nearer_shares(["abc"], ["xyz"], [["a", "xyzxyz", "abc"]], **lengths).tolist() == [(1 + 1 + 0.5) / 3]


def test_the_fit_is_a_mean_over_the_covered_examples():
    fits = {"fits_user": np.array([1, 0.5, np.nan]), "fits_item": np.full(3, np.nan)}
    summed = text_columns(text_values(AMPS, AMPS) | fits, bleu_counts(AMPS, AMPS))
    values = text_metrics({name: column.sum() for name, column in summed.items()})
    assert (values["fits_user"], values["fits_user/coverage"]) == (0.75, pytest.approx(2 / 3))
    assert "fits_item" not in values
    assert values["fits_item/coverage"] == 0


def test_diversity_by_hand():
    values = diversity(["It is soft", "it is soft", "It's soft, it is"])
    assert values == {
        "distinct1": 4 / 10,  # it, is, soft, it's
        "distinct2": 4 / 7,  # it is, is soft, it's soft, soft it
        "unique_sentences": 1,
        "mean_length": 10 / 3,
    }
    assert diversity(["", ""]) == {"distinct1": 0, "distinct2": 0, "unique_sentences": 0.5, "mean_length": 0}


def test_each_model_has_the_metrics_that_one_may_select_by():
    assert selectable(Kind.text, []) <= set(metrics(GENERATED, REFERENCES)) | set(diversity(GENERATED))
    names = {metric.name for metric in METRICS if metric.kind is Kind.text and not metric.paired_as}
    names -= {name for name in names if "/" in name}  # `paper/…` and `…/coverage` are not compared between runs
    names -= {*FITS}  # need the texts of other users
    assert names - set(diversity(GENERATED)) == set(text_values(GENERATED, REFERENCES, ["strap"] * 4))
