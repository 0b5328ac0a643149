"""Training with transformers.Trainer.

The Trainer provides mixed precision, accumulation, several devices, optimisers, schedules and trackers. Our own are the
batches (a function of seed and epoch), the validation (by the task), complete checkpoints, and exact resumption.
"""

from __future__ import annotations

import json
import logging
import pickle
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from llm4rec_cli import processes
from llm4rec_cli.config.schema import Keep, Precision, Schedule, TrainerConfig
from llm4rec_cli.errors import DataError, RunError
from llm4rec_cli.files import flush, write_text
from llm4rec_cli.models.base import HasParameterGroups, HasReferenceLosses, LogsEpochMetrics, Rows
from llm4rec_cli.progress import Step, step
from llm4rec_cli.run import checkpoints
from llm4rec_cli.run.loader import COUNTS, Loader, RowData, Shares, tokenizers_may_be_forked

log = logging.getLogger(__name__)

RANK_STRIDE = 1_000_000  # between the seeds of two processes; seeds that far apart would share draws
WATCH = 50  # steps between two checks of the losses on an accelerator
SHOWN_ROWS = 8  # of a batch, in an error
LOSSES, SUMS = "losses", "sums."  # names in a checkpoint within an epoch
DIVERGED = (
    "lower trainer.learning_rate, set trainer.gradient_clip=1 or trainer.precision=fp32; checkpoints of earlier epochs "
    "are kept"
)


@dataclass(frozen=True)
class FitResult:
    """The result of training.

    Attributes:
        epochs: passes over the rows until training ended.
        best_epoch: the epoch of the loaded weights: the best on validation, or the last with `keep=last`.
        best_score: its validation metric.
        best_loss: its mean loss in training.
        earlier_seconds: training time of processes that were killed, until the checkpoint that was resumed from.
    """

    epochs: float
    best_epoch: float
    best_score: float
    best_loss: float
    earlier_seconds: float = field(compare=False)


def fit(
    model: nn.Module,
    rows: Rows,
    validate: Callable[[], float],
    config: TrainerConfig,
    folder: Path,
    log_path: Path,
    seed: int,
    on_epoch: Callable[[int, float], None] | None = None,
) -> FitResult:
    """Train until the validation metric has not improved for `patience` epochs, and load the best weights.

    With `keep=last`, train for all `epochs` and load the last weights. Training resumes from the last complete
    checkpoint under `folder`, if any. Several processes share each batch.

    Args:
        model: as `Trainable` says; already on its device.
        validate: computes the validation metric of the current weights, higher is better.
        config: with resolved precision.
        folder: where checkpoints are written.
        log_path: gets one JSON line per epoch.
        on_epoch: called after each epoch with its number, from 1, and its validation metric; may end training by
            raising an exception.

    Raises:
        DataError: no training rows.
        RunError: a loss or a weight is not finite; or training was started with another number of processes, device or
            precision.
    """
    if len(rows) == 0:
        raise DataError(
            "no training rows: a model of sequences needs users with at least two interactions in the training split",
            "use data with longer histories, or a model that is not trained: llm4rec list models",
        )
    folder.mkdir(parents=True, exist_ok=True)
    is_done = processes.from_first(lambda: _is_done(folder))
    if not is_done:
        last, earlier_seconds = _train(model, rows, validate, config, folder, log_path, seed, on_epoch)
        processes.from_first(lambda: checkpoints.mark_finished(folder, last))
    best = checkpoints.selected(folder)
    assert best.score is not None  # only checkpoints at the end of an epoch are selected
    checkpoints.load(model, best)
    steps_an_epoch = -(-len(rows) // config.batch_size)
    done = json.loads((folder / checkpoints.TRAINING_DONE).read_text())
    logged = {line["step"]: line["loss"] for line in map(json.loads, log_path.read_text().splitlines())}
    return FitResult(
        epochs=done["step"] / steps_an_epoch,
        best_epoch=best.step / steps_an_epoch,
        best_score=best.score,
        best_loss=logged[best.step],
        earlier_seconds=done.get("seconds", 0.0) if is_done else earlier_seconds,
    )


def _is_done(folder: Path) -> bool:
    """Return whether training has finished and its selected checkpoint is still complete."""
    if not (folder / checkpoints.TRAINING_DONE).exists():
        return False
    try:
        checkpoints.selected(folder)
    except RunError as error:
        log.warning("%s: resuming from the last complete checkpoint", error.problem)
        (folder / checkpoints.TRAINING_DONE).unlink()
        return False
    return True


def _train(
    model: nn.Module,
    rows: Rows,
    validate: Callable[[], float],
    config: TrainerConfig,
    folder: Path,
    log_path: Path,
    seed: int,
    on_epoch: Callable[[int, float], None] | None,
) -> tuple[checkpoints.Checkpoint, float]:
    """Train; return the last checkpoint, and the training time before it was resumed."""
    device = next(model.parameters()).device.type
    steps_an_epoch = -(-len(rows) // config.batch_size)
    arguments = _arguments(config, folder, device, steps_an_epoch, seed)
    trainer = _Trainer(model, arguments, rows, validate, config, seed)
    trainer.remove_callback(PrinterCallback)  # it prints to stdout, which is for tables
    if config.keep == Keep.best:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=config.patience))
    complete = processes.from_first(lambda: checkpoints.rotate(checkpoints.list_complete(folder)))
    trained_on = f"{processes.world_size()} x {device}, {config.precision.name}"
    if complete and complete[-1].trained_on != trained_on:
        raise RunError(
            f"{folder} was started on {complete[-1].trained_on}, and would end with other weights on {trained_on}",
            "use the same number of processes, device and precision, or start over with force=true",
        )
    earlier_seconds = complete[-1].seconds if complete else 0.0
    recorder = _Recorder(trainer, complete, log_path, trained_on, config, earlier_seconds, on_epoch)
    trainer.add_callback(recorder)
    if complete and _ended(complete[-1]):
        log.info("training ended at step %d", complete[-1].step)
        return complete[-1], earlier_seconds
    if complete:
        log.info("resuming at step %d", complete[-1].step)
    if processes.is_first():
        _truncate_log(log_path, complete[-1].step if complete else 0)
    n_steps, n_done = config.epochs * steps_an_epoch, complete[-1].step if complete else 0
    with step("training", n_steps, done=n_done) as progress, warnings.catch_warnings(), tokenizers_may_be_forked():
        trainer.add_callback(_ShowProgress(progress, trainer, config.epochs))
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)  # raised by accelerate
        try:
            trainer.train(resume_from_checkpoint=str(complete[-1].folder) if complete else None)
        except pickle.UnpicklingError as error:  # of torch, which loads the optimiser's tensors and runs nothing
            raise DataError(
                f"{complete[-1].folder} holds something other than tensors: {str(error).partition('.')[0]}",
                "delete that folder, or train again with force=true",
            ) from error
        finally:
            trainer.callback_handler.train_dataloader = None  # which ends its workers
    return recorder.kept[-1], earlier_seconds


def _arguments(config: TrainerConfig, folder: Path, device: str, steps_an_epoch: int, seed: int) -> TrainingArguments:
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
        load_best_model_at_end=True,  # required by EarlyStoppingCallback; we load the weights ourselves
        restore_callback_states_from_checkpoint=True,  # or the patience counter would restart on resumption
        remove_unused_columns=False,
        report_to=list(config.report_to),
        logging_nan_inf_filter=False,  # it would read each loss from the GPU; `_watch` looks at them
        disable_tqdm=True,
        dataloader_num_workers=config.workers,
        dataloader_pin_memory=device != "cpu",
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,  # text features are equal in all processes
        seed=seed + RANK_STRIDE * processes.rank(),  # or all processes would drop the same units
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # DataParallel would split packed batches
    return arguments


class _Trainer(Trainer):
    """transformers.Trainer with our batches and validation."""

    def __init__(
        self,
        model: nn.Module,
        arguments: TrainingArguments,
        rows: Rows,
        validate: Callable[[], float],
        config: TrainerConfig,
        seed: int,
    ) -> None:
        self.data = RowData(rows, config.micro_batch_size)
        # The Trainer requires an evaluation dataset, although our `evaluate` does not use it.
        super().__init__(model=model, args=arguments, train_dataset=self.data, eval_dataset=self.data)
        self.validate = validate
        self.shares = Shares(len(rows), config.batch_size, seed)
        self.score = float("nan")
        self.n_terms = 0  # of the micro-batches of a step until now
        self.loss = torch.zeros(())  # of the last step
        self.first_nonfinite = torch.zeros((), dtype=torch.int64)  # the step of the first such loss, 0 = none
        self.sums: dict[str, Tensor] = {}  # of this process, in the current epoch
        self.facts: dict[str, object] = {}  # of the last epoch

    def get_train_dataloader(self) -> DataLoader[Any]:
        return Loader(self.data, self.shares, self.args.dataloader_num_workers, self.args.dataloader_pin_memory)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return the Trainer's optimizer, or one with a parameter group per learning rate, with and without decay."""
        inner: nn.Module = self.accelerator.unwrap_model(self.model)
        if not isinstance(inner, HasParameterGroups) or self.optimizer is not None:
            return super().create_optimizer()
        decayed = set(self.get_decay_parameter_names(inner))
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, weight in inner.named_parameters():
            if weight.requires_grad:
                key = inner.learning_rate_of(name, self.args.learning_rate), name in decayed
                groups.setdefault(key, []).append(weight)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": weights, "lr": rate, "weight_decay": self.args.weight_decay * decays}
                for (rate, decays), weights in groups.items()
            ],
            betas=(self.args.adam_beta1, self.args.adam_beta2),
            eps=inner.epsilon,
            fused=True,
        )
        return self.optimizer

    def _prepare_input(self, data: Any) -> Any:
        """Copy a batch, which is pinned, without waiting for the GPU."""
        if isinstance(data, Tensor):
            return data.to(self.args.device, non_blocking=True)
        return super()._prepare_input(data)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Return the norm if gradients are clipped; the Trainer computes it otherwise, too, to log it."""
        return grad_norm

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Add up the gradients of a batch, and return its loss.

        Micro-batches add the gradients of their sums of terms. Only when all are done, the number of terms that these
        are divided by is known.
        """
        add_gradients = super().training_step
        if self.data.micro_batch_size is None:
            return add_gradients(model, inputs[0])
        self.n_terms = 0
        *earlier, last = inputs
        with self.accelerator.no_sync(model):
            losses = [add_gradients(model, each) for each in earlier]
        losses.append(add_gradients(model, last))
        total = self.loss.new_full((), self.n_terms)
        if processes.world_size() > 1:
            torch.distributed.all_reduce(total)
        scale = processes.world_size() / total  # the gradients of processes are averaged
        torch._foreach_mul_([weight.grad for weight in model.parameters() if weight.grad is not None], scale)
        self.loss = torch.stack(losses).sum() * scale
        return self.loss

    def compute_loss(self, model: nn.Module, inputs: Any, *_: Any, **__: Any) -> Tensor:
        """Return this process's mean loss, weighted so that the mean over processes is the mean over the batch; of a
        micro-batch the sum over its terms."""
        counts = inputs.pop(COUNTS)
        outputs = model(**inputs)
        self.loss = outputs["loss"].detach()
        self._watch(self.loss)
        if counts:
            for name, pair in outputs.get("sums", {}).items():
                self.sums[name] = self.sums[name] + pair if name in self.sums else pair
        loss: Tensor = outputs["loss"]
        if self.data.micro_batch_size is not None:
            n_terms = outputs["n_terms"] if counts else 0
            self.n_terms += n_terms
            return loss * n_terms
        if processes.world_size() == 1:
            return loss
        mine = loss.new_full((), outputs["n_terms"] if counts else 0)
        total = mine.clone()
        torch.distributed.all_reduce(total)
        return loss * (processes.world_size() * mine / total)

    def _watch(self, loss: Tensor) -> None:
        """End training at a loss that is not finite: on a CPU at once; on an accelerator, because each check
        synchronises, every WATCH steps and at the end of an epoch, before its checkpoint is written."""
        step = self.state.global_step + 1
        nonfinite = self.first_nonfinite.to(loss.device)
        self.first_nonfinite = torch.where((nonfinite == 0) & ~loss.isfinite(), step, nonfinite)
        if loss.device.type == "cpu" or step % WATCH == 0:
            self._refuse_nonfinite_loss()

    def _refuse_nonfinite_loss(self) -> None:
        """Raise a RunError with the step and batch of the first loss that was not finite, if any."""
        if not (step := int(self.first_nonfinite)):
            return
        epoch, batch = divmod(step - 1, len(self.shares))
        rows = ", ".join(map(str, self.shares.batches(epoch)[batch][:SHOWN_ROWS].tolist()))
        raise RunError(
            f"the loss of step {step} is not finite (epoch {epoch + 1}, batch {batch + 1} of {len(self.shares)}: rows "
            f"{rows}, …)",
            DIVERGED,
        )

    def _refuse_nonfinite_weights(self) -> None:
        """Raise a RunError if a weight is not finite, which a step with a finite loss can cause."""
        for name, weight in self.accelerator.unwrap_model(self.model).named_parameters():
            if not weight.isfinite().all():
                raise RunError(f"the weights {name} are not finite after step {self.state.global_step}", DIVERGED)

    def refuse_nonfinite(self) -> None:
        self._refuse_nonfinite_loss()
        self._refuse_nonfinite_weights()

    def all_sums(self) -> dict[str, Tensor]:
        """Return the sums of this process in an epoch that has not ended, of losses too."""
        return {LOSSES: self._tr_loss} | {f"{SUMS}{name}": pair for name, pair in self.sums.items()}

    def restore_sums(self, sums: dict[str, Tensor]) -> None:
        """Continue with the sums of an epoch, as `all_sums` returned them."""
        sums = {name: values.to(self.args.device) for name, values in sums.items()}
        self._tr_loss += sums.pop(LOSSES)
        self._globalstep_last_logged -= self.state.global_step % len(self.shares)
        self.sums = {name.removeprefix(SUMS): pair for name, pair in sums.items()}

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        self.refuse_nonfinite()
        with torch.no_grad():
            self.score = processes.gathered(self.validate())[0]  # or each process might stop after another epoch
        means = processes.means({name: pair.tolist() for name, pair in self.sums.items()})
        self.sums = {}
        self.facts = {**means}
        if isinstance(model := self.accelerator.unwrap_model(self.model), LogsEpochMetrics):
            self.facts |= model.epoch_metrics(means)
        metrics = {"eval_score": self.score}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Recorder(TrainerCallback):
    """Write one line per epoch to train_log.jsonl, seal each checkpoint, keep the best and the last."""

    def __init__(
        self,
        trainer: _Trainer,
        kept: list[checkpoints.Checkpoint],
        log_path: Path,
        trained_on: str,
        config: TrainerConfig,
        earlier_seconds: float,
        on_epoch: Callable[[int, float], None] | None,
    ) -> None:
        self.trainer, self.kept, self.log_path, self.trained_on = trainer, kept, log_path, trained_on
        self.config, self.on_epoch = config, on_epoch
        model = trainer.accelerator.unwrap_model(trainer.model)
        self.reference = model.reference_losses() if isinstance(model, HasReferenceLosses) else None
        self.saved = time.monotonic()  # the last checkpoint
        self.start = self.saved - earlier_seconds  # as if one process had trained all the time

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.kept and self._is_within_epoch(state):
            self.trainer.restore_sums(load_file(self._sums_file(self.kept[-1].folder)))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        minutes = self.config.checkpoint_minutes
        if minutes is None or not self._is_within_epoch(state):
            return
        if processes.from_first(lambda: time.monotonic() - self.saved >= 60 * minutes):
            self.trainer.refuse_nonfinite()
            control.should_save = True

    def _is_within_epoch(self, state: Any) -> bool:
        return bool(state.global_step % len(self.trainer.shares))

    def _sums_file(self, folder: Path) -> Path:
        return folder / f"sums_{processes.rank()}.safetensors"

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if processes.is_first():
            self._log(state)
        if self.on_epoch:
            self.on_epoch(round(state.epoch), self.trainer.score)

    def _log(self, state: Any) -> None:
        loss = next(entry["loss"] for entry in reversed(state.log_history) if "loss" in entry)
        line = {"step": state.global_step, "epoch": state.epoch, "loss": loss, "valid": self.trainer.score}
        line |= self.trainer.facts
        with self.log_path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        more = [f"{name} {value:.3f}" for name, value in self.trainer.facts.items() if isinstance(value, float)]
        valid = abs(self.trainer.score)  # error metrics are negated
        beside = " (uniform {:.4f}, popularity {:.4f})".format(*self.reference) if self.reference else ""
        log.info("  ".join([f"epoch {round(state.epoch)}  loss {loss:.4f}{beside}  valid {valid:.4f}", *more]))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        is_within_epoch = self._is_within_epoch(state)
        if is_within_epoch:
            save_file(self.trainer.all_sums(), self._sums_file(folder))

        def seal_and_rotate() -> list[checkpoints.Checkpoint]:
            flush(self.log_path)  # on disk before its checkpoint
            earlier = self.kept if self.config.keep == Keep.best else []
            seconds = round(time.monotonic() - self.start, 3)
            score = None if is_within_epoch else self.trainer.score
            last = checkpoints.seal(folder, state.global_step, score, self.trained_on, seconds, earlier)
            return checkpoints.rotate([*self.kept, last])

        processes.gathered(None)  # wait until every process has written its random state
        self.kept = processes.from_first(seal_and_rotate)
        self.saved = time.monotonic()


class _ShowProgress(TrainerCallback):
    """Progress over optimiser steps, also within an epoch, with the last loss and validation metric."""

    def __init__(self, progress: Step, trainer: _Trainer, epochs: int) -> None:
        self.progress, self.trainer, self.epochs = progress, trainer, epochs

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.update(state.global_step, note=lambda: self._facts(state))

    def _facts(self, state: Any) -> str:
        score = abs(self.trainer.score)  # error metrics are negated
        valid = [] if np.isnan(score) else [f"valid {score:.4f}"]
        epoch = f"epoch {np.ceil(state.epoch):.0f} of {self.epochs}"
        return ", ".join([epoch, f"loss {self.trainer.loss.item():.4f}", *valid])


def _ended(checkpoint: checkpoints.Checkpoint) -> bool:
    """Return whether training stopped at this checkpoint. The Trainer itself would ignore it and continue."""
    state = json.loads((checkpoint.folder / TRAINER_STATE_NAME).read_text())
    return bool(state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"])


def _truncate_log(path: Path, step: int) -> None:
    """Remove log lines after the checkpoint that training resumes from. A kill may have truncated the last line."""
    lines = path.read_text().splitlines() if path.exists() else []
    complete = [line for line in lines if line.endswith("}")]
    write_text(path, "".join(line + "\n" for line in complete if json.loads(line)["step"] <= step))
