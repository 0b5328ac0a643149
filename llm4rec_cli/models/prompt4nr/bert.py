"""BERT without padding, and without what nobody asks for: its published weights and layers, run on packed tokens.

`BertForMaskedLM` gives the weights. Everything but attention runs on one flat array of tokens, attention on groups of
rows of like length. Of the top layer and the head only the blanks are computed, and there only two words' logits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertForMaskedLM

from llm4rec_cli.models.shared.layers import INITIAL_STD, dropped_out

Shapes = list[tuple[int, int]]


class PackedBert(nn.Module):
    """A masked language model with rows of its own for new tokens.

    Args:
        bert: gives the weights.
        n_new: of new tokens, numbered behind the backbone's; N(0, 0.02²) as BERT draws them (reference 1.5).

    Attributes:
        new: (n_new, d) their embeddings.
    """

    def __init__(self, bert: BertForMaskedLM, n_new: int) -> None:
        super().__init__()
        self.heads = bert.config.num_attention_heads
        self.dropout, self.attention_dropout = (
            bert.config.hidden_dropout_prob,
            bert.config.attention_probs_dropout_prob,
        )
        self.words = bert.bert.embeddings.word_embeddings
        self.positions = bert.bert.embeddings.position_embeddings
        self.kind = nn.Parameter(bert.bert.embeddings.token_type_embeddings.weight[0].detach().clone())
        self.norm = bert.bert.embeddings.LayerNorm
        self.layers = bert.bert.encoder.layer
        self.transform = bert.cls.predictions.transform
        self.bias = nn.Parameter(bert.cls.predictions.bias.detach().clone())
        self.new = nn.Parameter(torch.empty(n_new, bert.config.hidden_size).normal_(std=INITIAL_STD))

    def forward(
        self, places: Tensor, tokens: Tensor, position: Tensor, groups: Tensor, lengths: Tensor, begins: Tensor
    ) -> Tensor:
        """(n, d) what the head makes of one token a row: its product with a word's embedding is that word's logit.

        Args:
            places: (n,) where in its row that token stands.
            tokens, position, groups, lengths, begins: as `sequences.packed` gives them.
        """
        shapes = [(rows, length) for rows, length in groups.tolist()]
        seen = _seen(shapes, lengths)
        x = self._embedded(tokens, position)
        *below, top = self.layers
        for layer in below:
            x = self._after_attention(layer, x, self._attend(layer.attention, x, shapes, seen))
        at, order = (begins + places).sort()
        attended = self._attend_at(top.attention, x, at, shapes, seen)
        states = self._after_attention(top, x[at], attended)
        return self.transform(states[order.argsort()])

    def everywhere(self, places: Tensor, tokens: Tensor, position: Tensor, groups: Tensor, lengths: Tensor) -> Tensor:
        """(m, d) the same of any tokens.

        Args:
            places: (m,) where among all tokens they stand.
        """
        shapes = [(rows, length) for rows, length in groups.tolist()]
        seen = _seen(shapes, lengths)
        x = self._embedded(tokens, position)
        for layer in self.layers:
            x = self._after_attention(layer, x, self._attend(layer.attention, x, shapes, seen))
        return self.transform(x[places])

    def logits(self, states: Tensor, words: Tensor) -> Tensor:
        """(n, k) of these words of the backbone's vocabulary."""
        return F.linear(states, self.words(words), self.bias[words])

    def _embedded(self, tokens: Tensor, position: Tensor) -> Tensor:
        n_words = self.words.num_embeddings
        x = self.words(tokens.clamp(max=n_words - 1))
        own = torch.nonzero(tokens >= n_words).squeeze(1)
        x = x.index_copy(0, own, self.new[tokens[own] - n_words])
        return self._dropped(self.norm(x + self.positions(position) + self.kind))

    def _after_attention(self, layer: Any, x: Tensor, attended: Tensor) -> Tensor:
        x = layer.attention.output.LayerNorm(x + self._dropped(layer.attention.output.dense(attended)))
        up = layer.intermediate(x)
        return layer.output.LayerNorm(x + self._dropped(layer.output.dense(up)))

    def _attend(self, attention: Any, x: Tensor, shapes: Shapes, seen: list[Tensor | None]) -> Tensor:
        own, mixed = attention.self, []
        weight = torch.cat([own.query.weight, own.key.weight, own.value.weight])
        bias = torch.cat([own.query.bias, own.key.bias, own.value.bias])
        parts = F.linear(x, weight, bias).to(x.dtype).split([rows * length for rows, length in shapes])
        # On a CPU in fp32: a bf16 product this small costs less than the kernel set up for its shape.
        with torch.autocast("cpu", enabled=False):
            for (rows, length), part, mask in zip(shapes, parts, seen, strict=True):
                q, k, v = part.view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
                mixed.append(self._mix(q, k, v, mask).transpose(1, 2).reshape(rows * length, -1))
        return torch.cat(mixed)

    def _attend_at(self, attention: Any, x: Tensor, at: Tensor, shapes: Shapes, seen: list[Tensor | None]) -> Tensor:
        """Attention of one token a row, in ascending order; of all others only keys and values are computed."""
        own, mixed = attention.self, []
        weight, bias = torch.cat([own.key.weight, own.value.weight]), torch.cat([own.key.bias, own.value.bias])
        parts = F.linear(x, weight, bias).to(x.dtype).split([rows * length for rows, length in shapes])
        wanted = own.query(x[at]).to(x.dtype).split([rows for rows, _ in shapes])
        with torch.autocast("cpu", enabled=False):
            for (rows, length), part, query, mask in zip(shapes, parts, wanted, seen, strict=True):
                k, v = part.view(rows, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
                q = query.view(rows, 1, self.heads, -1).transpose(1, 2)
                mixed.append(self._mix(q, k, v, mask).reshape(rows, -1))
        return torch.cat(mixed)

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        if not self.training or self.attention_dropout == 0:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        if seen is not None:
            scores = scores.masked_fill(~seen, -torch.inf)
        return dropped_out(scores.softmax(-1).to(v.dtype), self.attention_dropout) @ v

    def _dropped(self, x: Tensor) -> Tensor:
        return dropped_out(x, self.dropout) if self.training and self.dropout > 0 else x


def _seen(shapes: Shapes, lengths: Tensor) -> list[Tensor | None]:
    """Of each group (rows, 1, 1, longest) which tokens are no padding; None where none is."""
    found: list[Tensor | None] = []
    for (_, length), own in zip(shapes, lengths.split([rows for rows, _ in shapes]), strict=True):
        padded = bool((own < length).any())
        mask = torch.arange(length, device=own.device) < own[:, None]
        found.append(mask[:, None, None, :] if padded else None)
    return found
