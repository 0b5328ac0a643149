"""Training: the wiring of transformers.Trainer.

The Trainer brings mixed precision, accumulation, several devices, optimisers, schedules and trackers. Ours are the
batches (a function of seed and epoch), the validation (our own ranking loop), whole checkpoints, and exact resumption.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from llm4rec_cli.data.streams import stream
from llm4rec_cli.files import write_json, write_text
from llm4rec_cli.models.base import Rows
from llm4rec_cli.progress import bar
from llm4rec_cli.schema import Precision, Schedule
from llm4rec_cli.training import checkpoints

log = logging.getLogger(__name__)

TRAINING_DONE = "training_done.json"


@dataclass(frozen=True)
class Fitted:
    """How training went.

    Attributes:
        epochs: passes over the rows, as far as training went.
        best_epoch: where the validation metric was highest; its weights are loaded.
        best_score: that metric.
    """

    epochs: float
    best_epoch: float
    best_score: float


def fit(
    model: nn.Module, rows: Rows, validate: Callable[[], float], config: Any, folder: Path, log_path: Path, seed: int
) -> Fitted:
    """Trains until the validation metric has not improved for `patience` epochs, and loads the best weights.

    Continues from the last whole checkpoint under `folder`, if there is one.

    Args:
        model: forward(**rows.batch(…)) returns {"loss": scalar}; on its device already.
        rows: the training rows.
        validate: the validation metric of the model as it is, higher is better.
        config: a TrainerConfig.
        folder: where checkpoints go.
        log_path: one JSON line an epoch.
        seed: of batches, dropout and the like.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / TRAINING_DONE
    if not done.exists():
        _train(model, rows, validate, config, folder, log_path, seed)
        write_json(done, {"step": max(c.step for c in checkpoints.whole(folder))})
    best = load_best(model, folder)
    steps_an_epoch = -(-len(rows) // config.batch_size)
    return Fitted(
        epochs=json.loads(done.read_text())["step"] / steps_an_epoch,
        best_epoch=best.step / steps_an_epoch,
        best_score=best.score,
    )


def load_best(model: nn.Module, folder: Path) -> checkpoints.Checkpoint:
    """Loads the weights with the highest validation metric; reads `folder`, changes nothing there.

    Raises:
        RunError: no checkpoint under `folder` is whole.
    """
    best = checkpoints.best(checkpoints.whole(folder, remove=False))
    model.load_state_dict(load_file(best.folder / checkpoints.WEIGHTS, device=str(next(model.parameters()).device)))
    return best


def _train(
    model: nn.Module, rows: Rows, validate: Callable[[], float], config: Any, folder: Path, log_path: Path, seed: int
) -> None:
    device = next(model.parameters()).device.type
    steps_an_epoch = -(-len(rows) // config.batch_size)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup" if config.schedule == Schedule.constant else config.schedule.name,
        warmup_steps=int(config.warmup_ratio * config.epochs * steps_an_epoch),
        weight_decay=config.weight_decay,
        max_grad_norm=config.gradient_clip,
        optim="adamw_torch_fused",
        bf16=config.precision == Precision.bf16,
        use_cpu=device == "cpu",
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        metric_for_best_model="score",
        greater_is_better=True,
        load_best_model_at_end=True,  # asked for by the early-stopping callback; the weights come from our manifest
        restore_callback_states_from_checkpoint=True,  # or the patience counter would start anew on resumption
        remove_unused_columns=False,
        report_to=list(config.report_to),
        disable_tqdm=True,
        dataloader_pin_memory=device != "cpu",
        seed=seed,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # DataParallel would tear packed batches apart
    trainer = _Trainer(model, arguments, rows, validate, config.batch_size, seed)
    trainer.remove_callback(PrinterCallback)  # it prints to stdout, where only tables belong
    trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=config.patience))
    found = checkpoints.whole(folder)
    trainer.add_callback(_Recorder(trainer, found, log_path))
    progress = _ShowProgress(config.epochs * steps_an_epoch)
    trainer.add_callback(progress)
    if found and _ended(found[-1]):
        log.info("training had ended at step %d", found[-1].step)
        return
    if found:
        log.info("resuming at step %d", found[-1].step)
        _truncate_log(log_path, found[-1].step)
    else:
        log_path.unlink(missing_ok=True)
    with progress.display:
        trainer.train(resume_from_checkpoint=str(found[-1].folder) if found else None)


class _Keys(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, row): rows permuted anew each epoch, as a function of (seed, epoch)."""

    def __init__(self, n_rows: int, batch_size: int, seed: int) -> None:
        self.n_rows, self.batch_size, self.seed, self.epoch = n_rows, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.n_rows // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = stream(self.seed, "batches", self.epoch).permutation(self.n_rows)
        for start in range(0, self.n_rows, self.batch_size):
            yield [(self.epoch, int(row)) for row in order[start : start + self.batch_size]]


class _RowData(Dataset[Any]):
    """Rows behind the interface of a torch Dataset; a whole batch is fetched at once."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, keys: list[tuple[int, int]]) -> dict[str, Tensor]:
        return self.rows.batch(keys[0][0], [row for _, row in keys])


def _as_is(batch: Any) -> Any:
    return batch


class _Trainer(Trainer):
    """transformers.Trainer with our batches, our validation, and checkpoints sealed as they are written."""

    def __init__(
        self,
        model: nn.Module,
        arguments: TrainingArguments,
        rows: Rows,
        validate: Callable[[], float],
        batch_size: int,
        seed: int,
    ) -> None:
        self.data = _RowData(rows)
        # An evaluation dataset is demanded, though our `evaluate` asks the task instead.
        super().__init__(model=model, args=arguments, train_dataset=self.data, eval_dataset=self.data)
        self.validate = validate
        self.keys = _Keys(len(rows), batch_size, seed)
        self.score = float("nan")

    def get_train_dataloader(self) -> DataLoader[Any]:
        loader = DataLoader(
            self.data,
            batch_sampler=self.keys,
            collate_fn=_as_is,  # __getitems__ made the batch
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        with torch.no_grad():
            self.score = self.validate()
        metrics = {"eval_score": self.score}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Recorder(TrainerCallback):
    """Writes one line an epoch to train_log.jsonl, seals each checkpoint, keeps the best and the last."""

    def __init__(self, trainer: _Trainer, kept: list[checkpoints.Checkpoint], log_path: Path) -> None:
        self.trainer, self.kept, self.log_path = trainer, kept, log_path

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        loss = next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), None)
        line = {"step": state.global_step, "epoch": state.epoch, "loss": loss, "valid": self.trainer.score}
        with self.log_path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        log.info("epoch %d  loss %s  valid %.4f", round(state.epoch), f"{loss:.4f}", self.trainer.score)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self.kept.append(checkpoints.seal(folder, state.global_step, self.trainer.score))
        self.kept[:] = checkpoints.rotate(self.kept)


class _ShowProgress(TrainerCallback):
    """A bar over optimiser steps, with the last loss and validation metric."""

    def __init__(self, steps: int) -> None:
        self.display = bar()
        self.task = self.display.add_task("training", total=steps, note="")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.display.update(self.task, completed=state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **facts: Any) -> None:
        self.display.update(self.task, note=f"valid {facts['metrics']['eval_score']:.4f}")


def _ended(checkpoint: checkpoints.Checkpoint) -> bool:
    """Whether training stopped at this checkpoint: on resumption the Trainer forgets it, and would train on."""
    state = json.loads((checkpoint.folder / TRAINER_STATE_NAME).read_text())
    return bool(state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"])


def _truncate_log(path: Path, step: int) -> None:
    """Forgets what was logged after the checkpoint that training goes on from."""
    lines = path.read_text().splitlines() if path.exists() else []
    write_text(path, "".join(line + "\n" for line in lines if json.loads(line)["step"] <= step))
