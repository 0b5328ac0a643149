"""What a running site knows of its news: how often each was clicked until now.

Counted are the clicks of the whole log, validation and test included, strictly before an impression's time: so it sees
what other users clicked earlier in the test part, which a model that was trained once does not. Nothing of the
impression itself, nor of any later one, is counted.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llm4rec_cli.data.examples import Impressions, IntArray
from llm4rec_cli.models.base import Context


class CausalPopularity:
    """Scores are counts of sorted events.

    Args:
        item, time: (clicks,) of every click of the log.
    """

    def __init__(self, item: IntArray, time: np.ndarray) -> None:
        self.times = np.unique(time)
        self.events = np.sort(self._event(item, time))

    def score_shown(self, impressions: Impressions) -> Tensor:
        shown, offsets = impressions.shown()
        until = self._event(shown, np.repeat(impressions.time, np.diff(offsets)))
        begin = shown.astype(np.int64) * (len(self.times) + 1)
        count = np.searchsorted(self.events, until) - np.searchsorted(self.events, begin)
        return torch.from_numpy(count).float()

    def _event(self, item: IntArray, time: np.ndarray) -> IntArray:
        """Numbers that order (item, time) pairs by item, then time; a moment comes before the clicks of that moment."""
        return item.astype(np.int64) * (len(self.times) + 1) + np.searchsorted(self.times, time)


def build(context: Context) -> CausalPopularity:
    log = context.split.click_log
    listed, offsets = log.shown()
    clicked = log.clicked()
    return CausalPopularity(listed[clicked], np.repeat(log.time, np.diff(offsets))[clicked])
