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
from typing import TYPE_CHECKING, Any, NamedTuple

from llm4rec_cli.errors import RunError
from llm4rec_cli.tasks import base as tasks

if TYPE_CHECKING:
    from llm4rec_cli.data.controls import AnyExamples
    from llm4rec_cli.llm.completions import Usage
    from llm4rec_cli.runs.spec import RunSpec

N_STEPS = 4  # of which the first is not timed
N_EXAMPLES = 2  # of the first measurement of an evaluation; each other one is of four times as many
TIMED_SECONDS = 1.0  # and the last one takes at least this long


class Cost(NamedTuple):
    """The cost of a run.

    Attributes:
        training: minutes of all epochs, each with its validation; training may end earlier.
        evaluation: minutes of the evaluation, without those of floors.
        memory_mb: peak memory of the process in MiB.
    """

    training: float
    evaluation: float
    memory_mb: int


def probe(command: str, overrides: Sequence[str]) -> Cost:
    """Return the cost of a run, measured in a process of its own so that its memory is not that of another.

    Args:
        command: `train` or `eval`; the latter has no training.
        overrides: of the command, in Hydra's grammar; of `eval` those of a training.

    Raises:
        Llm4RecError: it cannot be run here.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        try:
            return pool.submit(_probe, command, list(overrides)).result()
        except BrokenProcessPool as error:
            raise RunError("its process was killed, as when memory is short", "a machine with more memory") from error


def chat_usage(overrides: Sequence[str]) -> Usage:
    """Return the requests and tokens of a chat model's run, and their cost, as estimated; what is stored needs none.

    Args:
        overrides: in Hydra's grammar.

    Raises:
        Llm4RecError: it cannot be run here.
    """
    from llm4rec_cli.config.compose import compose
    from llm4rec_cli.runs import stages
    from llm4rec_cli.runs.spec import RunSpec

    spec = RunSpec.resolve(compose([*overrides, "llm.dry_run=true"]), "train")
    with contextlib.redirect_stdout(io.StringIO()):
        return stages.show_requests(spec, stages.split_dataset(spec, stages.load(spec)))


def _probe(command: str, overrides: list[str]) -> Cost:
    from llm4rec_cli.config.compose import compose
    from llm4rec_cli.config.schema import SplitName
    from llm4rec_cli.runs import stages
    from llm4rec_cli.runs.folder import peak_rss_mb
    from llm4rec_cli.runs.precision import resolve_precision
    from llm4rec_cli.runs.spec import RunSpec

    spec = resolve_precision(RunSpec.resolve(compose(overrides), "train"))
    config, task = spec.config, tasks.module(spec.task)
    split = stages.split_dataset(spec, stages.load(spec))
    is_trained = command == "train" and spec.model.traits.trainable
    model = stages.build(spec, split, is_loaded=not is_trained)
    training = 0.0
    if is_trained:
        valid = task.examples(split, SplitName.valid, config, spec.cache)
        valid = tasks.subset(valid, config.trainer.valid_examples, config.dataset.seed, "valid_examples")
        of_epoch = _seconds(lambda some: task.validation_score(model, split, some, config), valid)
        training = _training_seconds(spec, model) + config.trainer.epochs * of_epoch
    examples = task.examples(split, config.split, config, spec.cache)
    evaluation = _seconds(lambda some: task.evaluate(model, split, some, config), examples)
    return Cost(training / 60, evaluation / 60, peak_rss_mb())


def _training_seconds(spec: RunSpec, model: Any) -> float:
    """Return the seconds of all training steps."""
    import torch

    from llm4rec_cli.config.schema import Precision
    from llm4rec_cli.data.streams import stream

    trainer, rows = spec.config.trainer, model.training_rows()
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
