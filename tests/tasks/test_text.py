"""The text tasks: their examples, metrics and predictions."""

import numpy as np
import pytest

from llm4rec_cli.config.schema import Config, DatasetConfig, Question, SplitName, TaskConfig, TrainerConfig, Written
from llm4rec_cli.conformance.builders import tiny_dataset
from llm4rec_cli.data.split import TEST, VALID, Split, leave_one_out
from llm4rec_cli.errors import DataError
from llm4rec_cli.tasks import text

SEQUENCES = [[0, 1, 2], [2, 1, 0], [1, 2, 0]]
EXPLANATIONS = [*("soft strap", "dull", "the strap is soft"), *("so", "so", " "), *("a", "b", "it is the best colour")]
FEATURES = [*("strap", None, "strap"), *(None, None, None), *(None, None, "colour")]
TITLES = ["Soft", "Dull", "Very soft", "So", "So", "No", "A", "B", None]
REVIEWS = [f"review {i}" for i in range(9)]
SPLIT = leave_one_out(
    tiny_dataset(SEQUENCES, explanation=EXPLANATIONS, feature=FEATURES, review_title=TITLES, review_text=REVIEWS)
)


class Scribe:
    """One text per user; records the columns requested."""

    def __init__(self, texts):
        self.texts, self.columns = texts, set()

    def write(self, examples, written):
        self.columns.add(written)
        return [self.texts[user] for user in examples.user]


TEXTS = ["The strap is soft", "never mind", "it is the worst color"]


def config(written=Written.explanation, batch_size=2, **task):
    settings = {"selection": "rouge1", "bootstrap": 50} | task
    return Config(
        dataset=DatasetConfig(name="tiny"),
        task=TaskConfig("any", Question.write, written=written, **settings),
        trainer=TrainerConfig(eval_batch_size=batch_size),
    )


def load(split=SPLIT, **task):
    return text.examples(split, SplitName.test, config(**task), None)


def test_an_interaction_without_the_text_is_not_an_example():
    assert load().user.tolist() == [0, 2]  # the second user has only blanks
    assert load(written=Written.review_title).user.tolist() == [0, 1]


def test_a_review_title_is_predicted_only_with_a_review():
    reviews = [*REVIEWS[:5], None]
    split = leave_one_out(tiny_dataset(SEQUENCES[:2], review_title=TITLES[:6], review_text=reviews))
    assert load(split, written=Written.review_title).user.tolist() == [0]


def test_a_split_without_the_texts_is_refused():
    with pytest.raises(DataError, match="no test examples with 'explanation'"):
        load(leave_one_out(tiny_dataset([[0, 1, 2]], explanation=["so", "so", None])))


OURS = ("bleu2", "bleu4", "rouge1", "rouge2", "rougeL")


def test_scores_by_hand():
    result = text.evaluate(Scribe(TEXTS), SPLIT, load(), config())
    assert result.metrics["rouge1"] == pytest.approx((1 + 3 / 5) / 2)  # it, is, the, of five words in each
    assert result.metrics["feature_match"] == 0.5
    assert result.metrics["unique_sentences"] == 1
    assert result.metrics["mean_length"] == 4.5
    fits = {"fits_user", "fits_user/coverage", "fits_item", "fits_item/coverage"}
    assert set(result.intervals) == {*OURS, *fits, "feature_match", *(f"paper/{name}" for name in OURS)}
    assert "bleu4" in result.signatures


AMPS = ["soft strap", "loud amp", "soft red strap", "quiet amp", "stiff strap", "loud red amp"]  # of three users


def fits(texts, shown=slice(None), **settings):
    """Return the result for three users who write about a strap (validation) and an amp (test)."""
    split = Split(tiny_dataset([[0, 1]] * 3, explanation=AMPS), np.array([VALID, TEST] * 3, dtype=np.int8))
    return text.evaluate(Scribe(texts), split, load(split)[np.arange(3)[shown]], config(**settings))


def test_a_fit_to_user_and_item_by_hand():
    result = fits(["loud amp", "loud amp", "soft red strap"])
    # ROUGE-L to the three amps: 1, 1/2, 4/5, and of the last text 0, 0, 1/3; to the users' own straps: 0, 0, 2/5
    assert result.predictions["fits_user"].tolist() == [1, 0, 1]
    assert result.predictions["fits_item"].tolist() == [1, 1, 0]
    assert result.metrics["fits_user"] == pytest.approx(2 / 3)
    assert result.metrics["fits_item"] == pytest.approx(2 / 3)
    assert (result.metrics["fits_user/coverage"], result.metrics["fits_item/coverage"]) == (1, 1)
    assert result.intervals["fits_user"][0] < 2 / 3 < result.intervals["fits_user"][1]


def test_one_sentence_for_all_fits_no_user_and_the_references_fit_theirs():
    assert fits(["a loud red thing"] * 3).metrics["fits_user"] == 0.5
    assert fits([""] * 3).metrics["fits_item"] == 0.5
    own = fits(AMPS[1::2]).metrics
    assert (own["fits_user"], own["fits_item"]) == (1, 1)


@pytest.mark.parametrize("shown", [[2, 0, 1], [1], [2, 1]])
def test_a_fit_does_not_depend_on_the_other_examples(shown):
    texts = ["loud amp", "red", "soft red strap"]
    alone = fits(texts, shown, batch_size=1).predictions
    expected = fits(texts).predictions.iloc[shown].reset_index(drop=True)
    assert alone[["fits_user", "fits_item"]].equals(expected[["fits_user", "fits_item"]])


def test_sentiment_is_measured_where_there_are_ratings():
    sequences = [[0, 1, 2] for _ in range(30)]
    said, stars = ["great", "great", "great", "broken", "broken", "broken"] * 15, [5, 5, 5, 1, 1, 1] * 15
    split = leave_one_out(tiny_dataset(sequences, explanation=said, rating=stars))
    result = text.evaluate(Scribe(["great"] * 30), split, load(split), config())
    assert result.metrics["sentiment"] == 0.5
    assert "sentiment" in result.intervals


def test_a_model_writes_the_column_that_it_is_compared_with():
    scribe, title_config = Scribe(TEXTS), config(Written.review_title)
    result = text.evaluate(scribe, SPLIT, load(written=Written.review_title), title_config)
    assert scribe.columns == {Written.review_title}
    assert result.predictions["reference"].tolist() == ["Very soft", "No"]
    assert "feature_match" not in result.metrics
    assert text.protocol(title_config.task) == "review_title"


def test_predictions_hold_one_row_an_example_with_raw_ids():
    rows = text.evaluate(Scribe(TEXTS), SPLIT, load(), config()).predictions
    assert rows["user_id"].tolist() == ["u0", "u2"]
    assert rows["target"].tolist() == ["i2", "i0"]
    assert rows["reference"].tolist() == ["the strap is soft", "it is the best colour"]
    assert rows["prediction"].tolist() == ["The strap is soft", "it is the worst color"]
    assert rows["feature"].tolist() == ["strap", "colour"]


@pytest.mark.parametrize("selection", ["rouge1", "bleu2", "distinct1"])
def test_validation_scores_the_selection_metric(selection):
    result = text.validation_score(Scribe(TEXTS), SPLIT, load(), config(selection=selection))
    assert result == pytest.approx(text.evaluate(Scribe(TEXTS), SPLIT, load(), config()).metrics[selection])


def test_numbers_do_not_depend_on_the_batch_size_or_the_order_of_examples():
    metrics = text.evaluate(Scribe(TEXTS), SPLIT, load(), config()).metrics
    small = text.evaluate(Scribe(TEXTS), SPLIT, load(), config(batch_size=1)).metrics
    reversed_order = text.evaluate(Scribe(TEXTS), SPLIT, load()[np.array([1, 0])], config()).metrics
    assert small == pytest.approx(metrics, abs=1e-12)
    assert reversed_order == pytest.approx(metrics, abs=1e-12)
