"""eSASRec (arXiv 2508.06450): SASRec with LiGR layers, trained by sampled softmax.

A LiGR layer (Borisyuk et al., arXiv 2502.03417) normalises before each part and gates its residual:

    x ← x + σ(G₁ x) ⊙ Attention(LayerNorm(x)),  x ← x + σ(G₂ x) ⊙ SwiGLU(LayerNorm(x))
    SwiGLU(x) = W₃ (SiLU(W₁ x) ⊙ W₂ x), without biases

Neither the input nor the last layer's output is normalised, all matrices start as Xavier normal, and the vectors of
all items are dropped out, as inputs and in the loss alike, as in RecTools, on which the published code builds.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.layers import Dropout, Groups, SelfAttention, SequenceEncoder
from llm4rec_cli.models.shared.next_item import EncoderModel
from llm4rec_zoo.models.esasrec.config import ESASRecConfig


class LiGRLayer(SelfAttention):
    """Causal self-attention and SwiGLU, both normalised before and gated after."""

    def __init__(self, hidden: int, inner: int, heads: int, dropout: float) -> None:
        super().__init__(hidden, heads, dropout)
        self.norm_attention, self.norm_feedforward = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.gate_attention, self.gate_feedforward = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.gate, self.up = nn.Linear(hidden, inner, bias=False), nn.Linear(hidden, inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, groups: Groups) -> Tensor:
        return self._after_attention(x, self.attend(self.norm_attention(x), groups))

    def at(self, x: Tensor, groups: Groups, tokens: Tensor) -> Tensor:
        return self._after_attention(x[tokens], self.attend_at(self.norm_attention(x), groups, tokens))

    def _after_attention(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.gate_attention(x).sigmoid() * self.dropout(attended)
        normed = self.norm_feedforward(x)
        inner = self.dropout(F.silu(self.gate(normed)) * self.up(normed))
        return x + self.gate_feedforward(x).sigmoid() * self.dropout(self.down(inner))


class ESASRec(EncoderModel):
    """Item embeddings and LiGR layers; scores by inner product."""

    def __init__(self, config: ESASRecConfig, context: Context) -> None:
        super().__init__(config, context, config.hidden_size)
        sizes = config.hidden_size, config.inner_factor * config.hidden_size, config.heads, config.dropout
        layers = [LiGRLayer(*sizes) for _ in range(config.layers)]
        size, length = config.hidden_size, config.max_length
        self.encoder = SequenceEncoder(size, length, config.dropout, layers, norm=False, from_last=self.from_last)
        self.dropout = Dropout(config.dropout)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.xavier_normal_(weight)
        for layer in layers:
            nn.init.zeros_(layer.qkv.bias)
            nn.init.zeros_(layer.out.bias)

    def table(self) -> Tensor:
        """Return (n_items, hidden) the item vectors, in training dropped out once for the whole step."""
        return self.dropout(self.items.weight)


def build(context: Context) -> ESASRec:
    return ESASRec(context.config, context)
