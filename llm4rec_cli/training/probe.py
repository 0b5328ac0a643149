"""What a training costs on this machine, measured on a few of its steps."""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

N_STEPS = 4  # of which the first is not timed


class Cost(NamedTuple):
    """The cost of a training.

    Attributes:
        minutes: of all its epochs, without validation; training may end earlier.
        memory_mb: peak memory of the process in MiB.
    """

    minutes: float
    memory_mb: int


def probe(overrides: Sequence[str]) -> Cost:
    """Return the cost of a training, measured in a process of its own so that its memory is not that of another.

    Args:
        overrides: of `train`, in Hydra's grammar.

    Raises:
        Llm4RecError: it cannot be trained here.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_probe, list(overrides)).result()


def _probe(overrides: list[str]) -> Cost:
    import torch

    from llm4rec_cli.config.compose import compose
    from llm4rec_cli.config.schema import Precision
    from llm4rec_cli.data.streams import stream
    from llm4rec_cli.runs import stages
    from llm4rec_cli.runs.folder import peak_rss_mb
    from llm4rec_cli.runs.precision import resolve_precision
    from llm4rec_cli.runs.spec import RunSpec

    spec = resolve_precision(RunSpec.resolve(compose(overrides), "train"))
    trainer = spec.config.trainer
    model = stages.build(spec, stages.split_dataset(spec, stages.load(spec)))
    rows = model.training_rows()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=trainer.learning_rate)
    order = stream(spec.config.seed, "batches", 0).permutation(len(rows)).tolist()
    device = next(model.parameters()).device
    bf16 = torch.autocast(device.type, torch.bfloat16) if trainer.precision is Precision.bf16 else None
    seconds = []
    model.train()
    for start in range(0, min(len(rows), N_STEPS * trainer.batch_size), trainer.batch_size):
        began = time.monotonic()
        batch = rows.batch(0, order[start : start + trainer.batch_size])
        with bf16 or contextlib.nullcontext():
            loss = model(**{name: value.to(device) if hasattr(value, "to") else value for name, value in batch.items()})
        loss["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - began)
    steps = trainer.epochs * -(-len(rows) // trainer.batch_size)
    return Cost(statistics.median(seconds[1:] or seconds) * steps / 60, peak_rss_mb())
