"""How fast UniSRec and SASRec train and UniSRec pre-trains, compared with a reference.

The reference is the published formulation, written by us in plain torch and fp32: one row per prefix, padded to 50;
every position of every row computed; UniSRec's adaptor on every (row, position), each expert with its own dropout of
the input. It has the same parameters as the model (a test holds losses and gradients equal, with dropout and gate noise
off), the same dropout rates, and the same AdamW. Ours departs as its deviations say: UniSRec draws dropout and gate
noise once per item and step (draw=catalogue), and windows of sequences over 50 items show a target at least 25.

In pre-training a target is a record. Each row has an augmented view, which passes through adaptor and encoder like the
row itself, and the reference contrasts the records of its batch as the published code does. Ours takes whole sequences:
trainer.batch_size of them, not --reference-batch records, and records of one user are not negatives of each other.

Ours is `training.fit`, as `llm4rec train` calls it, with the Trainer's start, batches, optimiser and one checkpoint per
epoch, but without validation. Contenders take turns in one run. FLOP are those of matrix products, counted by torch as
they run; shares are of this machine's measured rate in the same precision. The FLOP a target needs are one causal pass
without padding, and UniSRec's adaptor once per step over the catalogue (in pre-training: over the step's distinct
texts).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from bench_common import (
    Timing,
    flops_per_unit,
    machine_description,
    number,
    option_parser,
    print_table,
    run_job,
    speed_rows,
    time_with_machine_rate,
)
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from llm4rec_cli.config.schema import Precision, SplitName
from llm4rec_cli.data.split import Split, leave_one_out
from llm4rec_cli.models.baselines.sasrec import SASRec
from llm4rec_cli.models.shared.sequences import IGNORED
from llm4rec_cli.models.unisrec.network import NOISE_FLOOR, UniSRec
from llm4rec_cli.models.unisrec.pretraining import PretrainedUniSRec
from llm4rec_cli.run import stages
from llm4rec_cli.run.fit import fit
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled
from llm4rec_cli.tasks import ranking

MODELS = {  # name -> overrides for llm4rec train
    "unisrec": ["model=unisrec"],  # as shipped: 300-d, 8 experts over the 384-d vectors of MiniLM
    "unisrec-pretraining": ["model=unisrec", "task=pretrain", "trainer=pretrain"],
    "sasrec": ["model=sasrec", "model.hidden_size=64"],  # RecBole's default
}
REFERENCE, FP32, BF16 = "reference, fp32", "ours, fp32", "ours, bf16"
EXTRAPOLATED = "reference's seconds for as many epochs (extrapolated)"
DESCRIPTIONS = {REFERENCE: "one padded row per prefix", FP32: "algorithm", BF16: "algorithm + precision"}


class ReferenceLayer(nn.Module):
    """One post-LayerNorm Transformer layer over padded rows."""

    def __init__(self, hidden: int, inner: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.p = heads, dropout
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.norm_attention = nn.LayerNorm(hidden, eps=1e-12)
        self.up = nn.Linear(hidden, inner)
        self.down = nn.Linear(inner, hidden)
        self.norm_feedforward = nn.LayerNorm(hidden, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        rows, length, hidden = x.shape
        q, k, v = self.qkv(x).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        p = self.p if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        attended = attended.transpose(1, 2).reshape(rows, length, hidden)
        x = self.norm_attention(x + self.dropout(self.out(attended)))
        return self.norm_feedforward(x + self.dropout(self.down(F.gelu(self.up(x)))))


class ReferenceEncoder(nn.Module):
    """SASRec's encoder: (rows, max_length, hidden) item vectors to the (rows, hidden) state of each row's last item."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        hidden, p = config.hidden_size, config.dropout
        self.positions = nn.Embedding(config.max_length, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-12)
        self.dropout = nn.Dropout(p)
        self.layers = nn.ModuleList(
            ReferenceLayer(hidden, config.inner_size, config.heads, p) for _ in range(config.layers)
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        place = torch.arange(x.shape[1])
        mask = (place <= place[:, None]) & (place < lengths[:, None, None])  # causal, without padding
        x = self.dropout(self.norm(x + self.positions.weight))
        for layer in self.layers:
            x = layer(x, mask[:, None])
        return x[torch.arange(len(x)), lengths - 1]


class ReferenceSASRec(nn.Module):
    def __init__(self, config: Any, model: Any) -> None:
        super().__init__()
        self.items = nn.Embedding(model.split.n_items, config.hidden_size)
        self.encoder = ReferenceEncoder(config)

    def forward(self, items: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        hidden = self.encoder(self.items(items), lengths)
        return F.cross_entropy(hidden @ self.items.weight.t(), targets)


class ReferenceAdaptor(nn.Module):
    """Parametric whitening and mixture of experts on (…, text_size) text vectors, one expert after another."""

    def __init__(self, text_size: int, hidden: int, experts: int, dropout: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(experts, text_size))
        self.whiten = nn.Parameter(torch.zeros(experts, text_size, hidden))
        self.gate = nn.Parameter(torch.zeros(text_size, experts))
        self.noise = nn.Parameter(torch.zeros(text_size, experts))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        logits = x @ self.gate
        if self.training:
            logits = logits + torch.randn_like(logits) * (F.softplus(x @ self.noise) + NOISE_FLOOR)
        gates = logits.softmax(-1)
        experts = [(self.dropout(x) - b) @ w for b, w in zip(self.bias, self.whiten, strict=True)]
        return (torch.stack(experts, -2) * gates.unsqueeze(-1)).sum(-2)


class ReferenceUniSRec(nn.Module):
    features: Tensor

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.register_buffer("features", model.features, persistent=False)
        self.adaptor = ReferenceAdaptor(
            model.features.shape[1], config.hidden_size, config.experts, config.adaptor_dropout
        )
        self.encoder = ReferenceEncoder(config)

    def forward(self, items: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        hidden = self.encoder(self.adaptor(F.embedding(items, self.features)), lengths)
        table = self.adaptor(self.features)
        logits = F.normalize(hidden, dim=-1) @ F.normalize(table, dim=-1).t() / self.temperature
        return F.cross_entropy(logits, targets)


class ReferencePretraining(ReferenceUniSRec):
    """Both contrastive losses: rows and their augmented views each pass through adaptor and encoder in full."""

    texts: Tensor

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self.sequence_weight = config.pretraining.sequence_weight
        self.register_buffer("texts", torch.cat([model.features, model.word_drop_features]), persistent=False)

    def forward(  # type: ignore[override]
        self, items: Tensor, lengths: Tensor, targets: Tensor, views: Tensor, view_lengths: Tensor
    ) -> Tensor:
        state = self.encoder(self.adaptor(F.embedding(items, self.texts)), lengths)
        view = self.encoder(self.adaptor(F.embedding(views, self.texts)), view_lengths)
        target = self.adaptor(F.embedding(targets, self.texts))
        state, view, target = (F.normalize(x, dim=-1) for x in (state, view, target))
        return self.contrast(state, target, targets) + self.sequence_weight * self.contrast(state, view, targets)

    def contrast(self, anchors: Tensor, positives: Tensor, targets: Tensor) -> Tensor:
        """-log of exp(own) over the sum of exp; another record of the same target counts as exp(0), as published."""
        own = ((anchors * positives).sum(-1) / self.temperature).exp()
        same_target = (targets == targets[:, None]) & ~torch.eye(len(targets), dtype=torch.bool)
        logits = (anchors @ positives.t() / self.temperature).masked_fill(same_target, 0)
        return -(own / logits.exp().sum(1)).log().mean()


REFERENCES = {UniSRec: ReferenceUniSRec, PretrainedUniSRec: ReferencePretraining, SASRec: ReferenceSASRec}


class PrefixRows:
    """All (prefix, target) pairs of the training split: a prefix's latest `max_length` items, right-padded."""

    def __init__(self, split: Split, max_length: int) -> None:
        self.flat, offsets = split.train_sequences()
        lengths = np.diff(offsets)
        self.max_length = max_length
        self.target = np.setdiff1d(np.arange(offsets[-1]), offsets[:-1][lengths > 0])  # all but each user's first item
        begin = np.repeat(offsets[:-1], lengths)[self.target]
        self.start = np.maximum(begin, self.target - max_length)

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return `items` (rows, max_length), `lengths` (rows,) and `targets` (rows,)."""
        start, target = self.start[indices], self.target[indices]
        source = np.minimum(start[:, None] + np.arange(self.max_length), target[:, None] - 1)
        arrays = {"items": self.flat[source], "lengths": target - start, "targets": self.flat[target]}
        return {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()}


class AugmentedRows(PrefixRows):
    """Prefix rows with an augmented view each; every batch drops either items or words."""

    def __init__(self, split: Split, config: Any, seed: int) -> None:
        super().__init__(split, config.max_length)
        self.n_items, self.config = split.n_items, config.pretraining
        self.generator = torch.Generator().manual_seed(seed)

    def batch(self, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """Also return `views` like `items`, plus n_items where words are dropped, and `view_lengths`."""
        plain = super().batch(indices)
        items, lengths, place = plain["items"], plain["lengths"], torch.arange(self.max_length)
        changed = torch.rand(items.shape, generator=self.generator) < self.config.drop
        if torch.rand((), generator=self.generator) < self.config.item_drop:
            kept = (place == 0) | (~changed & (place < lengths[:, None]))
            kept_first = kept.byte().argsort(dim=1, descending=True, stable=True)
            return plain | {"views": items.gather(1, kept_first), "view_lengths": kept.sum(1)}
        return plain | {"views": items + self.n_items * changed, "view_lengths": lengths}


def build_reference(config: Any, model: nn.Module) -> nn.Module:
    """Return the published formulation of this model, with the same weights."""
    reference = REFERENCES[type(model)](config.model, model)
    reference.load_state_dict(model.state_dict())
    return reference


def needed_flops(
    model: Any, n_items: int, lengths: NDArray[np.int64], n_targets: int, n_steps: int, text_size: int = 0
) -> float:
    """Return the FLOP in matrix products needed to train on one target: one causal pass without padding.

    Args:
        model: its config.
        lengths: (n,) inputs of each training sequence, at most `max_length`.
        n_targets: per epoch.
        n_steps: per epoch; each applies UniSRec's adaptor to the catalogue once.
        text_size: of a text vector; 0 = no adaptor.
    """
    adaptor = adaptor_flops(model, n_items, text_size) * n_steps if text_size else 0
    logits = 2 * model.hidden_size * n_items * n_targets
    # Backward: gradients of inputs and weights, in the adaptor only of weights, since text vectors are frozen.
    return float((3 * (encoder_flops(model, lengths) + logits) + 2 * adaptor) / n_targets)


def needed_flops_of_pretraining(model: Any, batches: Iterable[Mapping[str, Tensor]], text_size: int) -> float:
    """Return the FLOP in matrix products needed to pre-train on one record.

    A step of B records, forward:
        the adaptor, once over each distinct text among its items, views and targets;
        the encoder, over each row as it is and augmented, without padding;
        the logits of both losses, B × B each: 2 · 2 B² hidden.
    Backward takes twice that for encoder and logits (inputs and weights), and once for the adaptor (only weights).

    Args:
        model: its config.
        batches: of an epoch, as returned by `PretrainingRows.batch`.
        text_size: of a text vector.
    """
    total, n_records = 0.0, 0
    for batch in batches:
        predicting = np.flatnonzero(batch["targets"].numpy() != IGNORED)
        passes = [("groups", predicting), ("view_groups", batch["seen_at"].numpy())]
        lengths = np.concatenate([packed_lengths(batch[groups].numpy(), seen) for groups, seen in passes])
        texts = torch.cat([batch["items"], batch["views"], batch["records"][:, 1]]).unique()
        logits = 2 * 2 * len(predicting) ** 2 * model.hidden_size
        total += 3 * (encoder_flops(model, lengths) + logits) + 2 * adaptor_flops(model, len(texts), text_size)
        n_records += len(predicting)
    return total / n_records


def needed_by(config: Any, model: Any, n_targets: int) -> float:
    """Return the FLOP needed per target of any of the models, in steps of the config's batch size."""
    rows, size = model.training_rows(), config.trainer.batch_size
    text_size = model.features.shape[1] if isinstance(model, UniSRec) else 0
    if not isinstance(model, PretrainedUniSRec):
        return needed_flops(
            config.model, model.split.n_items, rows.lengths, n_targets, -(-len(rows) // size), text_size
        )
    order = np.random.default_rng(config.seed).permutation(len(rows))
    batches = (rows.batch(0, order[start : start + size].tolist()) for start in range(0, len(rows), size))
    return needed_flops_of_pretraining(config.model, batches, text_size)


def encoder_flops(model: Any, lengths: NDArray[np.int64]) -> float:
    """Return the forward FLOP over causal sequences of these lengths."""
    h = model.hidden_size
    projections = (8 * h**2 + 4 * h * model.inner_size) * lengths.sum()
    attention = 4 * h * (lengths * (lengths + 1) // 2).sum()
    return float(model.layers * (projections + attention))


def adaptor_flops(model: Any, n_texts: int, text_size: int) -> float:
    """Return the forward FLOP: each expert's whitening, and the two products of the gate."""
    return float(2 * n_texts * text_size * model.experts * (model.hidden_size + 2))


def packed_lengths(groups: NDArray[np.int64], seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (rows,) lengths of the packed sequences, without padding.

    Args:
        groups: (n_groups, 2) of the packing.
        seen: positions in it, including each sequence's last.
    """
    widths = np.repeat(groups[:, 1], groups[:, 0])
    ends = np.cumsum(widths)
    lengths = np.zeros_like(widths)
    row = np.searchsorted(ends, seen, side="right")
    np.maximum.at(lengths, row, seen + 1 - (ends - widths)[row])
    return lengths


@dataclass(frozen=True)
class Bench:
    """The contenders for one model on one dataset.

    Attributes:
        n_targets: per epoch.
        work: contender -> function that trains for one turn and returns the number of targets.
        needed: FLOP needed per target.
    """

    job: Job
    split: Split
    n_targets: int
    work: dict[str, Callable[[], float]]
    needed: float


def training_job(options: argparse.Namespace, name: str) -> Job:
    """Return what `llm4rec train` would run for one of MODELS."""
    overrides = [*MODELS[name], *options.overrides, "device=cpu"]
    return settled(run_job("train", options.dataset, options.raw_dir, *overrides))


def set_up(job: Job, targets: int, reference_batch: int, reference_steps: int) -> Bench:
    """Build the model in two precisions and its reference, all from the same weights.

    Args:
        targets: the least that a turn of ours trains on, in whole epochs.
        reference_batch: prefix rows per step of the reference.
        reference_steps: steps per turn of the reference.
    """
    config, split = job.config, leave_one_out(stages.load(job))
    model = stages.build(job, split)
    settings: Any = job.model
    prefixes = PrefixRows(split, settings.max_length)
    if isinstance(model, PretrainedUniSRec):
        prefixes = AugmentedRows(split, settings, config.seed)
    work: dict[str, Callable[[], float]] = {
        REFERENCE: _steps(build_reference(config, model), prefixes, config, reference_batch, reference_steps)
    }
    for name, precision in ((FP32, Precision.fp32), (BF16, Precision.bf16)):
        copy = stages.build(job, split)
        epochs = -(-targets // len(prefixes))
        trainer = replace(config.trainer, epochs=epochs, precision=precision)
        work[name] = partial(_epochs, copy, trainer, config.seed, len(prefixes))
    return Bench(job, split, len(prefixes), work, needed_by(config, model, len(prefixes)))


def _steps(reference: nn.Module, prefixes: PrefixRows, config: Any, batch: int, steps: int) -> Callable[[], float]:
    """Return a function that takes `steps` optimiser steps on batches of random prefixes."""
    optimiser = torch.optim.AdamW(
        reference.parameters(),
        lr=config.trainer.learning_rate,
        weight_decay=config.trainer.weight_decay,
        fused=True,
    )
    generator = np.random.default_rng(config.seed)
    reference.train()

    def work() -> float:
        for _ in range(steps):
            indices = generator.choice(len(prefixes), min(batch, len(prefixes)), replace=False)
            reference(**prefixes.batch(indices)).backward()
            optimiser.step()
            optimiser.zero_grad()
        return steps * min(batch, len(prefixes))

    return work


def _epochs(model: Any, trainer: Any, seed: int, n_targets: int) -> float:
    """Train with `fit`, and a validation that takes no time and never stops early; return the number of targets."""
    improving = itertools.count(1.0)

    def validate() -> float:
        model.eval()
        return next(improving)

    with tempfile.TemporaryDirectory() as folder:
        fit(model, model.training_rows(), validate, trainer, Path(folder), Path(folder) / "log", seed)
    return float(trainer.epochs * n_targets)


class _Reached(Exception):
    """Raised when validation reaches the target score."""


def seconds_to(job: Job, split: Split, precision: Precision, target: float) -> tuple[float, float, int] | None:
    """Train until validation NDCG@10 reaches `target`, with validation included in the time.

    Returns:
        seconds, the metric, and epochs; None if the target was never reached.
    """
    config, model = job.config, stages.build(job, split)
    examples = ranking.examples(split, SplitName.valid, config, job.cache)
    scores: list[float] = []
    start = time.perf_counter()

    def validate() -> float:
        scores.append(ranking.validation_score(model, split, examples, config))
        if scores[-1] >= target:
            raise _Reached
        return scores[-1]

    trainer = replace(config.trainer, precision=precision)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_Reached):
        fit(model, model.training_rows(), validate, trainer, Path(folder), Path(folder) / "log", config.seed)
    return (time.perf_counter() - start, scores[-1], len(scores)) if scores[-1] >= target else None


def seconds_rows(bench: Bench, target: float, reference: Timing) -> list[dict[str, str]]:
    """Return one row per precision of ours; the reference's seconds are extrapolated from its rate."""
    rows = []
    for name, precision in ((FP32, Precision.fp32), (BF16, Precision.bf16)):
        row = {
            "training": name,
            "seconds": "not reached",
            "epochs": "–",
            "validation NDCG@10": "–",
            EXTRAPOLATED: "–",
        }
        if reached := seconds_to(bench.job, bench.split, precision, target):
            seconds, score, epochs = reached
            row |= {
                "seconds": number(seconds),
                "epochs": str(epochs),
                "validation NDCG@10": f"{score:.4f}",
                EXTRAPOLATED: number(epochs * bench.n_targets / reference.median),
            }
        rows.append(row)
    return rows


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = option_parser(
        __doc__,
        """\
  python scripts/bench_training.py                                    all three on the demo: takes about 16 GB
  python scripts/bench_training.py --model unisrec                    a few minutes on two cores
  python scripts/bench_training.py --dataset amazon2018-scientific --raw-dir PATH --model unisrec --seconds-to 0.06
  python scripts/bench_training.py --dataset amazon2014-beauty --raw-dir PATH --model sasrec --markdown
  python scripts/bench_training.py --dataset demo_pretrain --model unisrec-pretraining""",
        rounds=5,
    )
    parser.add_argument(
        "overrides", nargs="*", help="config overrides, as for llm4rec train, e.g. trainer.batch_size=256"
    )
    parser.add_argument(
        "--dataset", default="demo", help="a dataset of conf/dataset (default: demo, which needs no file)"
    )
    parser.add_argument("--raw-dir", help="folder with the dataset's raw files")
    parser.add_argument("--model", choices=sorted(MODELS), help="default: all")
    parser.add_argument(
        "--targets", type=int, default=50_000, help="fewest per turn of ours, in whole epochs (default 50000)"
    )
    parser.add_argument(
        "--reference-batch",
        type=int,
        default=2048,
        help="prefix rows per step of the reference (default: the published 2048; UniSRec then takes about 7 GB, its "
        "pre-training about 16 GB)",
    )
    parser.add_argument("--reference-steps", type=int, default=1, help="steps per turn of the reference (default 1)")
    parser.add_argument(
        "--seconds-to", type=float, metavar="NDCG", help="also time training to this validation NDCG@10"
    )
    parser.add_argument(
        "--profile", type=int, metavar="N", help="also list the N costliest operators of each contender"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    print(machine_description())
    for name in [options.model] if options.model else MODELS:
        bench = set_up(training_job(options, name), options.targets, options.reference_batch, options.reference_steps)
        executed = {contender: flops_per_unit(work) for contender, work in bench.work.items()}
        precisions = {REFERENCE: "fp32", FP32: "fp32", BF16: "bf16"}
        timings, rates = time_with_machine_rate(bench.work, options.rounds, precisions)
        flops = {"executed": executed, "needed": dict.fromkeys(executed, bench.needed)}
        rows = speed_rows("training", "target", timings, rates, flops, DESCRIPTIONS, prefix="M")
        settings: Any = bench.job.model
        size = f"{settings.hidden_size}-d, {bench.split.n_items:,} items"
        print_table(f"{name} on {options.dataset}, {size}", rows, options.markdown)
        if options.seconds_to is not None:
            print_table(
                f"{name}: seconds to validation NDCG@10 of {options.seconds_to}",
                seconds_rows(bench, options.seconds_to, timings[REFERENCE]),
                options.markdown,
            )
        for contender, work in bench.work.items() if options.profile else ():
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                work()
            print(f"{name}: {contender}")
            print(profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=options.profile))


if __name__ == "__main__":
    main()
