"""Count what a training and its evaluation ask of a machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from llm4rec_cli.config.schema import Precision, SplitName
from llm4rec_cli.data.controls import AnyExamples
from llm4rec_cli.data.split import Split
from llm4rec_cli.data.streams import stream
from llm4rec_cli.meta import META, without_values
from llm4rec_cli.models.shared.batch import on_device
from llm4rec_cli.run.job import Job
from llm4rec_cli.tasks import base as tasks
from llm4rec_cli.tasks.modules import task_module
from llm4rec_studies.cost.counting import Counter
from llm4rec_studies.cost.rates import Rates
from llm4rec_studies.cost.work import Work

BATCHES = 2  # that are counted, of the first epoch
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


def count_training(job: Job, model: Any) -> Training:
    """Return the work of a training as an accelerator is asked for it; moves the model to "meta"."""
    trainer, rows = job.config.trainer, model.training_rows()
    size = trainer.batch_size
    order = stream(job.config.seed, "batches", 0).permutation(len(rows)).tolist()
    model.to(META).train()
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)

    def step(start: int) -> tuple[Work, int]:
        began = time.process_time()
        batch = rows.batch(0, order[start : start + size])
        seconds = time.process_time() - began
        with without_values(), Counter() as counter:
            model(**on_device(batch, META))["loss"].backward()
        model.zero_grad()
        return counter.work + Work(bytes=ADAM_BYTES * trained, seconds=seconds), counter.peak

    rows.batch(0, order[:1])  # the first may prepare what others only read
    starts = range(0, min(BATCHES * size, len(rows)), size)
    works, peaks = zip(*map(step, starts), strict=True)
    held = sum(x.numel() * x.element_size() for x in [*model.parameters(), *model.buffers()])
    steps = trainer.epochs * math.ceil(len(rows) / size)
    memory = held + STATE_BYTES * trained + max(peaks)
    return Training(len(rows), steps, sum(works, Work()) * (1 / len(works)), memory, trainer.precision)


def count_validation(job: Job, split: Split, model: Any, scale: float = 1.0, counter: type[Counter] = Counter) -> Work:
    """Return the work of all validations of a training, one each epoch. The data have `scale` times as many examples as
    `split`."""
    config, task = job.config, task_module(job.task)
    examples = task.examples(split, SplitName.valid, config, job.cache)
    n = at_most(scale * len(examples), config.trainer.valid_examples)
    answer = partial(task.validation_score, model, split, config=config)
    return _count(answer, examples, n, config.trainer.eval_batch_size, counter) * config.trainer.epochs


def count_evaluation(job: Job, split: Split, model: Any, scale: float = 1.0) -> tuple[int, Work]:
    """Return how many examples the evaluation has, and the work of answering them; that of metrics and intervals is
    left out."""
    config, task = job.config, task_module(job.task)
    examples = task.examples(split, config.split, config, job.cache)
    n = at_most(scale * len(examples), config.task.max_examples)
    answer = partial(task.validation_score, model, split, config=config)
    return n, _count(answer, examples, n, config.trainer.eval_batch_size)


def at_most(n: float, limit: int | None) -> int:
    return round(n) if limit is None else min(round(n), limit)


def _count(
    answer: Callable[[Any], object],
    examples: AnyExamples,
    total: int,
    batch_size: int,
    counter: type[Counter] = Counter,
) -> Work:
    """Return the work of `total` examples, from that of a batch, or of half of the examples if these fill no two, and
    that of twice as many: what is done once is in both."""

    def counted(n: int) -> tuple[int, Work]:
        some = tasks.subset(examples, min(n, total), 0, "count")
        with counter() as counting:
            answer(some)
        return len(some), counting.work

    first = max(1, min(batch_size, len(examples) // 2))
    (fewer, less), (n, more) = counted(first), counted(2 * first)
    return more if n == total else more + (more + less * -1) * ((total - n) / (n - fewer))
