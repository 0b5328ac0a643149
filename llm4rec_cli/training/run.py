"""One run from raw files to metrics, with the floors of its task; finished runs are reused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli import processes
from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.errors import DryRun
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.results.result import CHECKPOINTS, TRAIN_LOG, Result, read_result
from llm4rec_cli.runs import marks, rules, stages
from llm4rec_cli.runs.folder import Outcome, locked, log_finished, recorded
from llm4rec_cli.runs.identity import address_of, find_weights
from llm4rec_cli.runs.precision import resolve_precision
from llm4rec_cli.runs.spec import RunSpec
from llm4rec_cli.tasks import base as tasks
from llm4rec_cli.training import checkpoints, trackers
from llm4rec_cli.training.trained import InitRun

if TYPE_CHECKING:
    from llm4rec_cli.data.split import Split

log = logging.getLogger(__name__)

OnEpoch = Callable[[int, float], None]  # takes the epoch, from 1, and its validation score, higher is better


def run(spec: RunSpec, init_run: InitRun | None = None) -> tuple[Outcome, list[Result]]:
    """Execute a run, after the runs of its floors; return how it ended, and the results of the floors and of itself.

    Weights that it depends on are found first: data and floors may take long.

    Args:
        init_run: the run whose weights training starts from.

    Raises:
        DryRun: under `llm.dry_run`, before anything is computed.
    """
    if defaults := spec.describe_defaults():
        log.info(defaults)
    find_weights(spec.config)
    clock = stages.Clock()
    dataset = stages.load(spec)
    split = stages.split_dataset(spec, dataset)
    clock.lap("prepare")
    floors = run_floors(spec, split)
    clock.lap("floors")
    outcome, result = run_unless_finished(spec, split, clock, floors, init_run)
    return outcome, [*floors, result]


def run_floors(spec: RunSpec, split: Split) -> list[Result]:
    """Return the result of each of the task's floors under the same protocol, running those not finished.

    A floor that the dataset cannot fill is left out. A dry run computes nothing, and has none.
    """
    if _is_dry_run(spec):
        return []
    floors = []
    for floor in (spec.for_floor(name) for name in spec.task.floors if name != spec.model.name):
        if problem := next(rules.problems_with_dataset(floor, split.dataset), None):
            log.info("floor left out: %s", problem.problem)
        else:
            floors.append(run_unless_finished(floor, split, stages.Clock())[1])
    return floors


def _is_dry_run(spec: RunSpec) -> bool:
    return spec.llm.dry_run and spec.model.traits.uses_llm


def run_unless_finished(
    spec: RunSpec,
    split: Split,
    clock: stages.Clock,
    floors: Sequence[Result] = (),
    init_run: InitRun | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[Outcome, Result]:
    """Return the finished run at the spec's address, or build, fit, evaluate and save it.

    Args:
        clock: its laps so far become part of the run's seconds.
        init_run: the run whose weights training starts from.
        on_epoch: called after each epoch with its validation score; ends training by raising an exception.
    """
    initial = init_run.initial_for(spec.config.seed) if init_run else None
    address = address_of(spec, split.dataset, initial=initial)
    if _is_dry_run(spec):
        print(f"in all, as estimated: {stages.show_requests(spec, split).in_words()}")
        raise DryRun("dry run: requests were printed, none was sent")
    with locked(address.folder):
        finished = processes.from_first(lambda: read_result(address.folder))
        if finished is not None and not spec.config.force:
            log_finished(spec.model.name, address.folder)
            updated = marks.update_finished(finished, spec, split.dataset, floors)
            return Outcome("skipped", address.folder), updated

        with recorded(address, spec) as folder:
            log.info("%s on %s: %s", spec.model.name, spec.config.dataset.name, folder)
            spec = resolve_precision(spec, folder)
            model = stages.build(spec, split)
            if init_run:
                log.info("starting from the weights of %s", init_run.folder)
                model.initialise_from(checkpoints.weights(init_run.weights))
            stages.save_artifacts(model, folder)
            clock.lap("build")
            trains = spec.model.traits.trainable
            with trackers.opened(spec.config.trainer.report_to if trains else (), folder) as report:
                training = _fit(spec, model, split, folder, clock, on_epoch) if trains else None
                clock.lap("train")
                result = stages.evaluate(
                    spec,
                    split,
                    model,
                    address,
                    clock,
                    floors,
                    stages.Origin(
                        spec.experiment,
                        spec.overrides,
                        spec.task.name,
                        trained_masked=spec.task.mask_history if spec.task.ranks_catalogue else None,
                        training=training,
                        init_from=marks.init_from(init_run.result) if init_run else None,
                    ),
                )
                report([*floors, result])
    return Outcome("done", address.folder), result


def _fit(
    spec: RunSpec, model: Any, split: Split, folder: Path, clock: stages.Clock, on_epoch: OnEpoch | None
) -> dict[str, float]:
    """Fit the weights; return the `training` entry of metrics.json.

    Args:
        clock: gets the seconds of processes that were killed in training.
    """
    from llm4rec_cli.training.fit import fit

    n_trainable = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
    n_frozen = sum(weights.numel() for weights in model.parameters()) - n_trainable
    log.info("%s parameters are trained, %s are frozen", f"{n_trainable:,}", f"{n_frozen:,}")
    config, task = spec.config, tasks.module(spec.task)
    examples = task.examples(split, SplitName.valid, config, spec.cache)
    examples = tasks.subset(examples, config.trainer.valid_examples, config.dataset.seed, "valid_examples")
    rows = model.training_rows()
    result = fit(
        model,
        rows,
        lambda: task.validation_score(model, split, examples, config),
        config.trainer,
        folder / CHECKPOINTS,
        folder / TRAIN_LOG,
        config.seed,
        on_epoch,
    )
    clock.seconds["train"] = result.earlier_seconds
    return {
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        f"valid_{config.task.selection}": direction(config.task.selection) * result.best_score,
        "rows": len(rows),
    }
