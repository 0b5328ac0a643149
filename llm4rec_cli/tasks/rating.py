"""The rating task: how many stars does this user give this item?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.capabilities import Rater, Ratings
from llm4rec_cli.config.schema import Config, SplitName
from llm4rec_cli.data.examples import Examples
from llm4rec_cli.data.split import TRAIN, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import RunError
from llm4rec_cli.evaluation.beyond_accuracy import by_group_of_sums, frequency_groups
from llm4rec_cli.evaluation.bootstrap import bootstrap_of_sums
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.evaluation.rating import majority_metrics, rating_columns, rating_metrics
from llm4rec_cli.tasks.base import Evaluation, answers, asked_about, limited, part_examples


def examples(split: Split, part: SplitName, config: Config, cache: Path) -> Examples:
    """What the task asks: the part's examples with a rating, under the dataset's control.

    Raises:
        DataError: the part holds none.
    """
    return limited(part_examples(split, part, config), config)


def protocol(task: Any) -> str:
    """The protocol's name: the column that answers are compared with."""
    return "rating"


def rate(model: Rater, asked: Examples, batch_size: int) -> Ratings:
    """The model's ratings of all examples, at most `batch_size` at a time.

    Raises:
        RunError: they are not numbers.
    """
    given = answers(model, asked, batch_size, model.rate, "rating")
    value = np.concatenate([ratings.value for ratings in given])
    if not np.isfinite(value).all():
        raise RunError("the model's ratings are not numbers: training diverged", "lower trainer.learning_rate")
    said = [ratings.parsed for ratings in given if ratings.parsed is not None]
    return Ratings(value, np.concatenate(said) if said else None)


def validation_score(model: Rater, split: Split, asked: Examples, config: Config) -> float:
    """The task's selection metric on these examples, an error negated: higher is better."""
    ratings = rate(model, asked, config.trainer.eval_batch_size)
    columns = rating_columns(given_ratings(split)[asked.row], ratings.value)
    metrics = rating_metrics({name: column.sum() for name, column in columns.items()})
    return direction(config.task.selection) * float(metrics[config.task.selection])


def evaluate(model: Rater, split: Split, asked: Examples, config: Config) -> Evaluation:
    """Asks for the ratings and scores them.

    They stand apart by the rating that was given and by how often the item occurs in training; in the breakdown
    `majority` is what always giving training's commonest answer gets.
    """
    ratings = rate(model, asked, config.trainer.eval_batch_size)
    given = given_ratings(split)
    rating = given[asked.row]
    columns = rating_columns(rating, ratings.value, ratings.parsed)
    (whole,) = by_group_of_sums(columns, rating_metrics, {"all": np.ones(len(asked), dtype=bool)}).values()
    del whole["n"]
    rng = stream(config.dataset.seed, "bootstrap")
    intervals = bootstrap_of_sums(columns, rating_metrics, asked.user, rng, config.task.bootstrap)
    predictions = asked_about(split, asked)
    by_rating = {f"{stars:g}": rating == stars for stars in np.unique(rating)}
    groups = frequency_groups(predictions["target_train_count"].to_numpy())
    trained_on = given[split.assignment == TRAIN]
    breakdown = {
        "rating": by_group_of_sums(columns, rating_metrics, by_rating),
        "target_train_count": by_group_of_sums(columns, rating_metrics, groups),
        "majority": {"all": majority_metrics(rating, trained_on[~np.isnan(trained_on)])},
    }
    predictions["rating"], predictions["prediction"] = rating, ratings.value
    if ratings.parsed is not None:
        predictions["said"] = ratings.parsed
    return Evaluation(whole, intervals, breakdown, predictions)


def given_ratings(split: Split) -> NDArray[np.float64]:
    """(n_interactions,) what users gave; NaN where there is no rating."""
    return split.dataset.interactions["rating"].to_numpy(dtype=np.float64)
