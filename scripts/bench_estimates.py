"""Compare estimated with real processor times of short trainings on the CPU, each with its validations.

The rates of this CPU are measured, the work of a training is counted on two of its steps and a few examples, and then
it is run. Processor times, so that other load on the machine hardly counts; with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench_common import machine_description, number, print_table

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import Precision, SplitName
from llm4rec_cli.run import fit, stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled
from llm4rec_cli.studies.cost import measuring
from llm4rec_cli.studies.cost import run as cost
from llm4rec_cli.tasks import base as tasks

TRAININGS = {
    "sasrec": "model=sasrec trainer.epochs=3",
    "unisrec": "model=unisrec trainer.epochs=3",
    "gru4rec": "model=gru4rec trainer.epochs=3",
    "fdsa": "model=fdsa trainer.epochs=2",
    "p5": "model=p5 task=sequential trainer.epochs=1 model.samples.sequential_item=1 trainer.valid_examples=20 "
    "dataset.train_users=0.2",
}


def compare(overrides: Sequence[str]) -> tuple[float, float]:
    """Return the estimated and the real seconds of a training."""
    job = settled(Job.unchecked(compose([*overrides, "trainer.precision=fp32", "trainer.keep=last"]), "train"))
    split = stages.split_dataset(job, stages.load(job))
    model = stages.build(job, split, is_loaded=True)
    training, validation = cost.count_training(job, model, "cpu"), cost.count_validation(job, split, model)
    before, config, task = measuring.measured("cpu"), job.config, job.task_module
    examples = task.examples(split, SplitName.valid, config, job.cache)
    examples = tasks.subset(examples, config.trainer.valid_examples, config.dataset.seed, "valid_examples")
    model = stages.build(job, split, is_loaded=True)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        places = Path(folder, "checkpoints"), Path(folder, "log.jsonl")
        score = partial(task.validation_score, model, split, examples, config)
        fit.fit(model, model.training_rows(), score, config.trainer, *places, config.seed)
        real = time.process_time() - began
    after = measuring.measured("cpu")
    faster = {name: max(getattr(rates, name) for rates in (before, after)) for name in ("fp32", "bytes")}
    rates = dataclasses.replace(before, launch=min(before.launch, after.launch), **faster)
    return training.seconds(rates) + rates.seconds(validation, Precision.fp32), real


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*TRAININGS], help=f"of: {', '.join(TRAININGS)} (default: all)")
    print(machine_description())
    rows = []
    for name in parser.parse_args(arguments).names:
        estimated, real = compare(TRAININGS[name].split())
        rows.append(
            {
                "training": f"`{TRAININGS[name]}`",
                "estimated s": number(estimated),
                "real s": number(real),
                "ratio": f"{estimated / real:.2f}",
            }
        )
    print_table("estimates of trainings, in seconds of the processor", rows)


if __name__ == "__main__":
    main()
