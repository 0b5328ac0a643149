"""Compare estimated with real processor times of short trainings on the CPU, each with its validations.

The rates of this CPU are measured: bytes of elementwise operators, and the time to start an operator. The work of a
training is counted on two of its steps and a few examples, with the seconds that products and the optimiser take at
their shapes there. Then it is run. Processor times, so that other load on the machine hardly counts; with
OMP_NUM_THREADS=1. What is done is kept in a file, and not done again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_common import machine_description, number, print_table
from torch import Tensor

from llm4rec_cli import processes
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.overrides import quoted
from llm4rec_cli.config.schema import Precision, SplitName
from llm4rec_cli.data.streams import stream
from llm4rec_cli.files import write_json
from llm4rec_cli.models.base import Batch
from llm4rec_cli.run import fit, stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled
from llm4rec_cli.tasks import base as tasks
from llm4rec_studies.cost import measuring
from llm4rec_studies.cost import run as cost
from llm4rec_studies.cost.counting import Counter
from llm4rec_studies.cost.rates import Rates
from llm4rec_studies.cost.work import Work

TRAININGS = {
    "sasrec": "model=sasrec trainer.epochs=3",
    "unisrec": "model=unisrec trainer.epochs=3",
    "gru4rec": "model=gru4rec trainer.epochs=3",
    "fdsa": "model=fdsa trainer.epochs=2",
    "p5": "model=p5 task=sequential trainer.epochs=1 model.samples.sequential_item=1 trainer.valid_examples=20 "
    "dataset.train_users=0.2",
}
SCIENTIFIC = {
    "sasrec, Scientific": "model=sasrec dataset=amazon2018-scientific trainer.epochs=1",
    "unisrec, Scientific": "model=unisrec dataset=amazon2018-scientific trainer.epochs=1",
}


class TimedCounter(Counter):
    """Counts the processor's seconds of matrix products and attention instead of their operations and bytes, as a CPU's
    rate depends on shapes. Of all with the same shapes the fastest counts."""

    def __init__(self) -> None:
        super().__init__()
        self.products: dict[Any, tuple[int, float]] = {}  # operator and shapes -> how often, and the least seconds

    @property
    def work(self) -> Work:
        return super().work + Work(seconds=sum(n * least for n, least in self.products.values()))

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        began = time.process_time()
        result = func(*args, **kwargs)
        self.seconds = time.process_time() - began
        return result

    def add(self, func: Any, inputs: list[Tensor], operations: int, moved: int) -> None:
        if not operations:
            super().add(func, inputs, operations, moved)
            return
        shapes = func, *(x.shape for x in inputs)
        n, least = self.products.get(shapes, (0, self.seconds))
        self.products[shapes] = n + 1, min(least, self.seconds)


class Rows:
    """The rows of a model, which note when the first batch is asked for."""

    began = 0.0

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, epoch: int, indices: list[int]) -> Batch:
        self.began = self.began or time.process_time()
        batch: Batch = self.rows.batch(epoch, indices)
        return batch


def counted_step(job: Job, model: Any) -> Work:
    """Return the mean work of a training step: with its batch, and the seconds of products and of the optimiser."""
    rows, size = model.training_rows(), job.config.trainer.batch_size
    order = stream(job.config.seed, "batches", 0).permutation(len(rows)).tolist()
    weights = [weight for weight in model.train().parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.0, weight_decay=0.0, fused=True)  # leaves the weights as they are

    def step(start: int) -> Work:
        began = time.process_time()
        batch = rows.batch(0, order[start : start + size])
        seconds = time.process_time() - began
        with TimedCounter() as counter:
            model(**batch)["loss"].backward()
        began = time.process_time()
        optimizer.step()
        seconds += time.process_time() - began
        model.zero_grad()
        return counter.work + Work(seconds=seconds)

    step(0)  # which makes the optimiser's state, and takes longer
    works = [step(start) for start in range(0, min(cost.BATCHES * size, len(rows)), size)]
    return sum(works, Work()) * (1 / len(works))


def compare(overrides: Sequence[str], rates: Rates) -> tuple[float, float]:
    """Return the estimated and the real seconds of a training from its first batch on. Before it, the first training of
    a process spends half a second on imports."""
    job = settled(Job.unchecked(compose([*overrides, "trainer.precision=fp32", "trainer.keep=last"]), "train"))
    split = stages.split_dataset(job, stages.load(job))
    model = stages.build(job, split, is_loaded=True)
    step, steps = counted_step(job, model), -(-len(model.training_rows()) // job.config.trainer.batch_size)
    validation = cost.count_validation(job, split, model, counter=TimedCounter)
    config, task = job.config, job.task_module
    examples = task.examples(split, SplitName.valid, config, job.cache)
    examples = tasks.subset(examples, config.trainer.valid_examples, config.dataset.seed, "valid_examples")
    model = stages.build(job, split, is_loaded=True)
    with tempfile.TemporaryDirectory() as folder:
        places = Path(folder, "checkpoints"), Path(folder, "log.jsonl")
        score = partial(task.validation_score, model, split, examples, config)
        rows = Rows(model.training_rows())
        fit.fit(model, rows, score, config.trainer, *places, config.seed)
        real = time.process_time() - rows.began
    training = config.trainer.epochs * steps * rates.seconds(step, Precision.fp32)
    return training + rates.seconds(validation, Precision.fp32), real


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of: {'; '.join([*TRAININGS, *SCIENTIFIC])} (default: all there are)")
    parser.add_argument("--scientific", metavar="FOLDER", help="raw files of amazon2018-scientific")
    parser.add_argument("--file", type=Path, default=Path("outputs/estimates.json"), help="what is done (%(default)s)")
    options = parser.parse_args(arguments)
    trainings = {name: training.split() for name, training in TRAININGS.items()}
    if options.scientific:
        raw_dir = f"dataset.raw_dir={quoted(options.scientific)}"
        trainings |= {name: [*training.split(), raw_dir] for name, training in SCIENTIFIC.items()}
    print(machine_description())
    processes.keep_freed_memory()  # as commands do: without it, elementwise operators took 1.5 to 2 times as long
    done = json.loads(options.file.read_text()) if options.file.exists() else {}
    names = options.names or list(trainings)
    rates = measuring.measured("cpu") if set(names) - set(done) else None
    for name in names:
        if name not in done and rates is not None:
            done[name] = compare(trainings[name], rates)
            write_json(options.file, done)
    rows = []
    for name in names:
        estimated, real = done[name]
        rows.append(
            {
                "training": f"`{(TRAININGS | SCIENTIFIC)[name]}`",
                "estimated s": number(estimated),
                "real s": number(real),
                "ratio": f"{estimated / real:.2f}",
            }
        )
    print_table("estimates of trainings, in seconds of the processor", rows)


if __name__ == "__main__":
    main()
