"""Frozen text on the backbone's own vectors: the teacher of the distillation, and an offset of the log-odds.

As an offset,

    log-odds(u, j) = the prompt's log-odds + s · cos(mean of v_i over the history's items i, v_j)

with vectors v of the items' texts. Training on clicks starts where frozen text is, and teaches the prompt what the
similarity does not say.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from torch import Tensor, nn

from llm4rec_cli.config.schema import EncoderConfig, Pooling
from llm4rec_cli.data.examples import Examples, Impressions, IntArray
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.prompt4nr.config import Prompt4NRConfig
from llm4rec_cli.models.shared.clicks import Clicks
from llm4rec_cli.models.shared.frozen_text import FrozenText
from llm4rec_cli.text.features import encode_texts

MAX_LENGTH = 256  # tokens of an item's text that are read
MAX_SCALE = 1000.0


def frozen_text(
    config: Prompt4NRConfig,
    context: Context,
    n_positions: int,
    centred: bool = False,
    temperature: float | None = None,
) -> FrozenText:
    """Return the floor `frozen_text` with the backbone of the prompt.

    Args:
        n_positions: of the backbone.
        centred, temperature: settings of the floor.
    """
    encoder = EncoderConfig(config.backbone, Pooling.mean, min(MAX_LENGTH, n_positions), config.warm_up.precision)
    return FrozenText(
        lambda texts: encode_texts(texts, encoder, context.cache, context.device), context.split, centred, temperature
    )


class Offset(nn.Module):
    """Scaled similarities, see the module.

    Args:
        groups: of all clicks, (n, 1 + negatives) the clicked item and negatives, to which the scale is fitted; None if
            weights are loaded, which have it.
    """

    scale: Tensor

    def __init__(self, text: FrozenText, clicks: Clicks, groups: IntArray | None) -> None:
        super().__init__()
        self.text = text
        fitted = 1.0 if groups is None else fitted_scale(text.score(with_candidates(clicks, groups)).numpy())
        self.register_buffer("scale", torch.tensor(fitted))

    def of_clicks(self, clicks: Clicks, candidates: IntArray) -> Tensor:
        """Return the offsets of (n, c) candidates after the histories of n clicks."""
        return self(with_candidates(clicks, candidates))

    def forward(self, examples: Examples) -> Tensor:
        return self.scale.cpu() * self.text.score(examples)

    def of_shown(self, impressions: Impressions) -> Tensor:
        return self.scale.cpu() * self.text.score_shown(impressions)


def fitted_scale(similarity: NDArray[np.float32]) -> float:
    """Return the scale s ≥ 0 that maximises the likelihood of the first of each row under softmax(s · similarity)."""

    def loss(scale: float) -> float:
        scores = scale * similarity.astype(np.float64)
        return float((logsumexp(scores, axis=1) - scores[:, 0]).mean())

    return float(minimize_scalar(loss, bounds=(0, MAX_SCALE), method="bounded").x)


def with_candidates(clicks: Clicks, candidates: IntArray) -> Examples:
    """Return the histories of clicks as examples with (n, c) candidates."""
    zeros = np.zeros(len(clicks), dtype=np.int64)
    return Examples(clicks.user, zeros, clicks.sequence, clicks.start, clicks.end, zeros, candidates=candidates)
