"""How fast SASRec trains, compared with a reference.

    python scripts/bench_training.py dataset=amazon2014-beauty dataset.raw_dir=PATH

The reference is RecBole's formulation, written by us in plain torch and fp32: one row per prefix, padded to 50, and
every position of every row computed. It has the same parameters as the model (a test holds losses and gradients equal,
with dropout off), the same dropout rates, and the same AdamW.

Ours is `run.fit`, as `llm4rec train` calls it, with the Trainer's start, batches, optimiser and one checkpoint per
epoch, but without validation. Contenders take turns in one run.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from bench_common import machine_description, print_table, speed_rows, time_in_turns, typed_overrides
from numpy.typing import NDArray
from torch import Tensor, nn

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import Precision
from llm4rec_cli.data.split import Split, leave_one_out
from llm4rec_cli.run import stages
from llm4rec_cli.run.fit import fit
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled

REFERENCE, FP32, BF16 = "reference, fp32: one padded row per prefix", "ours, fp32", "ours, bf16"
REFERENCE_BATCH = 2048  # prefix rows per step, as in RecBole
TARGETS = 50_000  # the least that a turn of ours trains on, in whole epochs


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


def build_reference(config: Any, model: nn.Module) -> nn.Module:
    """Return the published formulation of this model, with the same weights."""
    reference = ReferenceSASRec(config.model, model)
    reference.load_state_dict(model.state_dict())
    return reference


def training_job(overrides: Sequence[str]) -> Job:
    """Return what `llm4rec train` would run, in the size that is RecBole's default."""
    return settled(Job.unchecked(compose(["model=sasrec", "model.hidden_size=64", *overrides, "device=cpu"]), "train"))


def set_up(job: Job) -> tuple[Split, dict[str, Callable[[], float]]]:
    """Return the split, and a turn of training of the reference and of ours per precision; a turn returns the number of
    targets."""
    config, split = job.config, leave_one_out(stages.load(job))
    model = stages.build(job, split)
    settings: Any = job.model
    prefixes = PrefixRows(split, settings.max_length)
    work: dict[str, Callable[[], float]] = {
        REFERENCE: _step(build_reference(config, model), prefixes, config, min(REFERENCE_BATCH, len(prefixes)))
    }
    for name, precision in ((FP32, Precision.fp32), (BF16, Precision.bf16)):
        copy = stages.build(job, split)
        epochs = -(-TARGETS // len(prefixes))
        trainer = replace(config.trainer, epochs=epochs, precision=precision)
        work[name] = partial(_epochs, copy, trainer, config.seed, len(prefixes))
    return split, work


def _step(reference: nn.Module, prefixes: PrefixRows, config: Any, batch: int) -> Callable[[], float]:
    """Return a function that takes an optimiser step on a batch of random prefixes."""
    rate, decay = config.trainer.learning_rate, config.trainer.weight_decay
    optimiser = torch.optim.AdamW(reference.parameters(), lr=rate, weight_decay=decay, fused=True)
    generator = np.random.default_rng(config.seed)
    reference.train()

    def work() -> float:
        indices = generator.choice(len(prefixes), batch, replace=False)
        reference(**prefixes.batch(indices)).backward()
        optimiser.step()
        optimiser.zero_grad()
        return batch

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


def main(overrides: Sequence[str]) -> None:
    print(machine_description())
    job = training_job(overrides)
    split, work = set_up(job)
    settings: Any = job.model
    title = f"sasrec on {job.config.dataset.name}, {settings.hidden_size}-d, {split.n_items:,} items"
    print_table(title, speed_rows("training", "target", time_in_turns(work)))


if __name__ == "__main__":
    main(typed_overrides(__doc__))
