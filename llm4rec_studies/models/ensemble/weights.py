"""Weights of members, fitted on validation."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from llm4rec_studies.models.ensemble.config import EnsembleConfig

log = logging.getLogger(__name__)

FloatArray = NDArray[np.floating[Any]]


def softmax_weights(scores: FloatArray, lengths: NDArray[np.integer[Any]], hit: NDArray[np.bool_]) -> FloatArray:
    """Fit (members,) non-negative weights that maximise the likelihood of the hits under the softmax of the weighted
    sum.

    Args:
        scores: (members, total) of the items of all lists, one list after another.
        lengths: (lists,) of the lists, which are not empty.
        hit: (total,) whether an item was clicked, or is the target; at least one in each list.
    """
    begins = np.cumsum(lengths) - lengths
    number = np.repeat(np.arange(len(lengths)), lengths)
    n_hits = np.add.reduceat(hit.astype(float), begins)
    scale = scores.std(axis=1, keepdims=True).clip(min=1e-12)  # so that the search starts near the optimum
    scaled = scores / scale

    def loss_and_gradient(weights: FloatArray) -> tuple[float, FloatArray]:
        logits = weights @ scaled
        logits = logits - np.maximum.reduceat(logits, begins)[number]
        expected = np.exp(logits)
        total = np.add.reduceat(expected, begins)
        expected = expected / total[number] * n_hits[number]
        loss = float((n_hits * np.log(total)).sum() - logits[hit].sum())
        return loss / len(lengths), scaled @ (expected - hit) / len(lengths)

    start, bounds = np.ones(len(scores)), [(0.0, None)] * len(scores)
    optimum = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weights: FloatArray = optimum.x / scale[:, 0]
    log.info("weights fitted on validation: %s", ", ".join(f"{weight:.3g}" for weight in weights))
    return weights


def members_file(config: EnsembleConfig, weights: FloatArray | None) -> dict[str, str]:
    """Return members.json: run folder, name, variant and weight (null unless fitted) of each member."""
    values = [None] * len(config.members) if weights is None else weights.tolist()
    columns = zip(config.members, config.names, config.variants, values, strict=True)
    members = [dict(zip(("run", "name", "variant", "weight"), row, strict=True)) for row in columns]
    return {"members.json": json.dumps(members, indent=1) + "\n"}
