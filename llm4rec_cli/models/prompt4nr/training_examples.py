"""Prompt4NR's training examples: each click with items that were not clicked."""

from __future__ import annotations

import numpy as np
import torch

from llm4rec_cli.data.examples import IntArray
from llm4rec_cli.models.base import Batch
from llm4rec_cli.models.prompt4nr.config import Prompt4NRConfig
from llm4rec_cli.models.prompt4nr.sequences import TemplateFiller
from llm4rec_cli.models.prompt4nr.settings import ClickLoss, NegativeDraw
from llm4rec_cli.models.shared.clicks import Clicks


class ClickExamples:
    """Training examples, as the trainer's rows: listwise a click with its negatives, pointwise one of these items.

    Negatives are drawn by (seed, epoch, click). With `draw=fixed` by (seed, click), so they are the same in all epochs.
    """

    def __init__(self, config: Prompt4NRConfig, clicks: Clicks, filler: TemplateFiller, seed: int) -> None:
        self.config, self.clicks, self.filler, self.seed = config, clicks, filler, seed
        self.group_size = 1 + config.negatives

    def __len__(self) -> int:
        return len(self.clicks) * (self.group_size if self.config.loss is ClickLoss.pointwise else 1)

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        """Return the filled templates, as `Prompt4NR.forward` takes them."""
        rows = np.array(indices)
        if self.config.loss is ClickLoss.pointwise:
            click, place = rows // self.group_size, rows % self.group_size
            items = np.array([self._group(epoch, int(i))[j] for i, j in zip(click, place, strict=True)])
        else:
            click, place = np.repeat(rows, self.group_size), np.tile(np.arange(self.group_size), len(rows))
            items = np.concatenate([self._group(epoch, int(i)) for i in rows])
        distinct, history = np.unique(click, return_inverse=True)
        filled = self.filler.fill(self.filler.tokenize_histories(self.clicks[distinct]), history, items)
        return {"is_click": torch.from_numpy(place == 0), **filled.packed()}

    def _group(self, epoch: int, click: int) -> IntArray:
        epochs = [epoch] if self.config.draw is NegativeDraw.fresh else []
        return self.clicks.with_negatives(click, self.config.negatives, self.seed, *epochs)
