"""An ensemble of finished runs on news: combines their stored scores of the same impressions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from llm4rec_cli.data.examples import Impressions
from llm4rec_cli.errors import DataError
from llm4rec_cli.models.base import Context
from llm4rec_studies.models.ensemble.config import Combine, EnsembleConfig
from llm4rec_studies.models.ensemble.lists import EnsembleOfLists, FloatArray

log = logging.getLogger(__name__)

COLUMNS = ["impression_id", "items", "scores"]


class Ensemble:
    """The combined scores of several runs, looked up by impression.

    Attributes:
        predictions: the stored scores of each run.
        scales: (runs,) what each run's scores are divided by before they are added.
    """

    def __init__(self, config: EnsembleConfig, context: Context) -> None:
        self.config = config
        self.item_ids = context.split.dataset.items["item_id"].to_numpy()
        self.predictions = [_read_predictions(folder) for folder in config.members]
        is_scaled = config.combine is Combine.sum and not are_probabilities(self.predictions)
        self.scales = np.array([scale_of(member) if is_scaled else 1.0 for member in self.predictions])
        if is_scaled:
            log.info("members' scores are not probabilities, or not of one kind: standardised within impressions")

    def artifacts(self) -> dict[str, str]:
        return self.config.members_file()

    def score_shown(self, impressions: Impressions) -> Tensor:
        items, offsets = impressions.shown()
        lists = np.split(self.item_ids[items], offsets[1:-1])
        by_member = [
            _look_up(predictions, impressions.id, lists, name)
            for predictions, name in zip(self.predictions, self.config.names, strict=True)
        ]
        if self.config.combine is Combine.rank:
            by_member = [
                np.concatenate([rankdata(part) / len(part) for part in np.split(scores, offsets[1:-1])])
                for scores in by_member
            ]
        matrix = np.stack(by_member) / self.scales[:, None]
        combined = matrix.sum(0) if self.config.combine is Combine.sum else matrix.mean(0)
        return torch.from_numpy(combined.astype(np.float32))


def are_probabilities(members: Sequence[pd.DataFrame]) -> bool:
    """Return whether the scores of all members are probabilities of one kind, which can be added as they are.

    Of a pointwise model each is a probability by itself; of a listwise one they are shares of their impression. The
    values decide: other scores that are all in [0, 1] pass as probabilities.
    """
    scores = [np.concatenate(member["scores"].to_numpy()) for member in members]
    if any(part.min() < 0 or part.max() > 1 for part in scores):
        return False
    sums = [np.array([row.sum() for row in member["scores"]]) for member in members]
    return len({bool(np.allclose(part, 1, atol=1e-3)) for part in sums}) == 1


def scale_of(member: pd.DataFrame) -> float:
    """Return the standard deviation of a member's scores within impressions."""
    centred = np.concatenate([row - row.mean() for row in member["scores"]])
    return float(centred.astype(np.float64).std().clip(min=1e-12))


def _read_predictions(folder: str) -> pd.DataFrame:
    """Return a run's predictions, indexed by impression.

    Raises:
        DataError: several impressions have one id.
    """
    predictions = pd.read_parquet(Path(folder) / "predictions.parquet", columns=COLUMNS).set_index("impression_id")
    if predictions.index.has_duplicates:
        twice = predictions.index[predictions.index.duplicated()][0]
        raise DataError(
            f"{folder} has several impressions '{twice}'", "give each impression of the log an id of its own"
        )
    return predictions


def _look_up(
    predictions: pd.DataFrame, ids: NDArray[np.object_], lists: Sequence[NDArray[np.object_]], name: str
) -> FloatArray:
    """Return (total,) a member's scores of these impressions' items.

    Raises:
        DataError: the member was not evaluated on these impressions, or on other items.
    """
    rows = predictions.index.get_indexer(pd.Index(ids))
    items, scores = predictions["items"].to_numpy(), predictions["scores"].to_numpy()
    for i, row in enumerate(rows):
        if row < 0 or not np.array_equal(items[row], lists[i]):
            problem = "has no predictions for" if row < 0 else "has predictions for other items of"
            raise DataError(
                f"{name} {problem} impression '{ids[i]}'",
                "combine runs with the same dataset, split, dataset.seed, dataset.empty_history and task.max_examples",
            )
    return np.concatenate(scores[rows]).astype(np.float64)


def build(context: Context) -> Ensemble | EnsembleOfLists:
    columns = pyarrow.parquet.read_schema(Path(context.config.members[0]) / "predictions.parquet").names
    return (Ensemble if "impression_id" in columns else EnsembleOfLists)(context.config, context)
