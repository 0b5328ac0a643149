"""Explanations extracted from reviews: what is a judgement, what is an aspect, and which sentence is chosen."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data import explanations
from llm4rec_cli.data.explanations import aspects, explain, judgements, sentences, with_explanations
from llm4rec_cli.data.split import TEST, TRAIN, VALID, Split
from llm4rec_cli.errors import DataError
from tests.support.driver import python

ROOT = Path(__file__).parents[2]


def reviewed(texts, parts=None):
    """Return a split with one review per user, of one item each; all in training by default."""
    dataset = tiny_dataset([[0]] * len(texts))
    dataset.interactions["review_text"] = pd.Series(texts, dtype="str")
    return Split(dataset, np.array(parts or [TRAIN] * len(texts), dtype=np.int8))


def judged(text):
    return [noun for judgement in judgements(text) for noun in judgement.judged]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sounds good.The neck is straight.", ["Sounds good.", "The neck is straight."]),  # as 2014's files have it
        ("It cost $9.99. Good!  Or not? yes", ["It cost $9.99.", "Good!", "Or not?", "yes"]),
        ("A strap, e.g. for a bass vs. a guitar.", ["A strap, e.g. for a bass vs. a guitar."]),
        ("Well... it works... But not long", ["Well... it works...", "But not long"]),
        ("One\n\ntwo  words\n", ["One", "two words"]),
        ("The 5&#34; screen &amp; case", ['The 5" screen & case']),
        ("", []),
    ],
)
def test_sentences(text, expected):
    assert sentences(text) == expected


def test_judgements():
    nouns = {
        "Great sound quality for the price": "quality",
        "a nice, sturdy strap": "strap",
        "The tone is really great": "tone",
        "The strings don't sound very good": "strings",
        "The tuner works perfectly": "tuner",
        "The zipper is very well made": "zipper",
        "Happy with the finish": "finish",
        "I love the neck": "neck",
    }
    assert {text: judged(text) for text in nouns} == {text: [noun] for text, noun in nouns.items()}
    none = ["The product is very well made", "I am happy", "It is great", "It broke"]
    none.append("nice sturdy little strap")  # `little` says nothing, and ends the run
    assert [text for text in none if judged(text)] == []


def test_a_noun_that_is_merely_near_an_opinion_is_kept_separate():
    (judgement,) = judgements("Nice to have a strap on the guitar, which has a neck")
    assert (judgement.judged, judgement.near) == ([], ["strap"])  # the guitar is too far, the neck beyond a comma
    assert judgement.n_words == 12


def test_an_aspect_is_judged_often_follows_articles_and_counts_for_more_where_it_is_mostly_judged():
    texts = (
        ["The tone is great."] * 6 + ["The guitar is great. My guitar, that guitar."] * 6 + ["The neck is fine."] * 4
    )
    assert aspects(texts, [list(judgements(text)) for text in texts]) == {
        "tone": 6.0,
        "guitar": 2.0,
    }  # 6 * 6 / 6 and 6 * 6 / 18
    texts = ["The kid&#39;s is great."] * 6 + ["The kid's is great."] * 6
    assert aspects(texts, [list(judgements(text)) for text in texts]) == {"kid's": 12.0}
    texts = ["It has great sustain. I sustain, you sustain."] * 10
    assert aspects(texts, [list(judgements(text)) for text in texts]) == {}


SALIENCE = {"tone": 9.0, "strap": 3.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It has a really nice strap. It has a really nice tone.", ("It has a really nice tone.", "tone")),
        ("It has one nice tone. It has a great tone.", ("It has one nice tone.", "tone")),
        ("It is nice to have tone. It has a great strap.", ("It has a great strap.", "strap")),  # judged before near
        ("It is nice to have tone.", ("It is nice to have tone.", "tone")),
        ("Great tone. I play it every day.", (None, None)),  # too short
        ("Does it really have great tone?", (None, None)),
        ("It has a really nice neck.", (None, None)),
        (" ".join(["great tone and"] * 11), (None, None)),  # too long
    ],
)
def test_the_sentence_about_the_most_salient_aspect_is_chosen(text, expected):
    assert explain(list(judgements(text)), SALIENCE) == expected


def test_reviews_get_explanations_and_features_and_the_manifest_counts_them(tmp_path):
    texts = ["Mine came soon. I think the tone is great!"] * 6 + ["No opinion here at all.", "", None]
    explained = with_explanations(reviewed(texts), tmp_path).dataset
    assert explained.interactions["explanation"].tolist()[:6] == ["I think the tone is great!"] * 6
    assert explained.interactions["feature"].tolist()[:6] == ["tone"] * 6
    assert explained.interactions[["explanation", "feature"]].iloc[6:].isna().all(axis=None)
    assert explained.manifest["explanations"] == {"reviews": 7, "explained": 6, "aspects": 1}


def test_aspects_are_counted_in_training_reviews_alone(tmp_path):
    texts = ["I think the tone is great."] * 9 + ["I think the neck is great."] * 9
    split = reviewed(texts, [TRAIN] * 9 + [TEST, VALID] * 4 + [TEST])
    explained = with_explanations(split, tmp_path / "one").dataset.interactions
    assert explained["feature"].notna().tolist() == [True] * 9 + [False] * 9
    one_held_out = reviewed([*texts[:9], "Well, it has a great tone."], [TRAIN] * 9 + [TEST])
    assert with_explanations(one_held_out, tmp_path / "other").dataset.interactions["feature"].tolist() == ["tone"] * 10


def test_explanations_that_were_there_are_replaced_and_data_without_reviews_are_refused(tmp_path):
    split = reviewed(["I think the tone is great."] * 6)
    split.dataset.interactions["explanation"] = "old"
    explained = with_explanations(split, tmp_path)
    assert set(explained.dataset.interactions["explanation"]) == {"I think the tone is great."}
    assert explained.assignment is split.assignment
    assert set(split.dataset.interactions["explanation"]) == {"old"}
    bare = Split(tiny_dataset([[0, 1]]), np.zeros(2, dtype=np.int8))
    with pytest.raises(DataError, match="'tiny' has no review texts"):
        with_explanations(bare, tmp_path)


def with_several_aspects(cache):
    """Return the explanations of texts with several aspects each, as JSON."""
    texts = ["A great neck, nice strap and good tone.", "The strap and the tone and the neck."] * 6
    return with_explanations(reviewed(texts), cache).dataset.interactions[["explanation", "feature"]].to_json()


def test_explanations_do_not_depend_on_the_order_of_hashes(tmp_path, monkeypatch):
    """This process has another order of hashes than the one that it starts."""
    monkeypatch.setenv("PYTHONHASHSEED", "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2")
    made = f"pathlib.Path({str(tmp_path / 'other')!r})"
    done = python(
        f"import pathlib; from tests.data import test_explanations as this; print(this.with_several_aspects({made}))",
        ROOT,
    )
    assert done.stdout.strip() == with_several_aspects(tmp_path / "ours"), done.stderr
    assert "tone" in done.stdout


def test_explanations_are_cached_by_training_part(tmp_path, monkeypatch):
    split = reviewed(["I think the tone is great."] * 6)
    first = with_explanations(split, tmp_path).dataset
    monkeypatch.setattr(explanations, "_extracted", None)
    again = with_explanations(split, tmp_path).dataset
    assert again.interactions.equals(first.interactions)
    assert again.manifest == first.manifest
    with pytest.raises(TypeError):
        with_explanations(reviewed(["I think the tone is great."] * 6, [TRAIN] * 5 + [TEST]), tmp_path)


def test_explanations_of_moved_reviews_are_not_those_of_the_rows_before(tmp_path):
    """A control moves reviews to other rows of the same training part."""
    texts = ["I think the tone is great.", "I think the strap is great.", "I think the tone is bad."] * 5
    with_explanations(reviewed(texts), tmp_path)
    moved = reviewed(texts[1:] + texts[:1])
    moved.dataset.manifest["control"] = "shuffle_history"
    assert with_explanations(moved, tmp_path).dataset.interactions["explanation"].tolist() == texts[1:] + texts[:1]
