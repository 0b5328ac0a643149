"""What several models are built from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.errors import UsageError

INITIAL_STD = 0.02  # RecBole's initializer_range, of every linear and embedding weight


def dropped_out(x: Tensor, p: float, copies: int | None = None) -> Tensor:
    """`x` with each element 0 with probability `p` (to 1/256) and scaled to keep its mean.

    On a CPU drawing a dropout mask costs more than the matrix product behind it. One 64-bit draw decides eight elements
    here, and elements are chosen, not multiplied by a mask.

    Args:
        copies: draw so many times, each on its own: the result gains a leading axis.
    """
    dropped = min(round(p * 256), 255)
    shape = x.shape if copies is None else torch.Size((copies, *x.shape))
    n = shape.numel()
    bits = torch.empty((n + 7) // 8, dtype=torch.int64, device=x.device).random_(-(2**63), None)
    kept = bits.view(torch.uint8)[:n].view(shape) >= dropped
    return torch.where(kept, x * (256 / (256 - dropped)), x.new_zeros(()))


class Dropout(nn.Module):
    """Dropout by `dropped_out`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UsageError(f"dropout must be in [0, 1), not {p}", "model.dropout=0.5")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropped_out(x, self.p) if self.training and self.p > 0 else x


class CausalLayer(nn.Module):
    """One Transformer layer of SASRec as RecBole writes it: post-LayerNorm, GELU, causal attention."""

    def __init__(self, hidden: int, inner: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        if hidden % heads:
            raise UsageError(
                f"hidden_size {hidden} is not a multiple of heads {heads}", "choose model.heads that divides it"
            )
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.norm_attention = nn.LayerNorm(hidden, eps=1e-12)
        self.up = nn.Linear(hidden, inner)
        self.down = nn.Linear(inner, hidden)
        self.norm_feedforward = nn.LayerNorm(hidden, eps=1e-12)
        self.dropout = Dropout(dropout)
        self.attention_dropout = Dropout(attention_dropout)

    def attend(self, x: Tensor, groups: list[tuple[int, int]]) -> Tensor:
        hidden = x.shape[-1]
        mixed, start = [], 0
        qkv = self.qkv(x)
        for rows, length in groups:
            group = qkv[start : start + rows * length].view(rows, length, 3, self.heads, hidden // self.heads)
            q, k, v = group.permute(2, 0, 3, 1, 4)
            mixed.append(self._mix(q, k, v).transpose(1, 2).reshape(rows * length, hidden))
            start += rows * length
        return self.out(torch.cat(mixed))

    def _mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not self.training or self.attention_dropout.p == 0:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        length = q.shape[-2]
        future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        return self.attention_dropout(scores.masked_fill(future, float("-inf")).softmax(-1).to(v.dtype)) @ v

    def forward(self, x: Tensor, groups: list[tuple[int, int]]) -> Tensor:
        x = self.norm_attention(x + self.dropout(self.attend(x, groups)))
        return self.norm_feedforward(x + self.dropout(self.down(F.gelu(self.up(x)))))


class SequenceEncoder(nn.Module):
    """SASRec's body over item vectors: positions, LayerNorm, dropout, then causal layers.

    Sequences come packed (`sequences.pack`) and, within their group, padded at the right. Causality keeps padding out
    of every real position, so no padding mask is needed: what comes out at padded positions is never read.
    """

    def __init__(
        self,
        hidden: int,
        inner: int,
        layers: int,
        heads: int,
        dropout: float,
        attention_dropout: float,
        max_length: int,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.positions = nn.Embedding(max_length, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-12)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            CausalLayer(hidden, inner, heads, dropout, attention_dropout) for _ in range(layers)
        )

    def forward(self, x: Tensor, groups: Tensor) -> Tensor:
        """(total, hidden) packed item vectors to (total, hidden): the token at position t has seen items 0..t.

        Args:
            x: item vectors.
            groups: (n_groups, 2) rows and length of each group.
        """
        shapes = [(rows, length) for rows, length in groups.tolist()]
        position = torch.cat([torch.arange(length, device=x.device).repeat(rows) for rows, length in shapes])
        x = self.dropout(self.norm(x + self.positions(position)))
        for layer in self.layers:
            x = layer(x, shapes)
        return x


def initialise(module: nn.Module) -> None:
    """RecBole's initialisation: weights N(0, 0.02²), biases 0, LayerNorm (1, 0). For `module.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
