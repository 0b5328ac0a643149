"""evidence_mix: a mixture of sparse evidence and popularity, times a sequence encoder.

    score(j) = a log(e^b n_j^c + Σ_k e^{g_k} x_kj^{p_k}) + t <h, v_j> / τ + s ρ_j
    score(j) = a log(e^b n_j^c) + r + q log(x_rj) + t <h, v_j> / τ + s ρ_j       for an item of the history

x_kj ≥ 0 is evidence of kind k for item j (`evidence`), n_j is 1 + its count in training, x_rj the sum of 1/d over the
distances d at which j is in the history. b, c, g and r, and a before a softplus, are linear in three numbers that
describe the history. h is the state of a causal Transformer, v_j the sum of a text and an id vector, both scaled to
length 1, and ρ_j is recency. All is trained together by cross-entropy over the catalogue, with t = 1 and s = 0, on
evidence that is cross-fitted by users. Of a large catalogue only items with evidence are summed exactly, and a sample
in place of the others (`_columns`). After an epoch validation chooses t and s (`epoch_metrics`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from llm4rec_cli.arithmetic import autocast
from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.data.examples import Examples, IntArray
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.models.base import Batch, Context
from llm4rec_cli.models.shared.batch import copied_to
from llm4rec_cli.models.shared.layers import initialise, pairwise_products, sasrec_encoder
from llm4rec_cli.models.shared.next_item import ItemTable
from llm4rec_cli.models.shared.sequences import SequenceRows, pack, packed_histories
from llm4rec_cli.text.features import encode_texts
from llm4rec_zoo.models.evidence_mix.config import EvidenceMixConfig, Part
from llm4rec_zoo.models.evidence_mix.evidence import Entries, Evidence

log = logging.getLogger(__name__)

# Logits of a block of rows, 16 MB: memory does not grow with rows × items. Where the catalogue is sampled, a block also
# has the items with evidence for one of its rows, so that fewer rows have fewer items.
SCORES_AT_ONCE, SAMPLED_AT_ONCE = 1 << 22, 1 << 20
EVIDENCE_AT_ONCE = 256  # rows: a product of sparse matrices takes time for its columns too, however few its rows
TINY = 1e-30
VARIES = 1e-2  # of the largest singular value; the 128th of ten catalogues of 786 to 50,434 texts has 0.11 to 0.26
N_GATE_INPUTS = 3
# Validation chooses one factor of the encoder's part, and one of recency.
TRUST, RECENCY = (0.0, 0.25, 0.5, 0.75, 1.0), (0.0, 0.5, 1.0, 1.5, 2.0)
CHOSEN_ON = 2000  # at most so many examples of validation
SOFTPLUS_IS_1 = math.log(math.e - 1)  # softplus of it is 1

# The items of a block's softmax; and its summed loss as a function of its rows' states, of these items' vectors, of its
# rows' gates, and of the powers.
Block = tuple[Tensor | slice, Callable[..., Tensor]]


class EvidenceRows(SequenceRows):
    """Rows of sequences, with the history of each target in arrays: `user`, `start` and `end`, (number of targets,).

    If the catalogue is sampled, a batch has the array `sample`, (n_sampled,): ascending numbers of different items. It
    is drawn for the batch, so that of several processes each has its own.
    """

    def __init__(self, split: Split, config: EvidenceMixConfig, seed: int) -> None:
        super().__init__(split, config.max_length)
        items = split.softmax_items()
        self.pool = np.arange(split.n_items) if items is None else np.sort(items)
        self.n_sampled, self.seed = config.sampled_items or len(self.pool), seed

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        batch = super().batch(epoch, indices)
        packing, read = pack(self.lengths[indices], self.widening), np.asarray(batch["read"])
        row, position = packing.row[read], packing.position[read]
        user = self.users[indices][row]
        history = {"user": user, "start": self.offsets[user], "end": self.starts[indices][row] + position + 1}
        if len(self.pool) > 2 * self.n_sampled:  # of a smaller catalogue the whole takes no longer
            random = stream(self.seed, "sampled items", epoch, indices[0])
            history["sample"] = np.sort(random.choice(self.pool, self.n_sampled, replace=False, shuffle=False))
        return {**batch, **history}

    def examples(self, user: IntArray, start: IntArray, end: IntArray) -> Examples:
        return Examples(user, self.flat[end], self.flat, start, end, end)


class EvidenceMix(ItemTable):
    """See the module. `vectors` are (n_items, size) frozen text vectors."""

    vectors: Tensor | None
    included: Tensor
    log_counts: Tensor
    centre: Tensor
    spread: Tensor
    recency: Tensor
    trust: Tensor
    recency_weight: Tensor

    def __init__(self, config: EvidenceMixConfig, context: Context, vectors: Tensor | None) -> None:
        super().__init__(context)
        self.cache, self.settings = context.cache, config
        self.evidence = Evidence(context.split, config, context.seed)
        self.rows = EvidenceRows(context.split, config, context.seed)
        self.register_buffer("log_counts", torch.from_numpy(self.evidence.log_counts), persistent=False)
        self.register_buffer("recency", torch.from_numpy(self.evidence.recency), persistent=False)
        self.register_buffer("vectors", vectors, persistent=False)
        included = torch.zeros(context.split.n_items, dtype=torch.bool)
        included[torch.from_numpy(self.rows.pool)] = True
        self.register_buffer("included", included, persistent=False)
        self.n_kinds = len(self.evidence.kinds) - 1
        self.encoder = self.ids = self.adaptor = None
        if Part.encoder in config.parts:
            self.encoder = sasrec_encoder(config)
            self.ids = nn.Embedding(context.split.n_items, config.hidden_size) if Part.ids in config.parts else None
            self.adaptor = None if vectors is None else nn.Linear(vectors.shape[1], config.hidden_size)
            self.apply(initialise)
            if vectors is not None and not context.is_loaded:
                self._whiten(vectors)
        self.gates = nn.Linear(N_GATE_INPUTS, self.n_kinds + 4)
        nn.init.zeros_(self.gates.weight)
        start = [0.0] * self.n_kinds + [SOFTPLUS_IS_1, -4.0, 1.0, -3.0]
        self.gates.bias = nn.Parameter(torch.tensor(start))
        self.powers = nn.Parameter(torch.full((self.n_kinds + 1,), SOFTPLUS_IS_1))
        gate_inputs = self._training_gate_inputs()
        self.register_buffer("centre", gate_inputs.mean(0))
        self.register_buffer("spread", gate_inputs.std(0, correction=0).clamp_min(0.1))
        self.register_buffer("trust", torch.ones(()))
        self.register_buffer("recency_weight", torch.zeros(()))

    def _whiten(self, vectors: Tensor) -> None:
        """Start the adaptor as the whitening of the text vectors, of length about 1.

        Directions in which the catalogue hardly varies are left out: whitening would inflate them for a new text.
        """
        assert self.adaptor is not None
        centre = vectors.mean(0)
        _, scale, directions = torch.linalg.svd(vectors - centre, full_matrices=False)
        size = min(int((scale > VARIES * scale[0]).sum()), self.adaptor.out_features)
        scale = scale[:size] / math.sqrt(len(vectors))
        with torch.no_grad():
            self.adaptor.weight[:size] = directions[:size] / (scale * math.sqrt(size)).unsqueeze(1)
            self.adaptor.bias.copy_(-self.adaptor.weight @ centre)

    def _training_gate_inputs(self) -> Tensor:
        """Return (n, N_GATE_INPUTS) the gate inputs of training histories, or zeros if there are none."""
        offsets = self.rows.offsets
        end = np.setdiff1d(np.arange(offsets[-1]), offsets[:-1])
        user = np.searchsorted(offsets, end, side="right") - 1
        if len(user) == 0:
            return torch.zeros(1, N_GATE_INPUTS)
        examples = Examples(user, self.rows.flat[end], self.rows.flat, offsets[user], end, end)
        return self.evidence.gate_inputs(examples, self.evidence.user_fold[user])

    @property
    def epsilon(self) -> float:
        return 1e-8

    def learning_rate_of(self, name: str, usual: float) -> float:
        return self.settings.gate_learning_rate if name.startswith(("gates", "powers")) else usual

    def training_rows(self) -> EvidenceRows:
        return self.rows

    def table(self) -> Tensor:
        """Return (n_items, hidden) the item vectors. A new item has no id vector. Without an encoder of size 0."""
        size = 0 if self.encoder is None else self.settings.hidden_size
        table = self.log_counts.new_zeros(self.log_counts.shape[1], size)
        if self.adaptor is not None:
            table = table + self.adaptor(self.vectors)
        if self.ids is not None:
            missing = len(table) - self.ids.num_embeddings
            table = table + F.pad(self.ids.weight, (0, 0, 0, missing))
        return table

    def forward(
        self,
        items: Tensor,
        read: Tensor,
        targets: Tensor,
        groups: IntArray,
        user: IntArray,
        start: IntArray,
        end: IntArray,
        sample: IntArray | None = None,
    ) -> dict[str, Any]:
        """Return the mean cross-entropy over all items, of a batch of `EvidenceRows`. A sample takes the place of all
        items that have no evidence."""
        table = self.table()
        hidden = table.new_zeros(len(targets), 0)
        if self.encoder is not None:
            hidden = self.encoder(F.embedding(items, table), groups)[read]
        examples = self.rows.examples(user, start, end)
        fold = self.evidence.user_fold[examples.user]
        with torch.autocast(items.device.type, enabled=False):
            hidden, table, gates = hidden.float(), table.float(), self._gates(examples, fold)

            size = max(1, SCORES_AT_ONCE // len(table) if sample is None else SAMPLED_AT_ONCE // len(sample))
            entries_of = self._entries_by_block(examples, fold, size)

            def block(rows: slice) -> Block:
                entries, places = entries_of(rows), targets[rows]
                items: Tensor | slice = slice(None)
                log_weight = self.included.log()
                if sample is not None:
                    columns = self._columns(entries, examples.target[rows], sample)
                    items, log_weight, places = (copied_to(x, table.device) for x in columns[:3])
                    entries = columns[3]

                def loss(*inputs: Tensor) -> Tensor:
                    scores = self._scores(entries, self.log_counts[:, items], fold[rows], *inputs)
                    return F.cross_entropy(scores + log_weight, places, reduction="sum")

                return items, loss

            directions = self._scaled(hidden), self.compared(table)
            total: Tensor = _BlockwiseLoss.apply(block, size, *directions, gates, self.powers)
        return {"loss": total / len(targets), "n_terms": len(targets)}

    def _entries_by_block(self, examples: Examples, fold: IntArray, size: int) -> Callable[[slice], Entries]:
        """Return a function of a slice of `size` rows, the next of ascending ones, that returns their evidence."""
        at_once = size * max(1, EVIDENCE_AT_ONCE // size)

        @lru_cache(maxsize=1)
        def computed(start: int) -> Entries:
            rows = slice(start, start + at_once)
            return self.evidence.entries(examples[rows], fold[rows])

        def entries(rows: slice) -> Entries:
            start = rows.start % at_once
            several = computed(rows.start - start)
            return several if at_once == size else several.of_rows(start, start + size, self.log_counts.shape[1])

        return entries

    def _columns(self, entries: Entries, targets: IntArray, sample: IntArray) -> tuple[Tensor, Tensor, Tensor, Entries]:
        """Return what a block's softmax runs over: items with evidence for a row of it, its targets, and the sample.

        The first two are summed exactly. An item of the sample represents several others, so that the sum is estimated
        without bias.

        Returns:
            (n_columns,) ascending items, and the logs of their weights; the targets and the entries by column.
        """
        n_items = len(self.included)
        exact, drawn, included = torch.zeros(3, n_items, dtype=torch.bool)
        included[torch.from_numpy(self.rows.pool)] = True
        exact[entries.key % n_items] = exact[torch.from_numpy(targets)] = drawn[torch.from_numpy(sample)] = True
        sampled_from = included & ~exact
        weight = torch.where(sampled_from, sampled_from.sum() / (drawn & ~exact).sum(), included)
        is_column = exact | drawn
        items, place = is_column.nonzero().squeeze(1), is_column.cumsum(0) - 1
        key = entries.key // n_items * len(items) + place[entries.key % n_items]
        return items, weight.log()[items], place[torch.from_numpy(targets)], entries._replace(key=key)

    def _gates(self, examples: Examples, fold: IntArray) -> Tensor:
        gate_inputs = copied_to(self.evidence.gate_inputs(examples, fold), self.centre.device)
        return self.gates((gate_inputs - self.centre) / self.spread)

    def _scores(
        self,
        entries: Entries,
        log_counts: Tensor,
        fold: IntArray,
        hidden: Tensor,
        table: Tensor,
        gates: Tensor,
        powers: Tensor,
    ) -> Tensor:
        """Return (n, n_items) scores of a block of examples, for the catalogue or for some items of it.

        Args:
            entries: their keys are row · n_items + place among these items.
            log_counts: (n_folds + 1, n_items) of these items.
            fold: (n,) the folds to leave out.
            hidden, table, gates, powers: (n, hidden), (n_items, hidden), (n, n_gates) and (n_kinds + 1,).
        """
        k, shape, device = self.n_kinds, (len(hidden), len(table)), table.device
        n_new = int((entries.kind < k).sum())  # entries, on the CPU, are in the order of kinds
        key, kind, value = (copied_to(x, device) for x in entries)
        sharpness, base, slope, repetition = gates[:, k:].split(1, dim=1)
        popularity = slope * log_counts[copied_to(torch.from_numpy(fold), device)] + base
        strength = F.softplus(powers)[kind] * value.log()
        new, old = slice(n_new), slice(n_new, None)
        mixture = (gates[key[new] // shape[1], kind[new]] + strength[new]).exp()
        mixed = popularity.exp().flatten().index_add(0, key[new], mixture)
        scores = F.softplus(sharpness) * (mixed.view(shape) + TINY).log() + pairwise_products(hidden, table)
        again = repetition[key[old] // shape[1], 0] + strength[old]
        return scores.flatten().index_add(0, key[old], again).view(shape)

    def compared(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; training, and the validation after it, trust the encoder in full and ignore recency."""
        if mode:
            self.trust.fill_(1)
            self.recency_weight.fill_(0)
        return super().train(mode)

    @torch.no_grad()
    def epoch_metrics(self, means: Mapping[str, float]) -> dict[str, Any]:
        """Set and return `trust` and `recency`, the factors t and s that give validation the lowest cross-entropy.

        Both are what the training rows cannot teach. The encoder has seen each training target: where targets do not
        depend on histories, it has learned nothing but these targets, and its part is left out. And a training target
        is earlier than the ends of sequences, by an unknown time, where a target of evaluation is later than all.
        The epoch is chosen with t = 1 and s = 0: early epochs would look better without the encoder, and training would
        end before it has learned.
        """
        examples = self.split.examples(SplitName.valid)
        if not len(examples):
            return {}
        examples = examples[np.unique(np.linspace(0, len(examples) - 1, CHOSEN_ON).astype(np.int64))]
        target = torch.from_numpy(examples.target).long().to(self.trust.device)
        hidden, table = self._last_directions(examples)
        trusts = self.trust.new_tensor(TRUST if self.encoder is not None else (1.0,))
        weights = self.trust.new_tensor(RECENCY if self.settings.recency else (0.0,))
        factors = torch.outer(self.recency, weights).exp()  # e^{s ρ}: one product of matrices sums them for every s
        losses = torch.zeros(len(trusts), len(weights), dtype=torch.float64, device=target.device)
        for rows, scores in self._score_blocks(examples, torch.zeros_like(hidden), table):
            scores = scores.masked_fill(~self.included, float("-inf"))
            of_encoder = pairwise_products(hidden[rows], table)
            for i, trust in enumerate(trusts):
                logits = scores + trust * of_encoder
                peak = logits.amax(1, keepdim=True)
                log_sums = ((logits - peak).exp() @ factors).log() + peak
                of_target = logits.gather(1, target[rows, None]) + weights * self.recency[target[rows], None]
                losses[i] += (log_sums - of_target).sum(0)
        best, best_weight = divmod(int(losses.argmin()), len(weights))
        self.trust.copy_(trusts[best])
        self.recency_weight.copy_(weights[best_weight])
        facts = {"trust": self.trust.item()} if self.encoder is not None else {}
        return facts | ({"recency": self.recency_weight.item()} if self.settings.recency else {})

    @torch.no_grad()
    def score_blocks(self, examples: Examples) -> Iterator[tuple[slice, Tensor]]:
        hidden, table = self._last_directions(examples)
        for rows, scores in self._score_blocks(examples, hidden * self.trust, table):
            yield rows, scores + self.recency_weight * self.recency

    def score(self, examples: Examples) -> Tensor:
        blocks = []
        for rows, block in self.score_blocks(examples):
            if examples.candidates is not None:
                block = block.gather(1, torch.from_numpy(examples.candidates[rows]).long().to(block.device))
            blocks.append(block)
        return torch.cat(blocks)

    def _last_directions(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """Return the states after the histories, of length 1/τ, and all item vectors, of length 1."""
        table, directions = self.kept()
        hidden = table.new_zeros(len(examples), 0)
        if self.encoder is not None:
            items, groups, last, nonempty = packed_histories(examples, self.settings.max_length, table.device)
            with autocast(table.device, self.scoring):
                states = self.encoder.last(F.embedding(items, table), groups, last)
            hidden = states.to(table.dtype) * nonempty.unsqueeze(1)
        return self._scaled(hidden), directions

    def _scaled(self, hidden: Tensor) -> Tensor:
        """Return states of length 1/τ; without an encoder, whose settings are unset, they have no size."""
        return hidden if self.encoder is None else F.normalize(hidden, dim=-1) / self.settings.temperature

    def _score_blocks(self, examples: Examples, hidden: Tensor, table: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield blocks of rows and their scores, (n, n_items)."""
        fold = self.evidence.all_users(examples)
        gates = self._gates(examples, fold)
        size = max(1, SCORES_AT_ONCE // len(table))
        entries = self._entries_by_block(examples, fold, size)
        for start in range(0, len(examples), size):
            rows = slice(start, start + size)
            inputs = hidden[rows], table, gates[rows], self.powers
            yield rows, self._scores(entries(rows), self.log_counts, fold[rows], *inputs)

    def add_items(self, split: Split) -> None:
        self._kept = None
        self.evidence.add_items(split)
        if self.vectors is not None:
            texts, device = split.dataset.texts[len(self.vectors) :], self.vectors.device
            added = encode_texts(texts, self.settings.encoder, self.cache, device.type, self.split.dataset)
            self.vectors = torch.cat([self.vectors, added.to(device)])
        for name in ("log_counts", "recency"):
            setattr(self, name, torch.from_numpy(getattr(self.evidence, name)).to(self.log_counts.device))


class _BlockwiseLoss(torch.autograd.Function):
    """The sum of a loss over rows and its gradients, in one pass over blocks of rows."""

    @staticmethod
    def forward(
        ctx: Any,
        block: Callable[[slice], Block],
        size: int,
        hidden: Tensor,
        table: Tensor,
        gates: Tensor,
        powers: Tensor,
    ) -> Tensor:
        gradients = [torch.zeros_like(x) for x in (hidden, table, gates, powers)]
        total = hidden.new_zeros(())
        for start in range(0, len(hidden), size):
            rows = slice(start, start + size)
            items, loss = block(rows)
            with torch.enable_grad():
                inputs = [x.detach().requires_grad_() for x in (hidden[rows], table[items], gates[rows], powers)]
                value = loss(*inputs)
                of_hidden, of_table, of_gates, of_powers = torch.autograd.grad(value, inputs)
            total += value.detach()
            gradients[0][rows] = of_hidden
            gradients[1][items] += of_table
            gradients[2][rows] = of_gates
            gradients[3] += of_powers
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(gradient * outer[0] for gradient in ctx.saved_tensors)


def build(context: Context) -> EvidenceMix:
    config: EvidenceMixConfig = context.config
    dataset, vectors = context.split.dataset, None
    # Texts that are all alike leave nothing to whiten.
    if {Part.encoder, Part.vectors} <= set(config.parts) and len(set(dataset.texts)) > 1:
        vectors = encode_texts(dataset.texts, config.encoder, context.cache, context.device, dataset)
    model = EvidenceMix(config, context, vectors)
    inputs = {Part.text: model.evidence.text, Part.vectors: vectors}
    if unused := [part.name for part, value in inputs.items() if part in config.parts and value is None]:
        log.warning(
            "evidence_mix: items have no texts, or none with words, or all the same, so model.parts names %s without "
            "effect",
            " and ".join(unused),
        )
    return model
