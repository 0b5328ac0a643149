"""Trains models without moving them; keeps each step's gradients, the log and scores, in one process or several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from llm4rec_cli import processes
from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.conformance.builders import resolved, tiny_dataset
from llm4rec_cli.data.split import leave_one_out
from llm4rec_cli.models import base
from llm4rec_cli.run.fit import fit
from tests.run.test_fit import CONFIG

STEP = torch.optim.AdamW.step
SMALL = ["model.hidden_size=8", "model.inner_size=8", "model.layers=1", "model.dropout=0"]
UNISREC = ["model=unisrec", *SMALL, "model.adaptor=linear"]  # the mixture of experts draws noise for its gate
PRETRAINING = [f"model.pretraining.{setting}" for setting in ("sequence_weight=1", "item_drop=0.5", "drop=0.4")]
SETTINGS = {
    "sasrec": ["model=sasrec", *SMALL],
    "sasrec, in micro-batches": ["model=sasrec", *SMALL],  # of one row each if there are several processes
    "unisrec": UNISREC,
    "bpr_mf": ["model=bpr_mf", "model.embedding_size=8"],
    "unisrec, pre-trained": [*UNISREC, "task=pretrain", *PRETRAINING],
    "unisrec, pre-trained as published": [*UNISREC, "task=pretrain", *PRETRAINING, "model.pretraining.loss=paper_code"],
}
BATCH_SIZES = (4, 3)  # of 5 rows: a last batch of one, of two


def keep_gradients(name: str, batch_size: int, folder: Path) -> None:
    rng = np.random.default_rng(0)
    sequences = [rng.permutation(12)[:n].tolist() for n in (4, 9, 5, 11, 4)]
    dataset = tiny_dataset(sequences, [f"item number {i}" for i in range(12)])
    dataset.items["domain"] = ["films", "books"] * 6
    config = resolved(*SETTINGS[name])
    split = leave_one_out(dataset)
    model = base.build(base.Context(config.model, split, 0, folder / "cache", "cpu"))
    model.double()  # in fp32, a small gradient is a difference of terms that round by more than it may differ
    seen: list[dict[str, torch.Tensor]] = []

    def keep(optimizer: torch.optim.Optimizer, *arguments: object, **named: object) -> object:
        seen.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        return STEP(optimizer, *arguments, **named)  # type: ignore[arg-type]

    torch.optim.AdamW.step = keep  # type: ignore[method-assign]
    still = replace(CONFIG, batch_size=batch_size, learning_rate=0.0, weight_decay=0.0, gradient_clip=0.0, epochs=2)
    if "micro-batches" in name and processes.world_size() > 1:
        still = replace(still, micro_batch_size=1)
    fit(model, model.training_rows(), lambda: 1.0, still, folder / "checkpoints", folder / "train_log.jsonl", 0)
    scores = model.eval().score(split.examples(SplitName.valid))
    if processes.is_first():
        save_file({"scores": scores}, folder / "scores")
        save_file({f"{i}.{n}": g for i, grads in enumerate(seen) for n, g in grads.items()}, folder / "gradients")


def keep_all(folder: Path) -> None:
    """Keeps those of every setting and batch size."""
    with processes.process_group("cpu"):
        for setting in SETTINGS:
            for size in BATCH_SIZES:
                torch.manual_seed(0)
                keep_gradients(setting, size, folder / setting / str(size))
