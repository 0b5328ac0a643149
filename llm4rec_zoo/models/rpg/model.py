"""RPG (Hou et al., KDD 2025, arXiv 2506.05781): the m codes of the next item are predicted in parallel.

An item's input vector is the mean of its codes' embeddings. A causal Transformer gives a state h after each item, m
residual heads one state for each code, and cosines with the embeddings of its codebook the probabilities:

    gⱼ = h + SiLU(Wⱼ h + bⱼ),  p(cⱼ = k) = softmaxₖ(cos(gⱼ, eⱼₖ) / τ),  score(item) = meanⱼ log p(cⱼ = its code)

The score is a sum of m numbers, looked up in the log-probabilities of all codes, so the whole catalogue is scored
exactly. Items with equal codes tie.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.arithmetic import autocast
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.errors import DataError
from llm4rec_cli.ids.item_ids import END, ItemIds
from llm4rec_cli.models.base import Context
from llm4rec_cli.models.shared.layers import GPT2Layer, SequenceEncoder, initialise, scale_residuals
from llm4rec_cli.models.shared.losses import catalogue_cross_entropy
from llm4rec_cli.models.shared.sequences import SequenceRows, packed_histories
from llm4rec_zoo.ids.semantic import codes_of
from llm4rec_zoo.models.rpg.config import RPGConfig

SCORES_AT_ONCE = 1 << 20  # on a CPU, the log-probabilities that are summed stay near the cache


class RPG(nn.Module):
    """Embeddings of codes, a causal Transformer over items, and a head for each code.

    Attributes:
        sizes: of the codebooks.
        first: (m,) the first row of each codebook in `tokens`, which has them one after another.
        codes: (n_items, m) rows of `tokens`.
    """

    first: Tensor
    codes: Tensor

    def __init__(self, config: RPGConfig, context: Context, ids: ItemIds) -> None:
        super().__init__()
        self.split, self.item_codes, self.scoring = context.split, ids, context.scoring
        self.max_length, self.temperature = config.max_length, config.temperature
        self.sizes = ids.sizes
        self.register_buffer("first", torch.tensor([0, *self.sizes[:-1]]).cumsum(0), persistent=False)
        self.register_buffer("codes", torch.from_numpy(ids.codes) + self.first, persistent=False)
        self.tokens = nn.Embedding(sum(self.sizes), config.hidden_size)
        sizes = config.hidden_size, config.inner_size, config.heads, config.dropout, config.attention_dropout
        layers = [GPT2Layer(*sizes) for _ in range(config.layers)]
        self.encoder = SequenceEncoder(config.hidden_size, config.max_length, config.dropout, layers, norm=False)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.heads = nn.Linear(config.hidden_size, len(self.sizes) * config.hidden_size)
        self.apply(initialise)
        scale_residuals(layers)
        nn.init.zeros_(self.heads.weight)

    def training_rows(self) -> SequenceRows:
        return SequenceRows(self.split, self.max_length)

    def artifacts(self) -> dict[str, str]:
        return {"item_ids.json": self.item_codes.to_json(self.split.dataset)}

    def forward(self, items: Tensor, read: Tensor, targets: Tensor, groups: IntArray) -> dict[str, Any]:
        """Return the mean loss over the targets of a batch of `SequenceRows`, and over codes."""
        states = self.norm(self.encoder(self._inputs(items), groups))[read]
        codes = self.codes[targets] - self.first
        parts = zip(self._code_states(states), self._codebooks(), codes.t(), strict=True)
        losses = [catalogue_cross_entropy(state, codebook, code) for state, codebook, code in parts]
        return {"loss": torch.stack(losses).mean(), "n_terms": len(states)}

    def _inputs(self, items: Tensor) -> Tensor:
        """Return (total, hidden) the mean of the embeddings of each item's codes."""
        return F.embedding_bag(self.codes[items], self.tokens.weight, mode="mean")

    def _code_states(self, states: Tensor) -> tuple[Tensor, ...]:
        """Return for each code (n, hidden) the normalised state that predicts it, divided by the temperature."""
        residuals = F.silu(self.heads(states)).unflatten(1, (len(self.sizes), -1))
        return (F.normalize(states[:, None] + residuals, dim=-1) / self.temperature).unbind(1)

    def _codebooks(self) -> tuple[Tensor, ...]:
        """Return (size, hidden) the normalised embeddings of each codebook."""
        return F.normalize(self.tokens.weight, dim=-1).split(self.sizes)

    @torch.no_grad()
    def _last_states(self, examples: Examples) -> Tensor:
        device = self.tokens.weight.device
        items, groups, last, nonempty = packed_histories(examples, self.max_length, device)
        with autocast(device, self.scoring):
            states = self.norm(self.encoder.last(self._inputs(items), groups, last))
        return states.float() * nonempty.unsqueeze(1)

    @torch.no_grad()
    def _log_probabilities(self, states: Tensor) -> Tensor:
        """Return (n, codes) fp32, of all codebooks one after another."""
        parts = zip(self._code_states(states), self._codebooks(), strict=True)
        return torch.cat([(state @ codebook.t()).float().log_softmax(1) for state, codebook in parts], 1)

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        log_probabilities = self._log_probabilities(self._last_states(examples))
        if examples.candidates is None:
            return self._catalogue_scores(log_probabilities)
        codes = self.codes[torch.from_numpy(examples.candidates).long().to(self.codes.device)]  # (n, c, m)
        return log_probabilities.gather(1, codes.flatten(1)).view(codes.shape).mean(2)

    def score_blocks(self, examples: Examples) -> Iterator[tuple[slice, Tensor]]:
        """Yield consecutive slices of the examples, and (n, n_items) their scores."""
        states = self._last_states(examples)
        rows = max(1, SCORES_AT_ONCE // len(self.codes))
        for start in range(0, len(states), rows):
            part = slice(start, start + rows)
            yield part, self._catalogue_scores(self._log_probabilities(states[part]))

    def _catalogue_scores(self, log_probabilities: Tensor) -> Tensor:
        """Return (n, n_items) the mean of the items' rows of the log-probabilities (n, codes): each is added for all
        examples at once, as a product with sparse one-hot codes."""
        scores = F.embedding_bag(self.codes, log_probabilities.t().contiguous(), mode="mean")
        return scores.t().contiguous()


def build(context: Context) -> RPG:
    ids = codes_of(context)
    if (ids.codes == END).any():
        raise DataError(
            "model 'rpg' predicts all codes of an item at once, and ids of the file have different lengths",
            "use ids of one length",
        )
    return RPG(context.config, context, ids)
