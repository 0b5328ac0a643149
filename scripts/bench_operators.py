"""What a training step asks of an accelerator, counted without one: operators, and whether it ever waits.

Each model's step runs forward and backward on the device "meta", which computes nothing: an operator is counted unless
it is a view, and reading a value raises. Scaled dot-product attention is one operator, as with a fused kernel. The time
to make a batch is that of this machine, the median of a few.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from bench_common import machine_description, print_table, run_job
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from llm4rec_cli.conformance.meta import META, known_to_autocast, loss_on_meta
from llm4rec_cli.run import stages
from llm4rec_cli.run.precision import settled
from llm4rec_cli.studies.cost.counting import VIEWS

EXAMPLE = """example:
  python scripts/bench_operators.py sasrec p5 --overrides dataset=amazon2014-beauty dataset.raw_dir=PATH"""
WARM_UP = ("epochs", "distillation.steps")  # of the backbone, which is another training
SETTINGS = {  # model -> what is trained; pre-training goes by a name of its own
    "sasrec": ["model=sasrec"],
    "unisrec": ["model=unisrec"],
    "unisrec, pre-training": ["model=unisrec", "task=pretrain", "dataset=demo_pretrain"],
    "p5": ["model=p5", "task=all"],
    "prompt4nr": [
        "model=prompt4nr",
        "dataset=demo_news",
        "model.warm_up.epochs=0",
        "model.warm_up.distillation.steps=0",
    ],
    "nrms": ["model=nrms", "dataset=demo_news"],
    "tuned_lm": ["model=tuned_lm"],
    "evidence_mix": ["model=evidence_mix"],
    "tiger": ["model=tiger"],
    "rpg": ["model=rpg"],
    "sid_gpt": ["model=sid_gpt"],
}
BATCHES = 5  # that are made


class Operators(TorchDispatchMode):
    """Counts the operators that run within it, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name not in VIEWS and not name.startswith("sym_"):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


class FusedAttention(torch.autograd.Function):
    """Attention as one operator forward and one backward; its numbers mean nothing."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        return q.new_zeros(*q.shape[:-1], v.shape[-1])

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, ...]:
        q, k, v = ctx.saved_tensors
        return torch.zeros_like(q), torch.empty_like(k), torch.empty_like(v)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> Tensor:
    result: Tensor = FusedAttention.apply(q, k, v)
    return result


def measure(overrides: Sequence[str]) -> list[str]:
    """Return a row of the table: rows of a batch, milliseconds to make one, operators, and whether the step waits."""
    job = settled(run_job("train", "demo", None, *overrides))
    model = stages.build(job, stages.split_dataset(job, stages.load(job)))
    rows, size = model.training_rows(), job.config.trainer.batch_size
    random, seconds = np.random.default_rng(0), []
    for _ in range(BATCHES):
        indices = random.permutation(len(rows))[:size].tolist()
        start = time.perf_counter()
        batch = rows.batch(0, indices)
        seconds.append(time.perf_counter() - start)
    forward, backward, waits = Operators(), Operators(), "none"
    model.train().to(META)
    with known_to_autocast(), mock.patch.object(F, "scaled_dot_product_attention", fused_attention):
        try:
            with forward:
                loss = loss_on_meta(model, batch)
            with backward:
                loss.backward()
        except (NotImplementedError, RuntimeError) as error:
            waits = str(error).splitlines()[0][:60]
    counts = [sum(mode.counts.values()) for mode in (forward, backward)]
    return [str(len(indices)), f"{1e3 * median(seconds):.1f}", *map("{:,}".format, [*counts, sum(counts)]), waits]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLE
    )
    parser.add_argument("models", nargs="*", default=[*SETTINGS], help=f"of: {', '.join(SETTINGS)} (default: all)")
    parser.add_argument("--overrides", nargs="*", default=[], help="settings for all of them")
    options = parser.parse_args(arguments)
    print(machine_description())
    names = ["model", "rows", "ms a batch", "forward", "backward", "operators", "waits"]
    cells = [[name, *measure([*SETTINGS[name], *options.overrides])] for name in options.models]
    print_table("a training step", [dict(zip(names, row, strict=True)) for row in cells])


if __name__ == "__main__":
    main()
