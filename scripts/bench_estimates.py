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

from bench_common import machine_description, number, print_table

from llm4rec_cli import processes
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.overrides import quoted
from llm4rec_cli.config.schema import Precision, SplitName
from llm4rec_cli.files import write_json
from llm4rec_cli.models.base import Batch
from llm4rec_cli.run import fit, stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled
from llm4rec_cli.studies.cost import measuring
from llm4rec_cli.studies.cost import run as cost
from llm4rec_cli.studies.cost.rates import Rates
from llm4rec_cli.tasks import base as tasks

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


def compare(overrides: Sequence[str], rates: Rates) -> tuple[float, float]:
    """Return the estimated and the real seconds of a training from its first batch on. Before it, the first training of
    a process spends half a second on imports."""
    job = settled(Job.unchecked(compose([*overrides, "trainer.precision=fp32", "trainer.keep=last"]), "train"))
    split = stages.split_dataset(job, stages.load(job))
    model = stages.build(job, split, is_loaded=True)
    training = cost.count_training(job, model, "cpu")
    validation = cost.count_validation(job, split, model, timed=True)
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
    return training.seconds(rates) + rates.seconds(validation, Precision.fp32), real


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
