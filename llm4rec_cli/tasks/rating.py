"""The rating task: predict the stars that a user gave an item."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.capabilities import Rater, Ratings
from llm4rec_cli.config.schema import Config, TaskConfig
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.evaluation.beyond_accuracy import by_group_of_sums, of_sums
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.evaluation.rating import majority_metrics, rating_columns, rating_metrics, rating_values
from llm4rec_cli.tasks import base
from llm4rec_cli.tasks.base import Evaluation, answer_in_batches, diverged, evaluation_of_sums

examples = base.examples


def protocol(task: TaskConfig) -> str:
    return "rating"


def rate(model: Rater, examples: Examples, batch_size: int) -> Ratings:
    """Return the model's ratings of all examples, at most `batch_size` at a time. Raises RunError if a rating is not
    finite."""
    batches = answer_in_batches(model, examples, batch_size, model.rate, "rating")
    value = np.concatenate([ratings.value for ratings in batches])
    if not np.isfinite(value).all():
        raise diverged("ratings")
    parsed = [ratings.parsed for ratings in batches if ratings.parsed is not None]
    published = [ratings.parsed_as_published for ratings in batches if ratings.parsed_as_published is not None]
    return Ratings(value, *(np.concatenate(numbers) if numbers else None for numbers in (parsed, published)))


def per_example(model: Rater, split: Split, examples: Examples, config: Config) -> dict[str, NDArray[np.floating[Any]]]:
    """Return (n,) values of each metric that is a mean over examples."""
    ratings = rate(model, examples, config.trainer.eval_batch_size)
    return rating_values(true_ratings(split)[examples.row], ratings.value)


def validation_score(model: Rater, split: Split, examples: Examples, config: Config) -> float:
    """Return the task's selection metric on these examples, errors negated: higher is better."""
    ratings = rate(model, examples, config.trainer.eval_batch_size)
    columns = rating_columns(true_ratings(split)[examples.row], ratings.value)
    return direction(config.task.selection) * of_sums(columns, rating_metrics)[config.task.selection]


def evaluate(model: Rater, split: Split, examples: Examples, config: Config) -> Evaluation:
    """Predict the ratings and score them.

    The breakdown is by true rating and by the item's training frequency; `majority` is the score of always predicting
    the most frequent training rating.
    """
    ratings = rate(model, examples, config.trainer.eval_batch_size)
    all_ratings = true_ratings(split)
    rating = all_ratings[examples.row]
    columns = rating_columns(rating, ratings.value, ratings.parsed, ratings.parsed_as_published)
    result = evaluation_of_sums(columns, rating_metrics, split, examples, config)
    by_rating = {f"{stars:g}": rating == stars for stars in np.unique(rating)}
    train_ratings = all_ratings[split.assignment == TRAIN]
    breakdown = {
        "rating": by_group_of_sums(columns, rating_metrics, by_rating),
        **result.breakdown,
        "majority": {"all": majority_metrics(rating, train_ratings[~np.isnan(train_ratings)])},
    }
    parsed = {"said": ratings.parsed, "said_paper": ratings.parsed_as_published}
    answers = {name: numbers for name, numbers in parsed.items() if numbers is not None}
    answers |= rating_values(rating, ratings.value)
    predictions = result.predictions.assign(rating=rating, prediction=ratings.value, **answers)
    return replace(result, breakdown=breakdown, predictions=predictions)


def true_ratings(split: Split) -> NDArray[np.float64]:
    """Return (n_interactions,) the users' ratings; NaN where there is none."""
    return split.dataset.interactions["rating"].to_numpy(dtype=np.float64)
