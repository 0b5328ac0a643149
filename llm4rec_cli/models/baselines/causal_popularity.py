"""Popularity as known to a live site: the number of clicks on each item before an impression.

It counts clicks in the whole log, validation and test included, strictly before the impression's time. Unlike a model
trained once, it thus sees earlier clicks of the test part. Clicks of the impression itself or later are not counted.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llm4rec_cli.data.examples import Impressions, IntArray
from llm4rec_cli.models.base import Context


class CausalPopularity:
    """Counts clicks by binary search in sorted events: the item and time of every click in the log."""

    def __init__(self, item: IntArray, time: np.ndarray) -> None:
        self.times = np.unique(time)
        self.events = np.sort(self._event(item, time))

    def score_shown(self, impressions: Impressions) -> Tensor:
        shown, offsets = impressions.shown()
        end = self._event(shown, np.repeat(impressions.time, np.diff(offsets)))
        begin = shown.astype(np.int64) * (len(self.times) + 1)
        count = np.searchsorted(self.events, end) - np.searchsorted(self.events, begin)
        return torch.from_numpy(count).float()

    def _event(self, item: IntArray, time: np.ndarray) -> IntArray:
        """Return keys that sort (item, time) pairs by item, then time; searches exclude clicks at the same time."""
        return item.astype(np.int64) * (len(self.times) + 1) + np.searchsorted(self.times, time)


def build(context: Context) -> CausalPopularity:
    log = context.split.click_log
    shown, offsets = log.shown()
    clicked = log.clicked()
    return CausalPopularity(shown[clicked], np.repeat(log.time, np.diff(offsets))[clicked])
