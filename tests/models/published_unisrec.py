"""UniSRec by the paper's formulas, one padded sequence at a time, with the parameter names of its published code."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.dense = (nn.Linear(hidden, hidden) for _ in range(4))
        self.LayerNorm = nn.LayerNorm(hidden, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (part(x).view(len(x), self.heads, -1).transpose(0, 1) for part in (self.query, self.key, self.value))
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + mask
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(len(x), -1)
        return self.LayerNorm(x + self.dense(mixed))


class FeedForward(nn.Module):
    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.dense_1, self.dense_2 = nn.Linear(hidden, inner), nn.Linear(inner, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        h = self.dense_1(x)
        return self.LayerNorm(x + self.dense_2(h * 0.5 * (1 + torch.erf(h / 2**0.5))))


class Layer(nn.Module):
    def __init__(self, hidden: int, inner: int, heads: int) -> None:
        super().__init__()
        self.multi_head_attention = Attention(hidden, heads)
        self.feed_forward = FeedForward(hidden, inner)


class Encoder(nn.Module):
    def __init__(self, layers: int, *sizes: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList([Layer(*sizes) for _ in range(layers)])


class Expert(nn.Module):
    def __init__(self, text: int, hidden: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(text))
        self.lin = nn.Linear(text, hidden, bias=False)


class Adaptor(nn.Module):
    def __init__(self, experts: int, text: int, hidden: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList([Expert(text, hidden) for _ in range(experts)])
        self.w_gate, self.w_noise = (nn.Parameter(torch.zeros(text, experts)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        gates = (x @ self.w_gate).softmax(-1)
        return sum(gates[:, k : k + 1] * e.lin(x - e.bias) for k, e in enumerate(self.experts))


class PublishedUniSRec(nn.Module):
    """With random weights, biases and norms included; the same in each call."""

    def __init__(self, text: int, hidden: int, inner: int, layers: int, heads: int, experts: int, length: int) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(length, hidden)
        self.trm_encoder = Encoder(layers, hidden, inner, heads)
        self.LayerNorm = nn.LayerNorm(hidden, eps=1e-12)
        self.moe_adaptor = Adaptor(experts, text, hidden)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)

    @torch.no_grad()
    def scores(self, features: Tensor, history: Sequence[int]) -> Tensor:
        """Return (n_items,) the cosine of a history's state and each item; the history is padded at the right."""
        length = self.position_embedding.num_embeddings
        history = list(history)[-length:]
        vectors = self.moe_adaptor(features)
        x = torch.zeros(length, vectors.shape[1])
        x[: len(history)] = vectors[history]
        x = self.LayerNorm(x + self.position_embedding.weight)
        hidden = torch.ones(length, length).triu(1).bool() | (torch.arange(length) >= len(history))
        mask = hidden * -10000.0
        for layer in self.trm_encoder.layer:
            x = layer.feed_forward(layer.multi_head_attention(x, mask))
        return F.normalize(vectors, dim=1) @ F.normalize(x[len(history) - 1], dim=0)
