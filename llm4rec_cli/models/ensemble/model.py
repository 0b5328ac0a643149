"""An ensemble of finished runs: their stored scores of the same impressions, combined (reference 1.7)."""

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
    """Scores of several runs, looked up by impression.

    Attributes:
        weights: (members,) of the weighted sum; None where none are fitted.
    """

    def __init__(self, config: EnsembleConfig, context: Context) -> None:
        self.config = config
        self.item_ids = context.split.dataset.items["item_id"].to_numpy()
        self.given = [_answers(folder) for folder in config.members]
        self.weights = None
        if config.combine is Combine.weights:
            self.weights = fitted_weights([_answers(folder) for folder in config.judged])
            told = zip(config.names, self.weights, strict=True)
            log.info("weights by validation: %s", ", ".join(f"{name} {weight:.3g}" for name, weight in told))

    def artifacts(self) -> dict[str, str]:
        """What a run keeps: who its members are, and the weight of each where there are any."""
        weights = [None] * len(self.given) if self.weights is None else self.weights.tolist()
        of_each = zip(self.config.members, self.config.names, self.config.variants, weights, strict=True)
        told = [dict(zip(("run", "name", "variant", "weight"), member, strict=True)) for member in of_each]
        return {"members.json": json.dumps(told, indent=1) + "\n"}

    def score_shown(self, impressions: Impressions) -> Tensor:
        items, offsets = impressions.shown()
        lists = np.split(self.item_ids[items], offsets[1:-1])
        of_members = [
            _looked_up(given, impressions.id, lists, name)
            for given, name in zip(self.given, self.config.names, strict=True)
        ]
        if self.config.combine is Combine.rank:
            of_members = [
                np.concatenate([rankdata(part) / len(part) for part in np.split(scores, offsets[1:-1])])
                for scores in of_members
            ]
        matrix = np.stack(of_members)
        if self.weights is not None:
            combined = self.weights @ matrix
        else:
            combined = matrix.sum(0) if self.config.combine is Combine.sum else matrix.mean(0)
        return torch.from_numpy(combined.astype(np.float32))


def fitted_weights(judged: Sequence[pd.DataFrame]) -> FloatArray:
    """The weights of the sum of scores whose softmax makes the clicks of validation likeliest; none is negative.

    Args:
        judged: each member's answers about the same impressions, with what was clicked.

    Returns:
        (members,) weights.

    Raises:
        DataError: they are about different impressions.
    """
    first = judged[0]
    lists = [np.asarray(items) for items in first["items"]]
    scores = np.stack(
        [_looked_up(given, first.index.to_numpy(), lists, f"member {i}") for i, given in enumerate(judged)]
    )
    lengths = np.array([len(items) for items in lists])
    begins = np.cumsum(lengths) - lengths
    of = np.repeat(np.arange(len(lists)), lengths)
    clicked = np.concatenate([np.asarray(row, dtype=bool) for row in first["clicked"]])
    n_clicks = np.add.reduceat(clicked.astype(float), begins)
    scale = scores.std(axis=1, keepdims=True).clip(min=1e-12)  # so that the search begins near, whatever the scores
    scaled = scores / scale

    def surprise(weights: FloatArray) -> tuple[float, FloatArray]:
        logits = weights @ scaled
        logits = logits - np.maximum.reduceat(logits, begins)[of]
        likely = np.exp(logits)
        total = np.add.reduceat(likely, begins)
        likely = likely / total[of] * n_clicks[of]
        loss = float((n_clicks * np.log(total)).sum() - logits[clicked].sum())
        return loss / len(lists), scaled @ (likely - clicked) / len(lists)

    found = minimize(surprise, np.ones(len(judged)), jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(judged))
    weights: FloatArray = found.x / scale[:, 0]
    return weights


def _answers(folder: str) -> pd.DataFrame:
    """A run's predictions, by impression."""
    return pd.read_parquet(Path(folder) / "predictions.parquet", columns=COLUMNS).set_index("impression_id")


def _looked_up(
    given: pd.DataFrame, ids: NDArray[np.object_], lists: Sequence[NDArray[np.object_]], name: str
) -> FloatArray:
    """(total,) a member's scores of these lists of items.

    Raises:
        DataError: it was asked about other impressions, or other items.
    """
    place, items, scores = given.index.get_indexer(pd.Index(ids)), given["items"].to_numpy(), given["scores"].to_numpy()
    for i, row in enumerate(place):
        if row < 0 or not np.array_equal(items[row], lists[i]):
            what = "has no answer about" if row < 0 else "was shown other items in"
            raise DataError(
                f"{name} {what} impression '{ids[i]}'",
                "combine runs of one dataset, split, dataset.seed, dataset.empty_history and task.max_examples",
            )
    return np.concatenate(scores[place]).astype(np.float64)


def build(context: Context) -> Ensemble:
    return Ensemble(context.config, context)
