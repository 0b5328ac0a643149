"""What a training step asks of an accelerator, counted without one: operators, and whether it ever waits.

Each model's step runs forward and backward in fp32 on the device "meta", which computes nothing: an operator is counted
unless it is a view, and reading a value raises. Scaled dot-product attention and a GRU are one operator each, as with
fused kernels. `queries` are the operators for the states of a batch of histories in evaluation, of models that score by
inner products. The time to make a batch is processor time of one thread, the median of a few: other load on the machine
hardly changes it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from statistics import median

import numpy as np
from bench_common import machine_description, print_table, run_job

from llm4rec_cli.capabilities import InnerProductRanker
from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.meta import META, without_values
from llm4rec_cli.models.shared.batch import on_device
from llm4rec_cli.run import stages
from llm4rec_cli.run.precision import settled
from llm4rec_studies.cost.counting import Counter

EXAMPLE = """example:
  python scripts/bench_operators.py sasrec p5 --overrides dataset=amazon2014-beauty dataset.raw_dir=PATH"""
NO_WARM_UP = ["dataset=demo_news", "model.warm_up.epochs=0", "model.warm_up.distillation.steps=0"]
# Of the paper's code: on the demo, other settings are the default.
PUBLISHED_SAMPLES = [
    f"model.samples.{kind}={n}"
    for kind, n in {
        "rating": 1,
        "sequential_item": 5,
        "sequential_candidates": 5,
        "sequential_yes_no": 10,
        "direct_candidates": 5,
        "direct_yes_no": 10,
    }.items()
]
SETTINGS = {  # model -> what is trained; pre-training goes by a name of its own
    "sasrec": ["model=sasrec"],
    "bert4rec": ["model=bert4rec"],
    "bsarec": ["model=bsarec"],
    "gru4rec": ["model=gru4rec"],
    "unisrec": ["model=unisrec"],
    "unisrec, pre-training": ["model=unisrec", "task=pretrain", "dataset=demo_pretrain"],
    "p5": ["model=p5", "task=all"],
    # T5-small's shape with random weights, and the batch and the mixture of prompts of the paper's code.
    "p5, as published": ["+experiment=p5/paper", "dataset=demo", "model.backbone=small", *PUBLISHED_SAMPLES],
    "prompt4nr": ["model=prompt4nr", *NO_WARM_UP],
    "prompt4nr, as published": ["+experiment=prompt4nr/paper", "dataset=demo_news", "model.backbone=minilm"],
    "nrms": ["model=nrms", "dataset=demo_news"],
    "tuned_lm": ["model=tuned_lm"],
    "evidence_mix": ["model=evidence_mix"],
    "tiger": ["model=tiger"],
    "rpg": ["model=rpg"],
    "sid_gpt": ["model=sid_gpt"],
}
BATCHES = 20  # that are made


def measure(overrides: Sequence[str]) -> list[str]:
    """Return a row of the table: rows of a batch, milliseconds to make one, rows that a processor makes in a second,
    operators of a step and of queries, and whether the step waits."""
    job = settled(run_job("train", "demo", None, *overrides))
    split = stages.split_dataset(job, stages.load(job))
    model = stages.build(job, split)
    rows, size = model.training_rows(), job.config.trainer.batch_size
    random, seconds = np.random.default_rng(0), []
    for _ in range(BATCHES):
        indices = random.permutation(len(rows))[:size].tolist()
        start = time.process_time()
        batch = rows.batch(0, indices)
        seconds.append(time.process_time() - start)
    forward, backward, waits = Counter(), Counter(), "none"
    model.train().to(META)
    with without_values():
        try:
            with forward:
                loss = model(**on_device(batch, META))["loss"]
            with backward:
                loss.backward()
        except (NotImplementedError, RuntimeError) as error:
            waits = str(error).splitlines()[0][:60]
    counts = [counter.work.operators for counter in (forward, backward)]
    made = [f"{1e3 * median(seconds):.1f}", f"{len(indices) / median(seconds):,.0f}"]
    queries = ""
    model.eval()
    if isinstance(model, InnerProductRanker):
        examples = job.task_module.examples(split, SplitName.valid, job.config, job.cache)
        with without_values():
            model.item_vectors()
            with Counter() as counter:
                model.queries(examples[: job.config.trainer.eval_batch_size])
        queries = f"{counter.work.operators:,}"
    return [str(len(indices)), *made, *map("{:,}".format, [*counts, sum(counts)]), queries, waits]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLE
    )
    parser.add_argument("models", nargs="*", default=[*SETTINGS], help=f"of: {', '.join(SETTINGS)} (default: all)")
    parser.add_argument("--overrides", nargs="*", default=[], help="settings for all of them")
    options = parser.parse_args(arguments)
    print(machine_description())
    names = ["model", "rows", "ms a batch", "rows/s", "forward", "backward", "operators", "queries", "waits"]
    cells = [[name, *measure([*SETTINGS[name], *options.overrides])] for name in options.models]
    print_table("a training step", [dict(zip(names, row, strict=True)) for row in cells])


if __name__ == "__main__":
    main()
