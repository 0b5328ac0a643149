"""Training steps of P5 at the paper's sizes, in seconds and memory.

No published T5 comes with this project, but what a step costs depends on shapes alone. This script makes a T5 of the
exact shape and vocabulary of t5-small or t5-base with random weights, and a tokenizer of as many tokens, trained on the
training texts. With it, it takes optimiser steps on the prompts of each family, at the paper's batch size for one GPU,
each size and family in a fresh process. Steps are whole: forward, backward, clipping and AdamW.

--save keeps the folders, each of which can be a `model.backbone`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_common import machine_description, number, option_parser, print_table
from fresh_process import measure_in_fresh_process
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.schema import Precision
from llm4rec_cli.models.p5.model import P5, prompt_texts, training_texts
from llm4rec_cli.models.p5.vocabulary import load_tokenizer
from llm4rec_cli.models.shared.seq2seq import random_t5
from llm4rec_cli.models.shared.t5_shapes import T5_SHAPES, T5Shape
from llm4rec_cli.run import stages
from llm4rec_cli.run.job import Job
from llm4rec_cli.run.precision import settled

EXAMPLES = """  python scripts/bench_p5_sizes.py +experiment=p5/paper dataset.raw_dir=PATH
  python scripts/bench_p5_sizes.py --sizes small --save backbones +experiment=p5/paper dataset.raw_dir=PATH"""
N_TOKENS, N_ROWS = 32_100, 32_128  # of the published tokenizer, and of the published embedding tables
BATCHES = {"small": 32, "base": 16}  # examples per GPU (code)
FAMILIES = ("rating", "sequential", "direct", "explanation", "review_summary")


def resolve(typed: Sequence[str]) -> Job:
    """Return what `llm4rec train` would run, unchecked."""
    return Job.unchecked(compose(typed), "train")


def save_backbone(shape: T5Shape, tokenizer: Tokenizer, folder: Path, n_tokens: int, n_rows: int) -> None:
    """Write a T5 with random weights and a tokenizer, in the format of published ones.

    Args:
        tokenizer: gets unused tokens until there are `n_tokens`.
        n_rows: of the table of embeddings.
    """
    missing = n_tokens - tokenizer.get_vocab_size()
    tokenizer.add_tokens([f"<unused_{i}>" for i in range(missing)])
    random_t5(shape, n_rows, dropout=0.1).save_pretrained(folder)
    words = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **words).save_pretrained(folder)


def step_of(typed: Sequence[str], batch_size: int, rounds: int) -> Callable[[], None]:
    """Return a function that takes `rounds` training steps on random rows, after one to warm up."""
    job = settled(resolve(typed))
    model: Any = stages.build(job, stages.split_dataset(job, stages.load(job)))
    rows, trainer = model.training_rows(), job.config.trainer
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=trainer.learning_rate, weight_decay=trainer.weight_decay, fused=True
    )
    rng = np.random.default_rng(0)
    model.train()

    def step() -> None:
        batch = rows.batch(0, rng.choice(len(rows), batch_size, replace=False).tolist())
        with torch.autocast("cpu", torch.bfloat16, enabled=trainer.precision is Precision.bf16):
            loss = model(**batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), trainer.gradient_clip)
        optimizer.step()

    step()

    def steps() -> None:
        for _ in range(rounds):
            step()

    return steps


def describe(typed: Sequence[str]) -> dict[str, float]:
    """Return the number of training rows, the mean number of source and target tokens of a row, and the weights."""
    job = resolve(typed)
    model: Any = stages.build(job, stages.split_dataset(job, stages.load(job)))
    assert isinstance(model, P5)
    rows = model.training_rows()
    sample = np.random.default_rng(0).choice(len(rows), min(256, len(rows)), replace=False).tolist()
    batch = rows.batch(0, sample)
    lengths = batch["lengths"].double().mean(0).tolist()
    return {
        "rows": len(rows),
        "source": lengths[0],
        "target": lengths[1],
        "weights": sum(weight.numel() for weight in model.parameters()),
    }


def main() -> None:
    parser = option_parser(__doc__, EXAMPLES, rounds=2)
    parser.add_argument("overrides", nargs="+", help="as for llm4rec train")
    parser.add_argument("--sizes", default="small,base", help="comma-separated (default small,base)")
    parser.add_argument("--families", default=",".join(FAMILIES), help="comma-separated tasks (default: all five)")
    parser.add_argument("--save", metavar="FOLDER", type=Path, help="keep the backbones there")
    options = parser.parse_args()
    print(machine_description())
    table = []
    with tempfile.TemporaryDirectory() as temporary:
        for size in options.sizes.split(","):
            folder = (options.save or Path(temporary)) / f"t5-{size}"
            job = resolve([*options.overrides, "model.backbone=tiny", f"model.vocabulary={N_TOKENS}"])
            split = stages.split_dataset(job, stages.load(job))
            config: Any = job.model
            corpus = [*prompt_texts(config), *training_texts(split, split.user_names())]
            tokenizer = load_tokenizer(config.backbone, corpus, config.vocabulary, job.cache)
            save_backbone(T5_SHAPES[size], tokenizer, folder, N_TOKENS, N_ROWS)
            for family in options.families.split(","):
                typed = [*options.overrides, f"task={family}", f"model.backbone={folder.resolve()}"]
                facts = describe(typed)
                measured = measure_in_fresh_process(step_of, typed, BATCHES[size], options.rounds)
                seconds = measured.seconds / options.rounds
                table.append(
                    {
                        "size": f"t5-{size}",
                        "family": family,
                        "precision": settled(resolve(typed)).config.trainer.precision.name,
                        "weights, millions": number(facts["weights"] / 1e6),
                        "batch": str(BATCHES[size]),
                        "tokens of a source, of a target": f"{number(facts['source'])}, {number(facts['target'])}",
                        "seconds a step": number(seconds),
                        "peak GiB": number(measured.peak_mb / 1024),
                        "rows an epoch": f"{facts['rows']:,}",
                        "hours an epoch": number(facts["rows"] / BATCHES[size] * seconds / 3600),
                    }
                )
    print_table("P5's training steps at the paper's sizes", table, options.markdown)


if __name__ == "__main__":
    main()
