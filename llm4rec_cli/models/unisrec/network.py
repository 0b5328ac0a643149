"""UniSRec (Hou et al., KDD 2022, arXiv 2206.05941): item vectors from text, a SASRec body, cosine over temperature."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.data.examples import Examples
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.layers import INITIAL_STD, Dropout, SequenceEncoder, initialise
from llm4rec_cli.models.shared.losses import catalogue_cross_entropy
from llm4rec_cli.models.shared.sequences import IGNORED, SequenceRows, packed_histories
from llm4rec_cli.models.unisrec.config import Adaptor, Draw, Freeze, UniSRecConfig

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
        gates = self.gates(x)
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        x, gates = x.to(dtype), gates.to(dtype)
        # b_k W_k is one vector an expert, so the bias never touches the inputs. And one expert after the other: all of
        # them at once would leave the cache.
        mixed = -gates @ torch.bmm(self.bias.unsqueeze(1), self.whiten).squeeze(1)
        for gate, whiten in zip(gates.unsqueeze(-1).unbind(1), self.whiten, strict=True):
            mixed = mixed + gate * (self.dropout(x) @ whiten)
        return mixed

    def gates(self, x: Tensor) -> Tensor:
        """(n, experts) how much each expert has of each item; with noise in training."""
        logits = x @ self.gate
        if self.training:
            scale = F.softplus(x @ self.noise) + NOISE_FLOOR
            logits = logits + torch.randn_like(logits) * scale
        return logits.softmax(-1)


class UniSRec(nn.Module):
    """Text vectors through the adaptor (plus an id embedding if transductive) into a causal Transformer.

    The adaptor runs once over the catalogue a step; inputs and targets are looked up in its result.
    """

    features: Tensor
    among: Tensor | None

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
        among = context.split.softmax_items()
        self.register_buffer("among", None if among is None else torch.from_numpy(among).long(), persistent=False)
        self.apply(initialise)
        frozen: dict[Freeze, list[nn.Module]] = {
            Freeze.none: [],
            Freeze.encoder: [self.encoder.positions, self.encoder.layers],  # its input LayerNorm is tuned
            Freeze.adaptor: [self.adaptor],
        }
        for part in frozen[config.freeze]:
            part.requires_grad_(False)

    def begin_with(self, weights: dict[str, Tensor]) -> None:
        """Takes the weights of another UniSRec: ids are the own catalogue's alone, and stay as they are.

        Raises:
            RuntimeError: the shapes differ.
        """
        own_ids = {} if self.ids is None else {"ids.weight": self.ids.weight}
        self.load_state_dict({n: w for n, w in weights.items() if n != "ids.weight"} | own_ids)

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
        loss = catalogue_cross_entropy(
            hidden / self.temperature, F.normalize(catalogue, dim=-1), targets[carries_loss], self.among
        )
        return {"loss": loss, "n_terms": len(hidden)}

    def train(self, mode: bool = True) -> UniSRec:
        self._tables = None  # weights may change: the catalogue of an earlier evaluation is stale
        return super().train(mode)

    def tables(self) -> tuple[Tensor, Tensor]:
        """The catalogue and its directions, computed once an evaluation and not once a batch."""
        if self._tables is None:
            table = self.catalogue()
            self._tables = table, F.normalize(table, dim=-1)
        return self._tables

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        table, directions = self.tables()
        items, groups, last, nonempty = (
            t.to(table.device) for t in packed_histories(examples, self.encoder.max_length)
        )
        hidden = F.normalize(self.encoder.last(table[items], groups, last) * nonempty.unsqueeze(1), dim=-1)
        if examples.candidates is None:
            return hidden @ directions.t()
        candidates = torch.from_numpy(examples.candidates).long().to(table.device)
        return torch.einsum("nh,nch->nc", hidden, directions[candidates])
