"""What a run costs on this machine, measured on a few of its training steps and of its examples."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from llm4rec_cli.arithmetic import autocast
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.data.controls import AnyExamples
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import RunError
from llm4rec_cli.llm.completions import Usage
from llm4rec_cli.run import stages
from llm4rec_cli.run.folder import peak_rss_mb
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled
from llm4rec_cli.tasks import base as tasks
from llm4rec_cli.tasks.modules import task_module

N_STEPS = 4  # of which the first is not timed
N_EXAMPLES = 2  # of the first measurement of an evaluation; each other one is of four times as many
TIMED_SECONDS = 1.0  # and the last one takes at least this long


class Cost(NamedTuple):
    training: float  # minutes of all epochs, each with its validation; training may end earlier
    evaluation: float  # minutes of the evaluation, without those of floors
    memory_mb: int  # peak memory of the process in MiB


def measure(command: str, overrides: Sequence[str]) -> Cost:
    """Return the cost of `train` or `eval`, measured in a process of its own so that its memory is not that of another.

    Args:
        overrides: in Hydra's grammar; of `eval` those of the training.

    Raises:
        Llm4RecError: it cannot be run here.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        try:
            return pool.submit(_measure, command, list(overrides)).result()
        except BrokenProcessPool as error:
            raise RunError("its process was killed, as when memory is short", "a machine with more memory") from error


def chat_usage(overrides: Sequence[str]) -> Usage:
    """Return the requests and tokens of a chat model's run, and their cost, as estimated; what is stored needs none.
    Raises Llm4RecError if it cannot be run here."""
    job = Job.resolve(compose([*overrides, "llm.dry_run=true"]), "train")
    with contextlib.redirect_stdout(io.StringIO()):
        return stages.show_requests(job, stages.split_dataset(job, stages.load(job)))


def _measure(command: str, overrides: list[str]) -> Cost:
    job = settled(Job.resolve(compose(overrides), "train"))
    config, task = job.config, task_module(job.task)
    split = stages.split_dataset(job, stages.load(job))
    is_trained = command == "train" and job.model.traits.trainable
    model = stages.build(job, split, is_loaded=not is_trained)
    training = 0.0
    if is_trained:
        valid = task.examples(split, SplitName.valid, config, job.cache)
        valid = tasks.subset(valid, config.trainer.valid_examples, config.dataset.seed, "valid_examples")
        of_epoch = _seconds(lambda some: task.validation_score(model, split, some, config), valid)
        training = _training_seconds(job, model) + config.trainer.epochs * of_epoch
    examples = task.examples(split, config.split, config, job.cache)
    evaluation = _seconds(lambda some: task.evaluate(model, split, some, config), examples)
    return Cost(training / 60, evaluation / 60, peak_rss_mb())


def _training_seconds(job: Job, model: Any) -> float:
    import torch

    trainer, rows = job.config.trainer, model.training_rows()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=trainer.learning_rate)
    order = stream(job.config.seed, "batches", 0).permutation(len(rows)).tolist()
    device = next(model.parameters()).device
    seconds = []
    model.train()
    for start in range(0, min(len(rows), N_STEPS * trainer.batch_size), trainer.batch_size):
        began = time.monotonic()
        batch = rows.batch(0, order[start : start + trainer.batch_size])
        with autocast(device, trainer.precision):
            loss = model(**{name: value.to(device) if hasattr(value, "to") else value for name, value in batch.items()})
        loss["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - began)
    steps = trainer.epochs * -(-len(rows) // trainer.batch_size)
    return statistics.median(seconds[1:] or seconds) * steps


def _seconds(work: Callable[[Any], object], examples: AnyExamples) -> float:
    """Return the seconds of `work` on all examples, from its seconds on some and on four times as many."""

    def measured(n: int) -> tuple[int, float]:
        some = tasks.subset(examples, n, 0, "probe")
        began = time.monotonic()
        work(some)
        return len(some), time.monotonic() - began

    measured(N_EXAMPLES)  # the first call may take longer
    (fewer, shorter), (n, seconds) = measured(N_EXAMPLES), measured(4 * N_EXAMPLES)
    while seconds < TIMED_SECONDS and n < len(examples):
        (fewer, shorter), (n, seconds) = (n, seconds), measured(4 * n)
    if n == len(examples):
        return seconds
    return seconds + (len(examples) - n) * max(0.0, seconds - shorter) / (n - fewer)
