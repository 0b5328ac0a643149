"""What the commands ask of every task, whatever its question; free of torch.

A task's module offers `examples`, `evaluate`, `validation_score` and `protocol`, alike in all of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llm4rec_cli import processes
from llm4rec_cli.config.schema import Candidates, Question, SplitName, SplitRule
from llm4rec_cli.data.controls import AnyExamples, controlled_examples
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError
from llm4rec_cli.evaluation.metrics import Kind, selectable
from llm4rec_cli.llm.requests import Status
from llm4rec_cli.progress import track

if TYPE_CHECKING:
    from llm4rec_cli.capabilities import BatchAnswering
    from llm4rec_cli.data.examples import Examples
    from llm4rec_cli.data.recdataset import RecDataset
    from llm4rec_cli.data.split import Split

T = TypeVar("T")

WHERE = {  # there is such a column
    "rating": "demo, Amazon and MovieLens datasets have them, and your own table where a column is mapped to rating",
    "explanation": "demo has them, and so have Amazon reviews: from a file, or found in their texts",
    "review_title": "demo and Amazon reviews have them",
    "review_text": "demo and Amazon reviews have them",
}


@dataclass(frozen=True)
class Evaluation:
    """A task's answers, scored.

    Attributes:
        metrics: name -> mean over examples, or what else is made of them all.
        intervals: name -> 95 % bootstrap interval over users.
        breakdown: aspect -> group -> metrics of the examples in it, with their number `n`.
        predictions: one row an example.
        signatures: name -> how it is computed, where that has settings.
        warnings: what a reader of the numbers must know, a sentence each.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    breakdown: dict[str, dict[str, dict[str, float]]]
    predictions: pd.DataFrame
    signatures: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def module(task: Any) -> Any:
    """The module that asks the task's question. Of what is trained but not asked, a ranking is the probe."""
    if asks_about_impressions(task):
        return importlib.import_module("llm4rec_cli.tasks.impressions")
    name = {Question.rate: "rating", Question.write: "text", Question.all: "loss"}.get(task.question, "ranking")
    return importlib.import_module(f"llm4rec_cli.tasks.{name}")


def asks_about_impressions(task: Any) -> bool:
    """Whether the task asks about what users were shown, as click logs have it, and not about interactions."""
    return bool(task.question == Question.rank and task.candidates == Candidates.impression)


def metric_names(task: Any) -> set[str]:
    """The metrics that every model has on this task: those that it can select by."""
    asked = {Question.rate: Kind.rating, Question.write: Kind.text, Question.all: Kind.loss}
    kind = Kind.impression if asks_about_impressions(task) else asked.get(task.question, Kind.ranking)
    return selectable(kind, task.cutoffs)


def asked_column(task: Any) -> str | None:
    """The column of the interactions that the answers are compared with; None for a ranking."""
    if task.question == Question.rate:
        return "rating"
    return str(task.written.value) if task.question == Question.write else None


def problems_with_dataset(task: Any, dataset: RecDataset) -> Iterator[DataError]:
    """Data that the task cannot ask about: no interaction has what the answers are compared with, or what they are
    about."""
    for column in _needed_columns(task):
        if column == "explanation" and _has(dataset, "review_text").any():
            continue  # some will be found in the reviews
        if not _has(dataset, column).any():
            yield DataError(
                f"task '{task.name}' needs interactions with '{column}', and dataset '{dataset.manifest['name']}' has "
                "none",
                WHERE[column],
            )


def _needed_columns(task: Any) -> tuple[str, ...]:
    """What an interaction must have to be asked about: a heading is asked of a review."""
    column = asked_column(task)
    if column is None:
        return ()
    return (column, "review_text") if column == "review_title" else (column,)


def _has(dataset: RecDataset, column: str) -> NDArray[np.bool_]:
    """(n_interactions,) which interactions have something in a column: a number, or text that is not blank."""
    if column not in dataset.interactions:
        return np.zeros(len(dataset.interactions), dtype=bool)
    values = dataset.interactions[column]
    if column == "rating":
        return values.notna().to_numpy()
    return (values.fillna("").str.strip() != "").to_numpy(dtype=bool)


def part_examples(split: Split, part: SplitName, config: Any) -> Examples:
    """The part's examples that the task can ask about.

    Raises:
        DataError: there is none.
    """
    found = split.examples(part)
    name = config.dataset.name
    if len(found) == 0:
        why = "no user has three interactions"
        if config.dataset.split == SplitRule.temporal:
            why = "no user with a history comes back in that period"
        raise DataError(f"dataset {name} has no {part.name} examples: {why}", "llm4rec list datasets")
    for column in _needed_columns(config.task):
        found = found[np.flatnonzero(_has(split.dataset, column)[found.row])]
        if len(found) == 0:
            raise DataError(f"dataset {name} has no {part.name} examples with '{column}'", WHERE[column])
    return found


def limited(found: AnyExamples, config: Any) -> AnyExamples:
    """The examples under the dataset's control, `task.max_examples` of them at most."""
    found = controlled_examples(found, config.dataset.control, config.dataset.seed)
    return subset(found, config.task.max_examples, config.dataset.seed, "max_examples")


def subset(found: AnyExamples, n: int | None, seed: int, name: str) -> AnyExamples:
    """n of the examples, in their order, drawn by (seed, name); all where there are no more, or n is None."""
    if n is None or n >= len(found):
        return found
    return found[np.sort(stream(seed, name).permutation(len(found))[:n])]


def answers(model: Any, asked: Examples, batch_size: int, ask: Callable[[Examples], T], doing: str) -> list[T]:
    """What `ask` gives of each batch of examples, in order; several processes ask a share each and know all in the end.

    Args:
        doing: what progress is called.
    """
    import torch

    if isinstance(model, torch.nn.Module):
        model.eval()
    share = processes.share(len(asked))
    starts = range(share.start, share.stop, batch_size)
    batches = [asked[start : min(start + batch_size, share.stop)] for start in starts]
    given = [ask(batch) for batch in track(batches, doing)]
    return [answer for of_share in processes.gathered(given) for answer in of_share]


def accounted(
    evaluation: Evaluation, model: BatchAnswering, task: Any, split: Split, asked: Examples, config: Any
) -> Evaluation:
    """An evaluation with what the model says of its answers: beside each prediction; as shares of all answers
    (`answers/…`) and of all that they list (`listed/…`); and all metrics over the valid ones alone (`valid/…`)."""
    told = model.answer_details(asked)
    if "status" not in told:
        return evaluation
    shares = {f"answers/{status.value}": float((told["status"] == status.value).mean()) for status in Status}
    if "n_listed" in told:
        listed = max(1, int(told["n_listed"].sum()))
        kinds = [name for name in map(str, told) if name.startswith("n_") and name != "n_listed"]
        shares |= {f"listed/{name.removeprefix('n_')}": float(told[name].sum() / listed) for name in kinds}
        shares["listed/mean"] = float(told["n_listed"].mean())
    if "first_place" in told:
        shares["listed/first_place"] = float(told["first_place"].mean())
    valid = np.flatnonzero(told["status"] != Status.invalid.value)
    intervals = dict(evaluation.intervals)
    if len(valid):
        alone = evaluation if len(valid) == len(asked) else task.evaluate(model, split, asked[valid], config)
        shares |= {f"valid/{name}": value for name, value in alone.metrics.items() if "/" not in name}
        intervals |= {f"valid/{name}": bounds for name, bounds in alone.intervals.items() if "/" not in name}
    predictions = pd.concat([evaluation.predictions, told], axis=1)
    return replace(evaluation, metrics=evaluation.metrics | shares, intervals=intervals, predictions=predictions)


def asked_about(split: Split, asked: Examples) -> pd.DataFrame:
    """One row an example: its user and target by raw id, the target's training interactions, and whether it was held
    out of training where anything was."""
    rows = pd.DataFrame(
        {
            "user_id": split.dataset.user_ids[asked.user],
            "target": split.dataset.items["item_id"].to_numpy()[asked.target],
            "target_train_count": split.train_counts()[asked.target],
        }
    )
    return rows if split.cold is None else rows.assign(target_is_cold=split.cold[asked.target])
