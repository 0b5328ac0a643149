"""The ranking tasks: sequential (the whole catalogue) and direct (sampled candidates)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from llm4rec_cli.capabilities import Ranker
from llm4rec_cli.data.candidates import with_candidates
from llm4rec_cli.data.controls import controlled_examples
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError, RunError
from llm4rec_cli.evaluation.beyond_accuracy import by_frequency, coverage
from llm4rec_cli.evaluation.bootstrap import bootstrap_intervals
from llm4rec_cli.evaluation.ranking import ranking_metrics
from llm4rec_cli.progress import track
from llm4rec_cli.schema import Candidates, Config, Part


@dataclass(frozen=True)
class Ranking:
    """Where each example's target came out.

    Attributes:
        n_better: (n,) how many other items score above the target.
        n_tied: (n,) how many items share its score, itself included.
        top_items: (n, k) the item numbers with the highest scores, best first.
    """

    n_better: IntArray
    n_tied: IntArray
    top_items: IntArray


@dataclass(frozen=True)
class Evaluation:
    """A task's answers, scored.

    Attributes:
        metrics: name -> mean over examples.
        intervals: name -> 95 % bootstrap interval over users.
        breakdown: aspect -> group -> metrics of the examples in it, with their number `n`.
        predictions: one row an example.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    breakdown: dict[str, dict[str, dict[str, float]]]
    predictions: pd.DataFrame


def examples(split: Split, part: Part, config: Config, cache: Path) -> Examples:
    """What the task asks: the part's examples, with candidates if they are sampled, under the dataset's control.

    Raises:
        DataError: the part holds no example.
    """
    task, dataset = config.task, config.dataset
    found = split.examples(part)
    if len(found) == 0:
        why = "no user has three interactions"
        if split.dataset.impressions is not None:
            why = "it is a click log, and no task asks about impressions yet"
        raise DataError(f"dataset {dataset.name} has no {part.name} examples: {why}", "llm4rec list datasets")
    if task.candidates != Candidates.full:
        found = with_candidates(found, split, task.candidates, task.negatives, dataset.seed, cache)
    found = controlled_examples(found, dataset.control, dataset.seed)
    if task.max_examples is not None and task.max_examples < len(found):
        chosen = stream(dataset.seed, "max_examples").permutation(len(found))[: task.max_examples]
        found = found[np.sort(chosen)]
    return found


def protocol(task: Any) -> str:
    """The protocol's name: `full`, `uniform-100`, …"""
    if task.candidates == Candidates.full:
        return "full"
    return f"{task.candidates.name}-{task.negatives + 1}"


def rank(model: Ranker, asked: Examples, mask_history: bool, top_items: int, batch_size: int) -> Ranking:
    """Ranks every target, `batch_size` examples at a time: memory holds batch_size × n_items scores, never more.

    Args:
        mask_history: items of the history cannot be recommended again (the target always can).

    Raises:
        RunError: the model's scores are not numbers.
    """
    if isinstance(model, torch.nn.Module):
        model.eval()
    parts = [
        _rank_batch(model, asked[slice(start, start + batch_size)], mask_history, top_items)
        for start in track(range(0, len(asked), batch_size), "ranking")
    ]
    return Ranking(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _rank_batch(
    model: Ranker, asked: Examples, mask_history: bool, top_items: int
) -> tuple[IntArray, IntArray, IntArray]:
    scores = model.score(asked)
    rows = torch.arange(len(asked), device=scores.device)
    if asked.candidates is None:
        column = torch.from_numpy(asked.target.astype(np.int64)).to(scores.device)
    else:
        column = torch.zeros_like(rows)
    target_score = scores[rows, column]
    if mask_history and asked.candidates is None:
        flat, offsets = asked.histories()
        user = np.repeat(np.arange(len(asked)), np.diff(offsets))
        scores[torch.from_numpy(user).to(scores.device), torch.from_numpy(flat).long().to(scores.device)] = -torch.inf
        scores[rows, column] = target_score
    n_better = (scores > target_score.unsqueeze(1)).sum(1)
    n_tied = (scores == target_score.unsqueeze(1)).sum(1)
    best_scores, best_columns = scores.topk(min(top_items, scores.shape[1]))
    if bool(best_scores.isnan().any()):  # topk puts NaN first: one anywhere in a row is seen
        raise RunError("the model's scores are not numbers: training diverged", "lower trainer.learning_rate")
    best = best_columns.cpu().numpy()
    if asked.candidates is not None:
        best = np.take_along_axis(asked.candidates, best, axis=1)
    return n_better.cpu().numpy(), n_tied.cpu().numpy(), best


def validation_score(model: Ranker, asked: Examples, config: Config) -> float:
    """The task's selection metric on these examples."""
    ranking = rank(model, asked, config.task.mask_history, 1, config.trainer.eval_batch_size)
    values = ranking_metrics(ranking.n_better, ranking.n_tied, list(config.task.cutoffs))
    return float(values[config.task.selection].mean())


def evaluate(model: Ranker, split: Split, asked: Examples, config: Config) -> Evaluation:
    """Ranks the examples and scores the ranks."""
    task = config.task
    ranking = rank(model, asked, task.mask_history, task.top_items, config.trainer.eval_batch_size)
    values = ranking_metrics(ranking.n_better, ranking.n_tied, list(task.cutoffs))
    train_count = split.train_counts()[asked.target]
    metrics = {name: float(value.mean()) for name, value in values.items()}
    metrics[f"coverage@{ranking.top_items.shape[1]}"] = coverage(ranking.top_items, split.n_items)
    item_ids = split.dataset.items["item_id"].to_numpy()
    predictions = pd.DataFrame(
        {
            "user_id": split.dataset.user_ids[asked.user],
            "target": item_ids[asked.target],
            "target_train_count": train_count,
            "history_length": asked.history_length,
            "n_better": ranking.n_better,
            "n_tied": ranking.n_tied,
            "top_items": list(item_ids[ranking.top_items]),
        }
    )
    return Evaluation(
        metrics=metrics,
        intervals=bootstrap_intervals(values, stream(config.dataset.seed, "bootstrap"), task.bootstrap),
        breakdown={"target_train_count": by_frequency(values, train_count)},
        predictions=predictions,
    )
