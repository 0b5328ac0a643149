"""Top items for a single history, and how much each item of the history adds to their scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.tasks.base import diverged, to_evaluation
from llm4rec_cli.tasks.topk import top_scored


@dataclass(frozen=True)
class TopItems:
    """The items with the highest scores, best first. Ties are ordered as in evaluation."""

    items: IntArray  # (k,) item numbers
    columns: IntArray  # (k,) where the model's scores have them; equal to `items` unless candidates were scored
    scores: NDArray[np.float32]  # (k,) float32


def top_items(model: Any, example: Examples, k: int, excluded: IntArray) -> TopItems:
    """Return the items with the highest scores; raises RunError if a score is NaN.

    Args:
        model: a Ranker of the catalogue, or of candidates if the example has them, which are then in ascending order.
        example: a single one.
    """
    to_evaluation(model)
    (scores,) = model.score(example).cpu()
    if bool(scores.isnan().any()):
        raise diverged("scores")
    items = np.arange(len(scores)) if example.candidates is None else example.candidates[0]
    # A score of -inf excludes an item.
    allowed = torch.from_numpy(np.flatnonzero(~np.isin(items, excluded) & (scores > -torch.inf).numpy()))
    top = top_scored(scores[allowed].unsqueeze(0), allowed, k)[0][0].numpy()
    return TopItems(items[top], top, scores.numpy()[top])


def history_effects(model: Any, example: Examples, top: TopItems, batch_size: int) -> tuple[IntArray, NDArray[Any]]:
    """Return how much each item of the history adds to the scores of the top items.

    The effect of an item is the score with the whole history, minus the score with a history from which this item is
    left out wherever it occurs (leave-one-out). So effects do not sum to the score. It is inf if without the item the
    model does not rank the recommended one.

    Returns:
        (h,) the distinct items of the history, latest first; and (h, k) float32 effects.
    """
    history, _ = example.histories()
    _, first = np.unique(history[::-1], return_index=True)
    items = history[::-1][np.sort(first)]
    effects = np.zeros((len(items), len(top.items)), dtype=np.float32)
    for begin in range(0, len(items), batch_size):
        shortened = [history[history != item] for item in items[begin : begin + batch_size]]
        offsets = np.cumsum([0, *map(len, shortened)])
        repeated = example[np.zeros(len(shortened), dtype=np.int64)]
        sequence = np.concatenate(shortened).astype(history.dtype)
        scores = model.score(replace(repeated, sequence=sequence, start=offsets[:-1], end=offsets[1:])).cpu()
        effects[begin : begin + batch_size] = top.scores - scores.numpy()[:, top.columns]
    return items, effects
