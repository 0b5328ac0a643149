"""The rating task: predict the stars that a user gave an item."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.capabilities import Rater, Ratings
from llm4rec_cli.config.schema import Config, TaskConfig
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.evaluation.beyond_accuracy import by_group_of_sums, frequency_groups, of_sums
from llm4rec_cli.evaluation.bootstrap import bootstrap_of_sums
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.evaluation.rating import majority_metrics, rating_columns, rating_metrics, rating_values
from llm4rec_cli.tasks import base
from llm4rec_cli.tasks.base import Evaluation, answer_in_batches, diverged, example_rows

examples = base.examples


def protocol(task: TaskConfig) -> str:
    """Return the protocol's name: the column that predictions are compared with."""
    return "rating"


def rate(model: Rater, examples: Examples, batch_size: int) -> Ratings:
    """Return the model's ratings of all examples, at most `batch_size` at a time.

    Raises:
        RunError: a rating is not finite.
    """
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
    overall = of_sums(columns, rating_metrics)
    rng = stream(config.dataset.seed, "bootstrap")
    intervals = bootstrap_of_sums(columns, rating_metrics, examples.user, rng, config.task.bootstrap)
    predictions = example_rows(split, examples)
    by_rating = {f"{stars:g}": rating == stars for stars in np.unique(rating)}
    groups = frequency_groups(predictions["target_train_count"].to_numpy())
    train_ratings = all_ratings[split.assignment == TRAIN]
    breakdown = {
        "rating": by_group_of_sums(columns, rating_metrics, by_rating),
        "target_train_count": by_group_of_sums(columns, rating_metrics, groups),
        "majority": {"all": majority_metrics(rating, train_ratings[~np.isnan(train_ratings)])},
    }
    predictions["rating"], predictions["prediction"] = rating, ratings.value
    if ratings.parsed is not None:
        predictions["said"] = ratings.parsed
    if ratings.parsed_as_published is not None:
        predictions["said_paper"] = ratings.parsed_as_published
    return Evaluation(overall, intervals, breakdown, predictions)


def true_ratings(split: Split) -> NDArray[np.float64]:
    """Return (n_interactions,) the users' ratings; NaN where there is none."""
    return split.dataset.interactions["rating"].to_numpy(dtype=np.float64)
