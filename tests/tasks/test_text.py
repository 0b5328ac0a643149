"""The writing tasks: who is asked about what, and how the answers are written down."""

import numpy as np
import pytest

from llm4rec_cli.config.schema import Config, DatasetConfig, Question, SplitName, TaskConfig, TrainerConfig, Written
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.errors import DataError
from llm4rec_cli.tasks import text
from tests.support.builders import tiny_dataset

SEQUENCES = [[0, 1, 2], [2, 1, 0], [1, 2, 0]]
EXPLANATIONS = [*("soft strap", "dull", "the strap is soft"), *("so", "so", " "), *("a", "b", "it is the best colour")]
FEATURES = [*("strap", None, "strap"), *(None, None, None), *(None, None, "colour")]
TITLES = ["Soft", "Dull", "Very soft", "So", "So", "No", "A", "B", None]
REVIEWS = [f"review {i}" for i in range(9)]
SPLIT = leave_one_out(
    tiny_dataset(SEQUENCES, explanation=EXPLANATIONS, feature=FEATURES, review_title=TITLES, review_text=REVIEWS)
)


class Scribe:
    """A text by user."""

    def __init__(self, texts):
        self.texts, self.asked_for = texts, set()

    def write(self, examples, written):
        self.asked_for.add(written)
        return [self.texts[user] for user in examples.user]


SAID = ["The strap is soft", "never mind", "it is the worst color"]


def config(written=Written.explanation, batch_size=2, **task):
    settings = {"selection": "rouge1", "bootstrap": 50} | task
    return Config(
        dataset=DatasetConfig(name="tiny"),
        task=TaskConfig("any", Question.write, written=written, **settings),
        trainer=TrainerConfig(eval_batch_size=batch_size),
    )


def asked(split=SPLIT, **task):
    return text.examples(split, SplitName.test, config(**task), None)


def test_an_interaction_without_such_a_text_is_not_asked_about():
    assert asked().user.tolist() == [0, 2]  # of the second user there are only blanks
    assert asked(written=Written.review_title).user.tolist() == [0, 1]


def test_a_heading_is_asked_of_a_review():
    reviews = [*REVIEWS[:5], None]
    split = leave_one_out(tiny_dataset(SEQUENCES[:2], review_title=TITLES[:6], review_text=reviews))
    assert asked(split, written=Written.review_title).user.tolist() == [0]


def test_a_part_without_such_texts_is_refused():
    with pytest.raises(DataError, match="no test examples with 'explanation'"):
        asked(leave_one_out(tiny_dataset([[0, 1, 2]], explanation=["so", "so", None])))


def test_scores_by_hand():
    found = text.evaluate(Scribe(SAID), SPLIT, asked(), config())
    assert found.metrics["rouge1"] == pytest.approx((1 + 3 / 5) / 2)  # it, is, the, of five words in each
    assert found.metrics["feature_match"] == 0.5
    assert found.metrics["unique_sentences"] == 1
    assert found.metrics["mean_length"] == 4.5
    assert set(found.intervals) == {"bleu2", "bleu4", "rouge1", "rouge2", "rougeL", "feature_match"}
    assert "bleu4" in found.signatures


def test_a_model_is_asked_for_the_column_that_it_is_compared_with():
    scribe, of_titles = Scribe(SAID), config(Written.review_title)
    found = text.evaluate(scribe, SPLIT, asked(written=Written.review_title), of_titles)
    assert scribe.asked_for == {Written.review_title}
    assert found.predictions["reference"].tolist() == ["Very soft", "No"]
    assert "feature_match" not in found.metrics
    assert text.protocol(of_titles.task) == "review_title"


def test_predictions_hold_one_row_an_example_with_raw_ids():
    rows = text.evaluate(Scribe(SAID), SPLIT, asked(), config()).predictions
    assert rows["user_id"].tolist() == ["u0", "u2"]
    assert rows["target"].tolist() == ["i2", "i0"]
    assert rows["reference"].tolist() == ["the strap is soft", "it is the best colour"]
    assert rows["prediction"].tolist() == ["The strap is soft", "it is the worst color"]
    assert rows["feature"].tolist() == ["strap", "colour"]


@pytest.mark.parametrize("selection", ["rouge1", "bleu2", "distinct1"])
def test_validation_scores_the_selection_metric(selection):
    found = text.validation_score(Scribe(SAID), SPLIT, asked(), config(selection=selection))
    assert found == pytest.approx(text.evaluate(Scribe(SAID), SPLIT, asked(), config()).metrics[selection])


def test_numbers_do_not_depend_on_the_batch_size_or_the_order_of_examples():
    whole = text.evaluate(Scribe(SAID), SPLIT, asked(), config()).metrics
    small = text.evaluate(Scribe(SAID), SPLIT, asked(), config(batch_size=1)).metrics
    turned = text.evaluate(Scribe(SAID), SPLIT, asked()[np.array([1, 0])], config()).metrics
    assert small == pytest.approx(whole, abs=1e-12)
    assert turned == pytest.approx(whole, abs=1e-12)
