"""BSARec (Shin et al., AAAI 2024, arXiv 2312.10325): self-attention mixed with a frequency filter.

    layer(x) = FeedForward(α LayerNorm(x + Filter(x)) + (1 - α) LayerNorm(x + Attention(x)))
    Filter(x) = LP(x) + β² ⊙ (x - LP(x))

LP keeps the c lowest components of the discrete Fourier transform of x along the sequence, over `max_length` places;
places before the first item are 0. β is learned, one number for each dimension, and starts as a standard normal.

The filter looks at the whole sequence, so that a state at position t would depend on later items. Training therefore
takes one row for each prefix, and only its last state carries loss. The published code does so, too, for the prefixes
within a user's latest items. Here every prefix is a row.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.layers import Groups, SequenceEncoder, TransformerLayer, initialise
from llm4rec_cli.models.shared.next_item import EncoderModel
from llm4rec_cli.models.shared.sequences import PrefixRows, SequenceRows
from llm4rec_zoo.models.bsarec.config import BSARecConfig


class FilteredLayer(TransformerLayer):
    """A Transformer layer whose attention is mixed with a frequency filter. Sequences are packed without padding."""

    low_pass: Tensor

    def __init__(
        self,
        sizes: tuple[int, int, int],
        dropout: float,
        attention_dropout: float,
        low_pass: Tensor,
        filter_weight: float,
    ) -> None:
        super().__init__(*sizes, dropout, attention_dropout)
        self.register_buffer("low_pass", low_pass, persistent=False)
        self.beta = nn.Parameter(torch.randn(sizes[0]))
        self.norm_filter = nn.LayerNorm(sizes[0], eps=1e-12)
        self.filter_weight = filter_weight

    def filtered(self, x: Tensor, groups: Groups) -> Tensor:
        """Return (total, hidden): each sequence with its high frequencies scaled by β²."""
        with torch.autocast(x.device.type, enabled=False):
            low = groups.packed([self.low_pass[: part.shape[1], : part.shape[1]] @ part for part in groups.parts(x)])
            return low + self.beta.square() * (x - low)

    def forward(self, x: Tensor, groups: Groups) -> Tensor:
        return self._mixed(x, self.filtered(x, groups), self.attend(x, groups))

    def at(self, x: Tensor, groups: Groups, tokens: Tensor) -> Tensor:
        return self._mixed(x[tokens], self.filtered(x, groups)[tokens], self.attend_at(x, groups, tokens))

    def _mixed(self, x: Tensor, filtered: Tensor, attended: Tensor) -> Tensor:
        filtered = self.norm_filter(x + self.dropout(filtered))
        attended = self.norm_attention(x + self.dropout(attended))
        return self.feed_forward(self.filter_weight * filtered + (1 - self.filter_weight) * attended)


def low_pass_filter(length: int, components: int) -> Tensor:
    """Return (length, length) the matrix that keeps the c lowest components of a sequence's Fourier transform. An even
    c keeps one more, as frequencies above 0 come in pairs.

    Its entries depend only on the difference of two places, so that a part of it filters a shorter sequence as if zeros
    filled the other places, wherever they are.
    """
    spectrum = torch.fft.rfft(torch.eye(length), dim=0)
    spectrum[components // 2 + 1 :] = 0
    return torch.fft.irfft(spectrum, n=length, dim=0)


class BSARec(EncoderModel):
    """Item embeddings and filtered Transformer layers; scores by inner product."""

    rows: ClassVar[type[SequenceRows]] = PrefixRows

    def __init__(self, config: BSARecConfig, context: Context) -> None:
        super().__init__(config, context, config.hidden_size)
        sizes = config.hidden_size, config.inner_size, config.heads
        low_pass = low_pass_filter(config.max_length, config.components)
        layers = [
            FilteredLayer(sizes, config.dropout, config.attention_dropout, low_pass, config.filter_weight)
            for _ in range(config.layers)
        ]
        size, length = config.hidden_size, config.max_length
        self.encoder = SequenceEncoder(size, length, config.dropout, layers, from_last=self.from_last)
        self.apply(initialise)


def build(context: Context) -> BSARec:
    return BSARec(context.config, context)
