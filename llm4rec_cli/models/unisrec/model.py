"""UniSRec (Hou et al., KDD 2022, arXiv 2206.05941): item vectors from text, a SASRec body, cosine over temperature."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.data.examples import Examples
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.layers import INITIAL_STD, Dropout, SequenceEncoder, initialise
from llm4rec_cli.models.losses import catalogue_cross_entropy
from llm4rec_cli.models.sequences import IGNORED, SequenceRows, packed_histories
from llm4rec_cli.models.unisrec.config import Adaptor, Draw, UniSRecConfig
from llm4rec_cli.text.features import encode_texts

NOISE_FLOOR = 0.01  # added to the gate noise's scale (published code)


class MoEAdaptor(nn.Module):
    """Parametric whitening by several experts, mixed by a noisy softmax gate (paper, equations 1-4).

    v = Σ_k g_k (Dropout(x) - b_k) W_k with g = softmax(x W_2 + δ), δ = ε (softplus(x W_3) + 0.01) in training, 0 after.
    Every expert drops its own input elements.
    """

    def __init__(self, text_size: int, hidden_size: int, experts: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.bias = nn.Parameter(torch.zeros(experts, text_size))
        self.whiten = nn.Parameter(torch.empty(experts, text_size, hidden_size).normal_(std=INITIAL_STD))
        self.gate = nn.Parameter(torch.zeros(text_size, experts))
        self.noise = nn.Parameter(torch.zeros(text_size, experts))

    def forward(self, x: Tensor) -> Tensor:
        """(n, text_size) text vectors to (n, hidden_size) item vectors."""
        logits = x @ self.gate
        if self.training:
            scale = F.softplus(x @ self.noise) + NOISE_FLOOR
            logits = logits + torch.randn_like(logits) * scale
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        x, gates = x.to(dtype), logits.softmax(-1).to(dtype)
        # b_k W_k is one vector an expert, so the bias never touches the inputs. And one expert after the other: all of
        # them at once would leave the cache.
        mixed = -gates @ torch.bmm(self.bias.unsqueeze(1), self.whiten).squeeze(1)
        for gate, whiten in zip(gates.unsqueeze(-1).unbind(1), self.whiten, strict=True):
            mixed = mixed + gate * (self.dropout(x) @ whiten)
        return mixed


class UniSRec(nn.Module):
    """Text vectors through the adaptor (plus an id embedding if transductive) into a causal Transformer.

    The adaptor runs once over the catalogue a step; inputs and targets are looked up in its result.
    """

    features: Tensor

    def __init__(self, config: UniSRecConfig, features: Tensor, context: Context) -> None:
        super().__init__()
        self.split = context.split
        self.temperature = config.temperature
        self.draw = config.draw
        self.register_buffer("features", features, persistent=False)  # frozen, and kept in the feature cache
        self.encoder = SequenceEncoder(
            config.hidden_size,
            config.inner_size,
            config.layers,
            config.heads,
            config.dropout,
            config.attention_dropout,
            config.max_length,
        )
        if config.adaptor == Adaptor.linear:
            self.adaptor: nn.Module = nn.Linear(features.shape[1], config.hidden_size)
        else:
            self.adaptor = MoEAdaptor(features.shape[1], config.hidden_size, config.experts, config.adaptor_dropout)
        self.ids = nn.Embedding(len(features), config.hidden_size) if config.use_ids else None
        self._tables: tuple[Tensor, Tensor] | None = None
        self.apply(initialise)

    def training_rows(self) -> SequenceRows:
        return SequenceRows(self.split, self.encoder.max_length)

    def catalogue(self) -> Tensor:
        """(n_items, hidden) item vectors: adapted text, plus the id embedding if there is one."""
        adapted: Tensor = self.adaptor(self.features)
        return adapted if self.ids is None else adapted + self.ids.weight

    def forward(self, items: Tensor, targets: Tensor, groups: Tensor) -> dict[str, Any]:
        """The mean cross-entropy of cosine / temperature over all items, over all positions that carry loss.

        Args:
            items, targets: (total,) int64, packed; targets are IGNORED where there is no loss.
            groups: (n_groups, 2) of the packing.
        """
        catalogue = self.catalogue()
        if self.draw == Draw.catalogue:
            inputs = F.embedding(items, catalogue)
        else:
            inputs = self.adaptor(self.features[items])
            if self.ids is not None:
                inputs = inputs + self.ids(items)
        carries_loss = torch.nonzero(targets != IGNORED).squeeze(1)
        hidden = F.normalize(self.encoder(inputs, groups)[carries_loss], dim=-1)
        loss = catalogue_cross_entropy(hidden / self.temperature, F.normalize(catalogue, dim=-1), targets[carries_loss])
        return {"loss": loss, "n_terms": len(hidden)}

    def train(self, mode: bool = True) -> UniSRec:
        self._tables = None  # weights may change: the catalogue of an earlier evaluation is stale
        return super().train(mode)

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        if self._tables is None:  # once an evaluation, not once a batch
            table = self.catalogue()
            self._tables = table, F.normalize(table, dim=-1)
        table, directions = self._tables
        items, groups, last, nonempty = (
            t.to(table.device) for t in packed_histories(examples, self.encoder.max_length)
        )
        hidden = F.normalize(self.encoder.last(table[items], groups, last) * nonempty.unsqueeze(1), dim=-1)
        if examples.candidates is None:
            return hidden @ directions.t()
        candidates = torch.from_numpy(examples.candidates).long().to(table.device)
        return torch.einsum("nh,nch->nc", hidden, directions[candidates])


def build(context: Context) -> UniSRec:
    config: UniSRecConfig = context.config
    features = encode_texts(context.split.dataset.texts, config.encoder, context.cache, context.device)
    return UniSRec(config, features, context)
