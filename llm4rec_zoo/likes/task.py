"""The like task: predict whether a user will like an item, after a history of likes and dislikes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.capabilities import Liker, Likes
from llm4rec_cli.config.schema import Config, SplitName, SplitRule
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.likes import LabelledRows, labelled_rows, rated, shots
from llm4rec_cli.data.split import SPLIT_CODES, TRAIN, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.evaluation.beyond_accuracy import frequency_groups
from llm4rec_cli.evaluation.metrics import Metric
from llm4rec_cli.tasks.base import Evaluation, answer_in_batches, diverged, example_rows, limit_examples
from llm4rec_zoo.likes.metrics import like_intervals, like_metrics, like_values

COLUMN, FACTS = "rating", {"liked": "likes"}
METRICS = (
    Metric("auc_within_users", "like", for_all=False, headline=True),
    Metric("auc", "like", headline=True),
    Metric("uauc", "like", for_all=False),
    Metric("log_loss", "like", lower=True, for_all=False),
    Metric("users_with_both", "like", shown=False, for_all=False),
)


def examples(split: Split, split_name: SplitName, config: Config, cache: Path) -> Examples:
    """Return the rated interactions of one split, at most `task.max_examples`, with `dataset.control` applied.

    Raises:
        DataError: not both a like and a dislike are among them.
    """
    part, settings = SPLIT_CODES[split_name], (config.dataset.liked_above, config.task.history)
    selected = limit_examples(labelled_rows(split.for_likes(), part, *settings).examples, config)
    likes = int(_labels(split, selected, config).sum())
    if not 0 < likes < len(selected):
        raise DataError(
            f"dataset {config.dataset.name} has {likes:,} likes among {len(selected):,} {split_name.name} examples; "
            "both likes and dislikes are needed",
            f"an item is liked if its rating is above dataset.liked_above={config.dataset.liked_above:g}",
        )
    return selected


def training_rows(split: Split, config: Config) -> LabelledRows:
    """Return what a model learns from: all rated training interactions, or `task.shots` of them."""
    rows = labelled_rows(split, TRAIN, config.dataset.liked_above, config.task.history)
    return shots(rows, config.task.shots, config.seed)


def problems(config: Config) -> Iterator[UsageError]:
    """Yield a split that does not say which history an interaction has."""
    if config.dataset.split in (SplitRule.p5_reviews, SplitRule.transfer):
        yield UsageError(
            f"task '{config.task.name}' needs the history as of each interaction, which "
            f"dataset.split={config.dataset.split.name} does not have",
            "dataset.split=temporal, given or leave_one_out",
        )


def like(model: Liker, examples: Examples, batch_size: int) -> Likes:
    """Return the model's predictions for all examples, at most `batch_size` at a time. Raises RunError if a score is
    NaN."""
    batches = answer_in_batches(model, examples, batch_size, model.like, "likes")
    score = np.concatenate([likes.score for likes in batches])
    if np.isnan(score).any():
        raise diverged("scores")
    probabilities = [likes.probability for likes in batches if likes.probability is not None]
    return Likes(score, np.concatenate(probabilities) if probabilities else None)


def per_example(model: Liker, split: Split, examples: Examples, config: Config) -> dict[str, NDArray[np.floating[Any]]]:
    """Return (n,) values of each metric whose mean it is."""
    return like_values(*_answers(model, split, examples, config))


def validation_score(model: Liker, split: Split, examples: Examples, config: Config) -> float:
    """Return the task's selection metric on these examples; higher is better.

    Raises:
        DataError: they are all liked or all disliked.
    """
    metrics, selection = like_metrics(*_answers(model, split, examples, config)), config.task.selection
    if selection not in metrics:
        raise DataError(
            f"the {len(examples):,} validation examples have one label, so they have no {selection}",
            "raise trainer.valid_examples",
        )
    return metrics[selection]


def evaluate(model: Liker, split: Split, examples: Examples, config: Config) -> Evaluation:
    """Predict the likes and score them.

    The breakdown is by how often the target occurs in training, and by whether there is a history.
    """
    answers = _answers(model, split, examples, config)
    rows, metrics = example_rows(split, examples), like_metrics(*answers)
    has_history = examples.history_length > 0
    groups = {
        "target_train_count": frequency_groups(rows["target_train_count"].to_numpy()),
        "history": {"some": has_history, "none": ~has_history},
    }
    columns = {"history_length": examples.history_length, "liked": answers.liked, "score": answers.score}
    if answers.probability is not None:
        columns["probability"] = answers.probability
    n_users, n_both = len(np.unique(examples.user)), int(metrics["users_with_both"])
    return Evaluation(
        metrics,
        like_intervals(*answers, stream(config.dataset.seed, "bootstrap"), config.task.bootstrap),
        {kind: _by_group(answers, of_kind) for kind, of_kind in groups.items()},
        rows.assign(**columns, **like_values(*answers)),
        warnings=[
            f"{n_both:,} of {n_users:,} users have both a like and a dislike: auc_within_users and uauc are about these"
        ],
    )


class _Answers(NamedTuple):
    """What is scored: (n,) of each example, as `like_metrics` takes them."""

    liked: NDArray[np.bool_]
    score: NDArray[np.floating[Any]]
    user: IntArray
    probability: NDArray[np.floating[Any]] | None

    def among(self, rows: NDArray[np.bool_]) -> _Answers:
        probability = None if self.probability is None else self.probability[rows]
        return _Answers(self.liked[rows], self.score[rows], self.user[rows], probability)


def _answers(model: Liker, split: Split, examples: Examples, config: Config) -> _Answers:
    likes = like(model, examples, config.trainer.eval_batch_size)
    return _Answers(_labels(split, examples, config), likes.score, examples.user, likes.probability)


def _labels(split: Split, examples: Examples, config: Config) -> NDArray[np.bool_]:
    labels: NDArray[np.bool_] = rated(split.dataset)[examples.row] > config.dataset.liked_above
    return labels


def _by_group(answers: _Answers, groups: Mapping[str, NDArray[np.bool_]]) -> dict[str, dict[str, float]]:
    """Return the metrics among the rows of each group that has any, with their number `n`."""
    return {
        name: {"n": int(rows.sum()), **like_metrics(*answers.among(rows))}
        for name, rows in groups.items()
        if rows.any()
    }
