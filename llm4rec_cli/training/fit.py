"""Training: the wiring of transformers.Trainer.

The Trainer brings mixed precision, accumulation, several devices, optimisers, schedules and trackers. Ours are the
batches (a function of seed and epoch), the validation (our own ranking loop), whole checkpoints, and exact resumption.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from llm4rec_cli import processes
from llm4rec_cli.config.schema import Keep, Precision, Schedule
from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import RunError
from llm4rec_cli.files import flush, write_text
from llm4rec_cli.models.base import HasParameterGroups, LogsEpochMetrics, Rows
from llm4rec_cli.progress import bar
from llm4rec_cli.training import checkpoints
from llm4rec_cli.training.checkpoints import load_best

log = logging.getLogger(__name__)

RANK_STRIDE = 1_000_000  # between the seeds of two processes: more than anybody counts seeds
WATCH = 50  # steps between two looks at an accelerator's losses
SHOWN_ROWS = 8  # of a batch, in an error
DIVERGED = (
    "lower trainer.learning_rate, set trainer.gradient_clip=1 or trainer.precision=fp32; checkpoints of earlier epochs "
    "are kept"
)
COUNTS = "counts"  # whether this process's share of a batch is in the loss


@dataclass(frozen=True)
class FitResult:
    """How training went.

    Attributes:
        epochs: passes over the rows, as far as training went.
        best_epoch: whose weights are loaded: where the validation metric was highest, or the last.
        best_score: that metric.
    """

    epochs: float
    best_epoch: float
    best_score: float


def fit(
    model: nn.Module, rows: Rows, validate: Callable[[], float], config: Any, folder: Path, log_path: Path, seed: int
) -> FitResult:
    """Trains until the validation metric has not improved for `patience` epochs, and loads the best weights.

    With `keep=last`, through all `epochs`, and keeps the last ones.

    Continues from the last whole checkpoint under `folder`, if there is one. Several processes share each batch.

    Args:
        model: forward(**rows.batch(…)) returns {"loss": the mean of n terms, "n_terms": n}; on its device already.
        rows: the training rows.
        validate: the validation metric of the model as it is, higher is better.
        config: a TrainerConfig, its precision not `auto`.
        folder: where checkpoints go.
        log_path: one JSON line an epoch.
        seed: of batches, dropout and the like.

    Raises:
        RunError: a loss or a weight is not finite; or training was begun on another number of processes, device or
            precision.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not processes.from_first(lambda: _is_done(folder)):
        last = _train(model, rows, validate, config, folder, log_path, seed)
        processes.from_first(lambda: checkpoints.mark_finished(folder, last))
    best = load_best(model, folder)
    steps_an_epoch = -(-len(rows) // config.batch_size)
    done = json.loads((folder / checkpoints.TRAINING_DONE).read_text())
    return FitResult(
        epochs=done["step"] / steps_an_epoch,
        best_epoch=best.step / steps_an_epoch,
        best_score=best.score,
    )


def _is_done(folder: Path) -> bool:
    """Whether training had finished, and what it chose is still there."""
    if not (folder / checkpoints.TRAINING_DONE).exists():
        return False
    try:
        checkpoints.selected(folder)
    except RunError as error:
        log.warning("%s: training goes on from what is whole", error.problem)
        (folder / checkpoints.TRAINING_DONE).unlink()
        return False
    return True


def _train(
    model: nn.Module, rows: Rows, validate: Callable[[], float], config: Any, folder: Path, log_path: Path, seed: int
) -> checkpoints.Checkpoint:
    """Trains, from the last whole checkpoint if there is one; returns the last."""
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
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,  # text features are the same everywhere
        seed=seed + RANK_STRIDE * processes.rank(),  # or every process would drop the same units
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # DataParallel would tear packed batches apart
    trainer = _Trainer(model, arguments, rows, validate, config.batch_size, seed)
    trainer.remove_callback(PrinterCallback)  # it prints to stdout, where only tables belong
    if config.keep == Keep.best:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=config.patience))
    found = processes.from_first(lambda: checkpoints.rotate(checkpoints.list_complete(folder)))
    trained_on = f"{processes.world_size()} x {device}, {config.precision.name}"
    if found and found[-1].trained_on != trained_on:
        raise RunError(
            f"{folder} was begun on {found[-1].trained_on}, and would not end the same on {trained_on}",
            "use as many processes, the same device and precision, or start over with force=true",
        )
    recorder = _Recorder(trainer, found, log_path, trained_on, config.keep)
    trainer.add_callback(recorder)
    progress = _ShowProgress(config.epochs * steps_an_epoch)
    trainer.add_callback(progress)
    if found and _ended(found[-1]):
        log.info("training had ended at step %d", found[-1].step)
        return found[-1]
    if found:
        log.info("resuming at step %d", found[-1].step)
    if processes.is_first():
        _truncate_log(log_path, found[-1].step if found else 0)
    with progress.display, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)  # accelerate has no other
        trainer.train(resume_from_checkpoint=str(found[-1].folder) if found else None)
    return recorder.kept[-1]


class _Share(NamedTuple):
    """What one process does of a batch.

    Attributes:
        epoch: from 0.
        rows: at least one.
        counts: false where there are fewer rows than processes: the batch's first row keeps step, and weighs nothing.
    """

    epoch: int
    rows: list[int]
    counts: bool


class _Shares(Sampler[_Share]):
    """This process's share of each batch: rows permuted anew each epoch, as a function of (seed, epoch)."""

    def __init__(self, n_rows: int, batch_size: int, seed: int) -> None:
        self.n_rows, self.batch_size, self.seed, self.epoch = n_rows, batch_size, seed, 0

    def __len__(self) -> int:
        return -(-self.n_rows // self.batch_size)

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """The rows of each batch of an epoch."""
        order = stream(self.seed, "batches", epoch).permutation(self.n_rows)
        return [order[start : start + self.batch_size] for start in range(0, self.n_rows, self.batch_size)]

    def __iter__(self) -> Iterator[_Share]:
        for batch in map(np.ndarray.tolist, self.batches(self.epoch)):
            mine = batch[processes.share(len(batch))]
            yield _Share(self.epoch, mine or batch[:1], counts=bool(mine))


class _RowData(Dataset[Any]):
    """Rows behind the interface of a torch Dataset; a whole share is fetched at once."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, share: _Share) -> dict[str, Any]:
        return self.rows.batch(share.epoch, share.rows) | {COUNTS: share.counts}


class _Loader(DataLoader[Any]):
    """Shares are divided already, so accelerate must not divide them again; the Trainer tells it the epoch."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.epoch = epoch  # type: ignore[union-attr]


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
        self.shares = _Shares(len(rows), batch_size, seed)
        self.score = float("nan")
        self.first_nonfinite = torch.zeros((), dtype=torch.int64)  # the step of that loss, 0 = none; on its device
        self.sums: dict[str, Any] = {}  # of this process, since the epoch began
        self.facts: dict[str, Any] = {}  # of the last epoch

    def get_train_dataloader(self) -> DataLoader[Any]:
        return _Loader(
            self.data,
            batch_sampler=self.shares,  # type: ignore[arg-type]
            collate_fn=_as_is,  # __getitems__ made the batch
            pin_memory=self.args.dataloader_pin_memory,
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The Trainer's; of a model whose weights learn at several rates a group for each, decayed and not."""
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

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        """The mean over this process's terms, weighted so that the mean over processes is that of the whole batch."""
        counts = inputs.pop(COUNTS)
        outputs = model(**inputs)
        self._watch(outputs["loss"].detach())
        if counts:
            for name, pair in outputs.get("sums", {}).items():
                self.sums[name] = self.sums.get(name, 0) + pair
        loss: Tensor = outputs["loss"]
        if processes.world_size() == 1:
            return loss
        mine = torch.tensor(float(outputs["n_terms"] if counts else 0), device=loss.device)
        total = mine.clone()
        torch.distributed.all_reduce(total)
        return loss * (processes.world_size() * mine / total)

    def _watch(self, loss: Tensor) -> None:
        """End training at a loss that is not finite: on a CPU at once. An accelerator is looked at every WATCH steps
        and at the end of an epoch, before its checkpoint is written, as a look waits for it."""
        step = self.state.global_step + 1
        nonfinite = self.first_nonfinite.to(loss.device)
        self.first_nonfinite = torch.where((nonfinite == 0) & ~loss.isfinite(), step, nonfinite)
        if loss.device.type == "cpu" or step % WATCH == 0:
            self._refuse_nonfinite_loss()

    def _refuse_nonfinite_loss(self) -> None:
        """Raise a RunError that names the step and the batch if some loss was not finite."""
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
        """Raise a RunError if a step with a finite loss has left weights that are not."""
        for name, weight in self.accelerator.unwrap_model(self.model).named_parameters():
            if not weight.isfinite().all():
                raise RunError(
                    f"the weights {name} are not finite after step {self.state.global_step}",
                    DIVERGED,
                )

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        self._refuse_nonfinite_loss()
        self._refuse_nonfinite_weights()
        with torch.no_grad():
            self.score = self.validate()
        self.facts = self._means()
        if isinstance(model := self.accelerator.unwrap_model(self.model), LogsEpochMetrics):
            self.facts |= model.epoch_metrics(self.facts)
        metrics = {"eval_score": self.score}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _means(self) -> dict[str, float]:
        """The epoch's mean of each sum that the model gave, over all processes; where a domain had no term, none."""
        totals = [{name: pair.tolist() for name, pair in self.sums.items()}]
        self.sums = {}
        totals = [part for share in processes.gathered(totals) for part in share]
        found = {}
        for name in dict.fromkeys(name for part in totals for name in part):
            total, n = map(sum, zip(*(part[name] for part in totals if name in part), strict=True))
            if n:
                found[name] = total / n
        return found


class _Recorder(TrainerCallback):
    """Writes one line an epoch to train_log.jsonl, seals each checkpoint, keeps the best and the last."""

    def __init__(
        self, trainer: _Trainer, kept: list[checkpoints.Checkpoint], log_path: Path, trained_on: str, keep: Keep
    ) -> None:
        self.trainer, self.kept, self.log_path, self.trained_on = trainer, kept, log_path, trained_on
        self.keep = keep

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not processes.is_first():
            return
        loss = next(entry["loss"] for entry in reversed(state.log_history) if "loss" in entry)
        line = {"step": state.global_step, "epoch": state.epoch, "loss": loss, "valid": self.trainer.score}
        line |= self.trainer.facts
        with self.log_path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        more = [f"{name} {value:.3f}" for name, value in self.trainer.facts.items() if isinstance(value, float)]
        valid = abs(self.trainer.score)  # an error comes negated
        log.info("  ".join([f"epoch {round(state.epoch)}  loss {loss:.4f}  valid {valid:.4f}", *more]))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"

        def sealed() -> list[checkpoints.Checkpoint]:
            flush(self.log_path)  # a checkpoint must not outlive its line of log
            rivals = self.kept if self.keep == Keep.best else []
            last = checkpoints.seal(folder, state.global_step, self.trainer.score, self.trained_on, rivals)
            return checkpoints.rotate([*self.kept, last])

        processes.gathered(None)  # every process has written its random state
        self.kept = processes.from_first(sealed)


class _ShowProgress(TrainerCallback):
    """A bar over optimiser steps, with the last loss and validation metric."""

    def __init__(self, steps: int) -> None:
        self.display = bar()
        self.task = self.display.add_task("training", total=steps, note="")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.display.update(self.task, completed=state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **facts: Any) -> None:
        self.display.update(self.task, note=f"valid {abs(facts['metrics']['eval_score']):.4f}")


def _ended(checkpoint: checkpoints.Checkpoint) -> bool:
    """Whether training stopped at this checkpoint: on resumption the Trainer forgets it, and would train on."""
    state = json.loads((checkpoint.folder / TRAINER_STATE_NAME).read_text())
    return bool(state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"])


def _truncate_log(path: Path, step: int) -> None:
    """Forgets what was logged after the checkpoint that training goes on from; a kill may have torn the last line."""
    lines = path.read_text().splitlines() if path.exists() else []
    whole = [line for line in lines if line.endswith("}")]
    write_text(path, "".join(line + "\n" for line in whole if json.loads(line)["step"] <= step))
