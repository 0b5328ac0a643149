"""Count what a training and its evaluation ask of a machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from llm4rec_cli.config.schema import Precision, SplitName
from llm4rec_cli.data.controls import AnyExamples
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.meta import without_values
from llm4rec_cli.models.shared.batch import on_device
from llm4rec_cli.run.job import Job
from llm4rec_cli.studies.cost.counting import Counter
from llm4rec_cli.studies.cost.rates import Rates
from llm4rec_cli.studies.cost.work import Work
from llm4rec_cli.tasks import base as tasks
from llm4rec_cli.tasks.modules import task_module

BATCHES = 2  # that are counted, of the first epoch
EXAMPLES = 2  # of the first count of an evaluation; each other one is of four times as many
COUNTED_SECONDS = 0.5  # of the processor: an evaluation is counted on more examples until it takes so long
ADAM_BYTES = 28  # read and written for each weight: weight, gradient and two moments, three of them twice, in fp32
STATE_BYTES = 8  # of Adam for each weight: two moments


@dataclass(frozen=True)
class Training:
    """The work of a training.

    Attributes:
        rows: of an epoch.
        steps: of all epochs; early stopping may end sooner.
        step: the mean of a few.
        memory: bytes at the peak of a step: weights, gradients, the optimiser's state and activations.
    """

    rows: int
    steps: int
    step: Work
    memory: int
    precision: Precision

    @property
    def work(self) -> Work:
        return self.step * self.steps

    def seconds(self, rates: Rates) -> float:
        return self.steps * rates.seconds(self.step, self.precision)


def count_training(job: Job, model: Any, device: str) -> Training:
    """Return the work of a training.

    Args:
        device: `meta`, for what an accelerator is asked, which moves the model there; or `cpu`, for what a CPU does,
            with the seconds of products and of the optimiser's steps, whose rates depend on shapes.
    """
    trainer, rows = job.config.trainer, model.training_rows()
    size, on_meta = trainer.batch_size, device == "meta"
    order = stream(job.config.seed, "batches", 0).permutation(len(rows)).tolist()
    model.to(device).train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    trained = sum(weight.numel() for weight in weights)
    # With a rate of 0 it leaves the weights as they are.
    optimizer = None if on_meta else torch.optim.AdamW(weights, lr=0.0, weight_decay=0.0, fused=True)

    def step(start: int) -> tuple[Work, int]:
        began = time.process_time()
        batch = rows.batch(0, order[start : start + size])
        seconds = time.process_time() - began
        with without_values() if on_meta else nullcontext(), Counter(timed=not on_meta) as counter:
            model(**on_device(batch, torch.device(device)))["loss"].backward()
        began = time.process_time()
        if optimizer is not None:
            optimizer.step()
        seconds += time.process_time() - began
        model.zero_grad()
        return counter.work + Work(bytes=ADAM_BYTES * trained * on_meta, seconds=seconds), counter.peak

    rows.batch(0, order[:1])  # the first may prepare what others only read
    if not on_meta:
        step(0)  # which makes the optimiser's state, and takes longer
    starts = range(0, min(BATCHES * size, len(rows)), size)
    works, peaks = zip(*map(step, starts), strict=True)
    held = sum(x.numel() * x.element_size() for x in [*model.parameters(), *model.buffers()])
    steps = trainer.epochs * math.ceil(len(rows) / size)
    memory = held + STATE_BYTES * trained + max(peaks)
    return Training(len(rows), steps, sum(works, Work()) * (1 / len(works)), memory, trainer.precision)


def count_validation(job: Job, split: Split, model: Any, scale: float = 1.0, timed: bool = False) -> Work:
    """Return the work of all validations of a training, one each epoch.

    Args:
        scale: how many times as many examples the data have as `split`.
        timed: as of `Counter`.
    """
    config, task = job.config, task_module(job.task)
    examples = task.examples(split, SplitName.valid, config, job.cache)
    n = at_most(scale * len(examples), config.trainer.valid_examples)
    answer = partial(task.validation_score, model, split, config=config)
    return _count(answer, examples, n, timed) * config.trainer.epochs


def count_evaluation(job: Job, split: Split, model: Any, scale: float = 1.0) -> tuple[int, Work]:
    """Return how many examples the evaluation has, and the work of answering them; that of metrics and intervals is
    left out."""
    config, task = job.config, task_module(job.task)
    examples = task.examples(split, config.split, config, job.cache)
    n = at_most(scale * len(examples), config.task.max_examples)
    return n, _count(partial(task.validation_score, model, split, config=config), examples, n)


def at_most(n: float, limit: int | None) -> int:
    return round(n) if limit is None else min(round(n), limit)


def _count(answer: Callable[[Any], object], examples: AnyExamples, total: int, timed: bool = False) -> Work:
    """Return the work of `total` examples, from counts on some of these and on four times as many."""

    def counted(n: int) -> tuple[int, Work, float]:
        some, began = tasks.subset(examples, n, 0, "count"), time.process_time()
        with Counter(timed) as counter:
            answer(some)
        return len(some), counter.work, time.process_time() - began

    (fewer, less, _), (n, more, seconds) = counted(EXAMPLES), counted(4 * EXAMPLES)
    while seconds < COUNTED_SECONDS and n < min(total, len(examples)):
        fewer, less, (n, more, seconds) = n, more, counted(4 * n)
    if n == fewer:
        return more
    return more + (more + less * -1) * ((total - n) / (n - fewer))
