"""An ensemble of finished runs: combines their stored scores of the same impressions (reference 1.7)."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import rankdata
from torch import Tensor

from llm4rec_cli.data.examples import Impressions
from llm4rec_cli.errors import DataError
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.ensemble.config import Combine, EnsembleConfig

log = logging.getLogger(__name__)

FloatArray = NDArray[np.floating[Any]]
COLUMNS = ["impression_id", "items", "clicked", "scores"]


class Ensemble:
    """Combined scores of several runs, looked up by impression.

    Attributes:
        weights: (members,) of the weighted sum; None unless `combine=weights`.
    """

    def __init__(self, config: EnsembleConfig, context: Context) -> None:
        self.config = config
        self.item_ids = context.split.dataset.items["item_id"].to_numpy()
        self.predictions = [_read_predictions(folder) for folder in config.members]
        self.weights = None
        if config.combine is Combine.weights:
            self.weights = fit_weights([_read_predictions(folder) for folder in config.judged])
            weights = zip(config.names, self.weights, strict=True)
            log.info("weights fitted on validation: %s", ", ".join(f"{name} {weight:.3g}" for name, weight in weights))

    def artifacts(self) -> dict[str, str]:
        """Return members.json: run folder, name, variant and weight (null unless fitted) of each member."""
        weights = [None] * len(self.predictions) if self.weights is None else self.weights.tolist()
        columns = zip(self.config.members, self.config.names, self.config.variants, weights, strict=True)
        members = [dict(zip(("run", "name", "variant", "weight"), values, strict=True)) for values in columns]
        return {"members.json": json.dumps(members, indent=1) + "\n"}

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
        matrix = np.stack(by_member)
        if self.weights is not None:
            combined = self.weights @ matrix
        else:
            combined = matrix.sum(0) if self.config.combine is Combine.sum else matrix.mean(0)
        return torch.from_numpy(combined.astype(np.float32))


def fit_weights(predictions: Sequence[pd.DataFrame]) -> FloatArray:
    """Fit non-negative weights that maximise the likelihood of the clicks under the softmax of the weighted sum.

    Args:
        predictions: each member's predictions on the same validation impressions, with the clicks.

    Returns:
        (members,) weights.

    Raises:
        DataError: the members were evaluated on different impressions.
    """
    first = predictions[0]
    ids, lists = first.index.to_numpy(), [np.asarray(items) for items in first["items"]]
    scores = np.stack([_look_up(member, ids, lists, f"member {i}") for i, member in enumerate(predictions)])
    lengths = np.array([len(items) for items in lists])
    begins = np.cumsum(lengths) - lengths
    impression = np.repeat(np.arange(len(lists)), lengths)
    clicked = np.concatenate([np.asarray(row, dtype=bool) for row in first["clicked"]])
    n_clicks = np.add.reduceat(clicked.astype(float), begins)
    scale = scores.std(axis=1, keepdims=True).clip(min=1e-12)  # so that the search starts near the optimum
    scaled = scores / scale

    def loss_and_gradient(weights: FloatArray) -> tuple[float, FloatArray]:
        logits = weights @ scaled
        logits = logits - np.maximum.reduceat(logits, begins)[impression]
        expected = np.exp(logits)
        total = np.add.reduceat(expected, begins)
        expected = expected / total[impression] * n_clicks[impression]
        loss = float((n_clicks * np.log(total)).sum() - logits[clicked].sum())
        return loss / len(lists), scaled @ (expected - clicked) / len(lists)

    start, bounds = np.ones(len(predictions)), [(0.0, None)] * len(predictions)
    optimum = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weights: FloatArray = optimum.x / scale[:, 0]
    return weights


def _read_predictions(folder: str) -> pd.DataFrame:
    """Return a run's predictions, indexed by impression."""
    return pd.read_parquet(Path(folder) / "predictions.parquet", columns=COLUMNS).set_index("impression_id")


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


def build(context: Context) -> Ensemble:
    return Ensemble(context.config, context)
