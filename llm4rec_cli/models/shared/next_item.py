"""The part that sequence models over item ids share: item vectors, training under one of several losses, and scores."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec_cli.arithmetic import autocast
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.models.base import Context, Rows
from llm4rec_cli.models.shared.batch import copied_to
from llm4rec_cli.models.shared.config import Distribution, NextItemConfig, NextItemLoss, PositionedConfig, Positions
from llm4rec_cli.models.shared.layers import SequenceEncoder
from llm4rec_cli.models.shared.losses import catalogue_cross_entropy, loss_over_samples, sampled_loss
from llm4rec_cli.models.shared.sequences import Negatives, SequenceRows, packed_histories


class ItemTable(nn.Module):
    """A model with a vector for each item, which an evaluation computes once."""

    _kept: tuple[Tensor, Tensor] | None = None

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.split, self.scoring = context.split, context.scoring

    def table(self) -> Tensor:
        """Return (n_items, hidden) the item vectors."""
        raise NotImplementedError

    def evaluated_table(self) -> Tensor:
        """Return `table` for an evaluation.

        Each process computes all of it: where texts are adapted by a linear layer, to gather a vector may take longer.
        """
        return self.table()

    def compared(self, vectors: Tensor) -> Tensor:
        """Return vectors whose inner products are the scores."""
        return vectors

    def train(self, mode: bool = True) -> Self:
        self._kept = None  # weights may have changed since the last evaluation
        return super().train(mode)

    @torch.no_grad()
    def kept(self) -> tuple[Tensor, Tensor]:
        """Return the item vectors, raw and as they are compared, computed once per evaluation."""
        if self._kept is None:
            table = self.evaluated_table().detach()
            self._kept = table, self.compared(table)
        return self._kept


class HistoryRanker(ItemTable):
    """Scores items by the inner product of their vectors with the state of a history.

    Attributes:
        max_length: number of latest items of a history that are read.
        widening: of the packing of sequences.
    """

    max_length: int
    widening: float = SequenceRows.widening

    def last_states(self, table: Tensor, items: Tensor, groups: IntArray, last: IntArray) -> Tensor:
        """Return (n, hidden) the states of packed sequences at the last token of each, (n,) `last`."""
        raise NotImplementedError

    def item_vectors(self) -> Tensor:
        return self.kept()[1]

    @torch.no_grad()
    def queries(self, examples: Examples) -> Tensor:
        table, _ = self.kept()
        items, groups, last, nonempty = packed_histories(examples, self.max_length, table.device, self.widening)
        with autocast(table.device, self.scoring):
            states = self.last_states(table, items, groups, last)
        return self.compared(states.to(table.dtype) * nonempty.unsqueeze(1))

    @torch.no_grad()
    def score(self, examples: Examples) -> Tensor:
        return inner_products(self.queries(examples), self.item_vectors(), examples)


class NextItemModel(HistoryRanker):
    """A `HistoryRanker` over item ids, trained on next items. Subclasses compute states, and end their __init__ by
    initialising the weights.

    Attributes:
        rows: the training rows that the states allow.
        from_last: whether positions are counted from the last item, for the encoder of a subclass. Sequences are then
            packed without padding.
    """

    rows: ClassVar[type[SequenceRows]] = SequenceRows
    softmax_items: Tensor | None
    log_probability: Tensor | None

    def __init__(self, config: NextItemConfig, context: Context, size: int) -> None:
        super().__init__(context)
        self.max_length = config.max_length
        self.from_last = isinstance(config, PositionedConfig) and config.positions is Positions.from_last
        self.widening = 1.0 if self.from_last else self.rows.widening
        items = context.split.softmax_items()
        self.register_buffer("softmax_items", None if items is None else torch.from_numpy(items), persistent=False)
        self.settings = config
        self.negatives = None
        if config.loss is not NextItemLoss.cross_entropy:
            # Under binary cross-entropy, as in the published code, items that the user has are not drawn.
            is_binary = config.loss is NextItemLoss.binary
            drawn_by = config.distribution or Distribution.uniform
            self.negatives = Negatives(context.split, config.negatives, context.seed, drawn_by, unseen=is_binary)
        drawn = None if self.negatives is None else torch.from_numpy(self.negatives.log_probability)
        self.register_buffer("log_probability", drawn, persistent=False)
        self.n_drawn = 0 if drawn is None else int(drawn.isfinite().sum())  # items that may be negatives
        self.items = nn.Embedding(context.split.n_items, size)

    def table(self) -> Tensor:
        return self.items.weight

    def states(self, table: Tensor, items: Tensor, groups: IntArray) -> Tensor:
        """Return (total, hidden) the state at each position of packed items, from which the next one is predicted."""
        raise NotImplementedError

    def last_states(self, table: Tensor, items: Tensor, groups: IntArray, last: IntArray) -> Tensor:
        return self.states(table, items, groups)[copied_to(torch.from_numpy(last), table.device)]

    def training_rows(self) -> Rows:
        return self.rows(self.split, self.max_length, self.negatives, self.widening)

    def forward(
        self, items: Tensor, read: Tensor, targets: Tensor, groups: IntArray, negatives: Tensor | None = None
    ) -> dict[str, Any]:
        """Return the mean loss over the targets of a batch of `SequenceRows`; without negatives cross-entropy over the
        catalogue."""
        table = self.table()
        hidden = self.states(table, items, groups)[read]
        if negatives is None:
            loss = catalogue_cross_entropy(hidden, table, targets, self.softmax_items)
        else:
            assert self.log_probability is not None
            sampled = loss_over_samples(self.settings, self.log_probability, self.n_drawn)
            loss = sampled_loss(hidden, table, torch.cat([targets.unsqueeze(1), negatives], 1), sampled)
        return {"loss": loss, "n_terms": len(hidden)}


class EncoderModel(NextItemModel):
    """A `NextItemModel` with states of an encoder over the item vectors, which subclasses make."""

    encoder: SequenceEncoder

    def states(self, table: Tensor, items: Tensor, groups: IntArray) -> Tensor:
        return self.encoder(F.embedding(items, table), groups)

    def last_states(self, table: Tensor, items: Tensor, groups: IntArray, last: IntArray) -> Tensor:
        return self.encoder.last(F.embedding(items, table), groups, last)


def inner_products(queries: Tensor, vectors: Tensor, examples: Examples) -> Tensor:
    """Return the scores of `Ranker`: of all items (n, n_items), or of the candidates (n, c)."""
    if examples.candidates is None:
        return queries @ vectors.t()
    candidates = torch.from_numpy(examples.candidates).long().to(vectors.device)
    return torch.einsum("nh,nch->nc", queries, F.embedding(candidates, vectors))
