"""The impression task: rank the items that a user was shown together by whether they were clicked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llm4rec_cli import processes
from llm4rec_cli.capabilities import ImpressionRanker
from llm4rec_cli.config.schema import Config, EmptyHistory, SplitName, TaskConfig
from llm4rec_cli.data.examples import Impressions
from llm4rec_cli.data.split import SPLIT_CODES, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError
from llm4rec_cli.evaluation.beyond_accuracy import by_group
from llm4rec_cli.evaluation.bootstrap import bootstrap_intervals
from llm4rec_cli.evaluation.impressions import impression_metrics
from llm4rec_cli.progress import track
from llm4rec_cli.tasks.base import Evaluation, diverged, limit_examples, to_evaluation


def examples(split: Split, split_name: SplitName, config: Config, cache: Path) -> Impressions:
    """Return the rankable impressions of one split, with `dataset.control` applied; those with an empty history only if
    `dataset.empty_history` keeps them. Raises DataError if there are none."""
    impressions = split.impressions(SPLIT_CODES[split_name])
    selected = impressions.rankable
    if config.dataset.empty_history == EmptyHistory.skip:
        selected &= impressions.history_length > 0
    if not selected.any():
        raise DataError(
            f"dataset {config.dataset.name} has no {split_name.name} impression to rank: each needs an item that was "
            "clicked and one that was not, and, where dataset.empty_history=skip, a history",
            "llm4rec list datasets",
        )
    return limit_examples(impressions[np.flatnonzero(selected)], config)


def protocol(task: TaskConfig) -> str:
    """Return the protocol's name: the candidates of a click are the items of its impression."""
    return "impression"


def score(model: ImpressionRanker, impressions: Impressions, batch_size: int) -> NDArray[np.float32]:
    """Return (total,) scores of all items shown, in the order of `impressions.shown()`. Raises RunError if a score is
    NaN.

    A batch holds whole impressions, with about `batch_size` items. Several processes score a share each, with about the
    same number of items, and every process returns all scores.
    """
    to_evaluation(model)
    starts = np.cumsum(impressions.n_shown) - impressions.n_shown
    share = processes.share(int(impressions.n_shown.sum()))
    mine = np.flatnonzero((share.start <= starts) & (starts < share.stop))
    batches = np.split(mine, np.flatnonzero(np.diff(starts[mine] // batch_size)) + 1)
    scored = [model.score_shown(impressions[batch]).cpu().numpy() for batch in track(batches, "ranking") if len(batch)]
    scores = np.concatenate([batch for shared in processes.gathered(scored) for batch in shared])
    if np.isnan(scores).any():
        raise diverged("scores")
    return scores


def per_example(
    model: ImpressionRanker, split: Split, impressions: Impressions, config: Config
) -> dict[str, NDArray[np.floating[Any]]]:
    """Return (n,) values of each metric of an impression."""
    return _values(score(model, impressions, config.trainer.eval_batch_size), impressions, config)


def validation_score(model: ImpressionRanker, split: Split, impressions: Impressions, config: Config) -> float:
    """Return the task's selection metric on these impressions; higher is better."""
    return float(per_example(model, split, impressions, config)[config.task.selection].mean())


def evaluate(model: ImpressionRanker, split: Split, impressions: Impressions, config: Config) -> Evaluation:
    """Rank the items of each impression and score the ranks of its clicks.

    `unseen_candidates` is the share of all items shown that do not occur in the training split. The breakdown is by how
    many of an impression's clicked items occur there (all, some, none), and by whether it has a history.
    """
    scores = score(model, impressions, config.trainer.eval_batch_size)
    values = _values(scores, impressions, config)
    items, offsets = impressions.shown()
    clicked, seen = impressions.clicked(), split.seen_in_training()[items]
    row = np.repeat(np.arange(len(impressions)), impressions.n_shown)
    n_unseen = np.bincount(row[~seen], minlength=len(impressions))
    clicks_seen = np.bincount(row[clicked & seen], minlength=len(impressions))
    all_seen, none_seen = clicks_seen == impressions.n_clicks, clicks_seen == 0
    has_history = impressions.history_length > 0
    cuts = offsets[1:-1]
    predictions = pd.DataFrame(
        {
            "impression_id": impressions.id,
            "user_id": split.dataset.user_ids[impressions.user],
            "history_length": impressions.history_length,
            "n_shown": impressions.n_shown,
            "n_clicks": impressions.n_clicks,
            "items": np.split(split.dataset.items["item_id"].to_numpy()[items], cuts),
            "clicked": np.split(clicked, cuts),
            "scores": np.split(scores, cuts),
            **values,
            "unseen_candidates": n_unseen / impressions.n_shown,
        }
    )
    return Evaluation(
        metrics={name: float(value.mean()) for name, value in values.items()}
        | {"unseen_candidates": float(n_unseen.sum() / len(items))},
        intervals=bootstrap_intervals(
            values, stream(config.dataset.seed, "bootstrap"), config.task.bootstrap, impressions.user
        ),
        breakdown={
            "clicks_seen": by_group(values, {"all": all_seen, "some": ~all_seen & ~none_seen, "none": none_seen}),
            "history": by_group(values, {"some": has_history, "none": ~has_history}),
        },
        predictions=predictions,
        warnings=_exclusion_warnings(split, config),
    )


def _values(
    scores: NDArray[np.float32], impressions: Impressions, config: Config
) -> dict[str, NDArray[np.floating[Any]]]:
    return impression_metrics(scores, impressions.shown()[1], impressions.clicked(), list(config.task.cutoffs))


def _exclusion_warnings(split: Split, config: Config) -> list[str]:
    """Return a sentence for each reason for which `examples` excludes impressions of the evaluated split."""
    impressions = split.impressions(SPLIT_CODES[config.split])
    empty = impressions.rankable & (impressions.history_length == 0)
    reasons = {
        "cannot be ranked, with no click or with nothing but clicks": ~impressions.rankable,
        "are skipped, with an empty history": empty & (config.dataset.empty_history == EmptyHistory.skip),
    }
    return [
        f"{excluded.sum():,} of {len(impressions):,} {config.split.name} impressions {reason}"
        for reason, excluded in reasons.items()
        if excluded.any()
    ]
