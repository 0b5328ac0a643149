"""The task of impressions: of the items that a user was shown together, which did they click?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from llm4rec_cli import processes
from llm4rec_cli.capabilities import ImpressionRanker
from llm4rec_cli.config.schema import Config, EmptyHistory, SplitName
from llm4rec_cli.data.examples import Impressions
from llm4rec_cli.data.split import SPLIT_CODES, Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import DataError, RunError
from llm4rec_cli.evaluation.beyond_accuracy import by_group
from llm4rec_cli.evaluation.bootstrap import bootstrap_intervals
from llm4rec_cli.evaluation.impressions import impression_metrics
from llm4rec_cli.progress import track
from llm4rec_cli.tasks.base import Evaluation, limited


def examples(split: Split, part: SplitName, config: Config, cache: Path) -> Impressions:
    """What the task asks: the part's impressions that can be ranked, under the dataset's control; those without a
    history only where `dataset.empty_history` keeps them.

    Raises:
        DataError: there is none.
    """
    found = split.impressions(SPLIT_CODES[part])
    kept = found.rankable
    if config.dataset.empty_history == EmptyHistory.skip:
        kept &= found.history_length > 0
    if not kept.any():
        raise DataError(
            f"dataset {config.dataset.name} has no {part.name} impression to rank: each needs an item that was clicked "
            "and one that was not, and, where dataset.empty_history=skip, a history",
            "llm4rec list datasets",
        )
    return limited(found[np.flatnonzero(kept)], config)


def protocol(task: Any) -> str:
    """The protocol's name: what a click is ranked among."""
    return "impression"


def score(model: ImpressionRanker, asked: Impressions, batch_size: int) -> NDArray[np.float32]:
    """(total,) scores of all items shown, in the order of `asked.shown()`.

    Whole impressions go together, with about `batch_size` items. Several processes score a share each, of about as many
    items, and know all scores in the end.

    Raises:
        RunError: they are not numbers.
    """
    if isinstance(model, torch.nn.Module):
        model.eval()
    begins = np.cumsum(asked.n_shown) - asked.n_shown
    share = processes.share(int(asked.n_shown.sum()))
    mine = np.flatnonzero((share.start <= begins) & (begins < share.stop))
    batches = np.split(mine, np.flatnonzero(np.diff(begins[mine] // batch_size)) + 1)
    given = [model.score_shown(asked[batch]).cpu().numpy() for batch in track(batches, "ranking") if len(batch)]
    scores = np.concatenate([of_batch for of_share in processes.gathered(given) for of_batch in of_share])
    if np.isnan(scores).any():
        raise RunError("the model's scores are not numbers: training diverged", "lower trainer.learning_rate")
    return scores


def validation_score(model: ImpressionRanker, split: Split, asked: Impressions, config: Config) -> float:
    """The task's selection metric on these impressions; higher is better."""
    values = _values(score(model, asked, config.trainer.eval_batch_size), asked, config)
    return float(values[config.task.selection].mean())


def evaluate(model: ImpressionRanker, split: Split, asked: Impressions, config: Config) -> Evaluation:
    """Ranks the items of each impression and scores the ranks of its clicks.

    `unseen_candidates` is the share of all items shown that occur nowhere in the training part. Impressions stand apart
    by how many of their clicks occur there, and by whether there is a history.
    """
    scores = score(model, asked, config.trainer.eval_batch_size)
    values = _values(scores, asked, config)
    shown, offsets = asked.shown()
    clicked, met = asked.clicked(), split.seen_in_training()[shown]
    row = np.repeat(np.arange(len(asked)), asked.n_shown)
    n_unseen = np.bincount(row[~met], minlength=len(asked))
    clicks_met = np.bincount(row[clicked & met], minlength=len(asked))
    whole, none = clicks_met == asked.n_clicks, clicks_met == 0
    cuts = offsets[1:-1]
    predictions = pd.DataFrame(
        {
            "impression_id": asked.id,
            "user_id": split.dataset.user_ids[asked.user],
            "history_length": asked.history_length,
            "n_shown": asked.n_shown,
            "n_clicks": asked.n_clicks,
            "items": np.split(split.dataset.items["item_id"].to_numpy()[shown], cuts),
            "clicked": np.split(clicked, cuts),
            "scores": np.split(scores, cuts),
            **values,
            "unseen_candidates": n_unseen / asked.n_shown,
        }
    )
    return Evaluation(
        metrics={name: float(value.mean()) for name, value in values.items()}
        | {"unseen_candidates": float(n_unseen.sum() / len(shown))},
        intervals=bootstrap_intervals(values, stream(config.dataset.seed, "bootstrap"), config.task.bootstrap),
        breakdown={
            "clicks_seen": by_group(values, {"all": whole, "some": ~whole & ~none, "none": none}),
            "history": by_group(values, {"some": asked.history_length > 0, "none": asked.history_length == 0}),
        },
        predictions=predictions,
        warnings=_left_out(split, config),
    )


def _values(scores: NDArray[np.float32], asked: Impressions, config: Config) -> dict[str, NDArray[np.floating[Any]]]:
    return impression_metrics(scores, asked.shown()[1], asked.clicked(), list(config.task.cutoffs))


def _left_out(split: Split, config: Config) -> list[str]:
    """What `examples` leaves out of the part that is asked about, in words."""
    part = split.impressions(SPLIT_CODES[config.split])
    skipped = part.rankable & (part.history_length == 0) & (config.dataset.empty_history == EmptyHistory.skip)
    reasons = {
        "cannot be ranked, with no click or with nothing but clicks": ~part.rankable,
        "are skipped, with an empty history": skipped,
    }
    return [
        f"{which.sum():,} of {len(part):,} {config.split.name} impressions {why}"
        for why, which in reasons.items()
        if which.any()
    ]
