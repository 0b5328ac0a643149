"""What all tasks share: their metrics, eligible examples, batched answers; free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import pandas as pd

from llm4rec_cli import processes
from llm4rec_cli.config import questions
from llm4rec_cli.config.schema import Candidates, Config, Question, SeenItems, SplitName, SplitRule, TaskConfig
from llm4rec_cli.data.controls import AnyExamples, controlled_examples
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError, RunError
from llm4rec_cli.evaluation.beyond_accuracy import by_group_of_sums, frequency_groups, of_sums
from llm4rec_cli.evaluation.bootstrap import FloatArray, MetricsOfSums, bootstrap_of_sums
from llm4rec_cli.evaluation.metrics import Kind, selectable
from llm4rec_cli.progress import track

if TYPE_CHECKING:
    from llm4rec_cli.capabilities import BatchAnswering
    from llm4rec_cli.data.examples import Examples
    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.data.split import Split

T = TypeVar("T")

COLUMN_SOURCES = {  # which datasets have the column
    "rating": "demo, Amazon and MovieLens datasets have them, and your own table where a column is mapped to rating",
    "explanation": "demo has them; for Amazon reviews they come from a file or are extracted from the review texts",
    "review_title": "demo and Amazon reviews have them",
    "review_text": "demo and Amazon reviews have them",
}


@dataclass(frozen=True)
class Evaluation:
    """The scored answers of a task.

    Attributes:
        metrics: name -> mean over examples, or a statistic of all examples.
        intervals: name -> 95 % bootstrap interval over users.
        breakdown: aspect -> group -> metrics of its examples, with their number `n`.
        signatures: name -> how the metric is computed, for metrics with settings.
        warnings: sentences that a reader of the metrics must know.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    breakdown: dict[str, dict[str, dict[str, float]]]
    predictions: pd.DataFrame
    signatures: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def ranks_impressions(task: TaskConfig) -> bool:
    """Return whether the task ranks the items of impressions (click logs), not of interactions."""
    return task.question == Question.rank and task.candidates == Candidates.impression


def is_zeroed(task: TaskConfig) -> bool:
    """Return whether items of the history are ranked with a score of 0."""
    return bool(task.mask_history) and task.seen_items == SeenItems.zeroed


def metric_names(task: TaskConfig) -> set[str]:
    """Return the metrics that every model has on this task, and that can select checkpoints."""
    if task.question not in Question.__members__:
        return selectable(task.question, task.cutoffs)
    kinds: dict[str, str] = {Question.rate: Kind.rating, Question.write: Kind.text, Question.all: Kind.loss}
    kind = Kind.impression if ranks_impressions(task) else kinds.get(task.question, Kind.ranking)
    return selectable(kind, task.cutoffs)


def reference_column(task: TaskConfig) -> str | None:
    """Return the column of the interactions that answers are compared with; None for a ranking."""
    if module := questions.offered_module(task.question):
        return cast("str | None", module.COLUMN)
    if task.question == Question.rate:
        return "rating"
    return task.written.value if task.question == Question.write and task.written else None


def problems_with_dataset(task: TaskConfig, dataset: RecDataset) -> Iterator[DataError]:
    """Yield the columns that the task needs and that are empty for all interactions of the dataset."""
    for column in _needed_columns(task):
        if column == "explanation" and dataset.has_value("review_text").any():
            continue  # explanations will be extracted from the reviews
        if not dataset.has_value(column).any():
            yield DataError(
                f"task '{task.name}' needs interactions with '{column}', and dataset '{dataset.manifest['name']}' has "
                "none",
                COLUMN_SOURCES.get(column, "llm4rec list datasets; or your own table, by dataset.columns"),
            )


def _needed_columns(task: TaskConfig) -> tuple[str, ...]:
    """Return the columns that an interaction needs to be an example: a review title is predicted from the review."""
    column = reference_column(task)
    if column is None:
        return ()
    return (column, "review_text") if column == "review_title" else (column,)


def eligible_examples(split: Split, split_name: SplitName, config: Config) -> Examples:
    """Return the examples of one split that have the columns the task needs.

    Raises:
        DataError: there are none.
    """
    examples = split.examples(split_name)
    dataset = config.dataset.name
    if len(examples) == 0:
        most = np.diff(split.dataset.offsets).max(initial=0)
        reason = f"no user has three interactions (most: {most})"
        remedy = "take a longer log, or check that the column read as user_id holds users (dataset.columns)"
        if config.dataset.split == SplitRule.temporal:
            reason = "no user with a history comes back in that period"
            remedy = "choose other dataset.cuts, or dataset.split=leave_one_out"
        raise DataError(f"dataset {dataset} has no {split_name.name} examples: {reason}", remedy)
    for column in _needed_columns(config.task):
        examples = examples[np.flatnonzero(split.dataset.has_value(column)[examples.row])]
        if len(examples) == 0:
            problem = f"dataset {dataset} has no {split_name.name} examples with '{column}'"
            raise DataError(
                problem, COLUMN_SOURCES.get(column, "llm4rec list datasets; or your own table, by dataset.columns")
            )
    return examples


def limit_examples(examples: AnyExamples, config: Config) -> AnyExamples:
    """Return at most `task.max_examples` of the examples, with `dataset.control` applied."""
    examples = controlled_examples(examples, config.dataset.control, config.dataset.seed)
    return subset(examples, config.task.max_examples, config.dataset.seed, "max_examples")


def examples(split: Split, split_name: SplitName, config: Config, cache: Path) -> Examples:
    """Return the examples of one split that have what the task asks for, at most `task.max_examples`, with
    `dataset.control` applied: of the rating and text tasks, and of one training for all.

    Raises:
        DataError: there are none.
    """
    return limit_examples(eligible_examples(split, split_name, config), config)


def subset(examples: AnyExamples, n: int | None, seed: int, name: str) -> AnyExamples:
    """Return n of the examples, in their order, drawn by (seed, name); all if n is None or not below their number."""
    if n is None or n >= len(examples):
        return examples
    return examples[np.sort(stream(seed, name).permutation(len(examples))[:n])]


def to_evaluation(model: Any) -> None:
    """Turn off dropout and the like. A model without weights has none."""
    import torch

    if isinstance(model, torch.nn.Module):
        model.eval()


def diverged(what: str) -> RunError:
    """Return the error for answers of a model that are not finite, such as its `scores`."""
    return RunError(f"the model's {what} are not numbers: training diverged", "lower trainer.learning_rate")


def answer_in_batches(
    model: Any, examples: Examples, batch_size: int, answer: Callable[[Examples], T], description: str
) -> list[T]:
    """Return `answer(batch)` for each batch of the examples, in order, with `description` as label of the progress bar.

    Several processes answer a share each, and every process returns all answers.
    """
    to_evaluation(model)
    share = processes.share(len(examples))
    starts = range(share.start, share.stop, batch_size)
    batches = [examples[start : min(start + batch_size, share.stop)] for start in starts]
    answers = [answer(batch) for batch in track(batches, description)]
    return [batch for shared in processes.gathered(answers) for batch in shared]


def with_answer_details(
    evaluation: Evaluation, model: BatchAnswering, task_module: Any, split: Split, examples: Examples, config: Config
) -> Evaluation:
    """Add to an evaluation how the model's answers were read, and the metrics of valid answers alone (`valid/…`)."""
    if (details := model.answer_details(examples)) is None:
        return evaluation
    metrics, intervals = evaluation.metrics | details.metrics, dict(evaluation.intervals)
    valid = np.flatnonzero(details.valid)
    if len(valid):
        all_valid = len(valid) == len(examples)
        valid_only = evaluation if all_valid else task_module.evaluate(model, split, examples[valid], config)
        metrics |= {f"valid/{name}": value for name, value in valid_only.metrics.items() if "/" not in name}
        intervals |= {f"valid/{name}": bounds for name, bounds in valid_only.intervals.items() if "/" not in name}
    predictions = pd.concat([evaluation.predictions, details.columns], axis=1)
    return replace(evaluation, metrics=metrics, intervals=intervals, predictions=predictions)


def example_rows(split: Split, examples: Examples) -> pd.DataFrame:
    """Return one row per example: raw user and target ids, the target's number of training interactions, and, where
    items are held out of training, whether the target is one of them."""
    rows = pd.DataFrame(
        {
            "user_id": split.dataset.user_ids[examples.user],
            "target": split.dataset.items["item_id"].to_numpy()[examples.target],
            "target_train_count": split.train_counts()[examples.target],
        }
    )
    return rows if split.cold is None else rows.assign(target_is_cold=split.cold[examples.target])


def evaluation_of_sums(
    columns: Mapping[str, FloatArray], metrics: MetricsOfSums, split: Split, examples: Examples, config: Config
) -> Evaluation:
    """Return the metrics that are functions of sums over examples, by the item's training frequency too; with
    `example_rows` as predictions.

    Args:
        columns, metrics: as in `bootstrap.bootstrap_of_sums`.
    """
    rng = stream(config.dataset.seed, "bootstrap")
    intervals = bootstrap_of_sums(columns, metrics, examples.user, rng, config.task.bootstrap)
    rows = example_rows(split, examples)
    by_frequency = by_group_of_sums(columns, metrics, frequency_groups(rows["target_train_count"].to_numpy()))
    return Evaluation(of_sums(columns, metrics), intervals, {"target_train_count": by_frequency}, rows)
