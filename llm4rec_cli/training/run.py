"""One run from raw files to its metrics, beside the floors of its task: what is finished is found, not repeated."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli import processes
from llm4rec_cli.config.schema import SplitName
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.runs import marks, stages
from llm4rec_cli.runs.catalog import metrics_of
from llm4rec_cli.runs.folder import Outcome, locked, recorded
from llm4rec_cli.runs.identity import address_of
from llm4rec_cli.runs.precision import with_arithmetic
from llm4rec_cli.runs.spec import RunSpec
from llm4rec_cli.tasks import base as tasks
from llm4rec_cli.training import checkpoints
from llm4rec_cli.training.trained import Origin

if TYPE_CHECKING:
    from llm4rec_cli.data.split import Split

log = logging.getLogger(__name__)


def run(spec: RunSpec, origin: Origin | None = None) -> tuple[Outcome, list[dict[str, Any]]]:
    """Does a run and, before it, those of its floors.

    Args:
        origin: the run whose weights training begins with.

    Returns:
        how it ended, and metrics.json of the floors and of itself.
    """
    if defaults := spec.defaults_in_words():
        log.info(defaults)
    clock = stages.Clock()
    dataset = stages.load(spec)
    split = stages.split_dataset(spec, dataset)
    clock.lap("prepare")
    floors = floors_beside(spec, split)
    clock.lap("floors")
    outcome, metrics = _found_or_done(spec, split, clock, floors, origin)
    return outcome, [*floors, metrics]


def floors_beside(spec: RunSpec, split: Split) -> list[dict[str, Any]]:
    """metrics.json of each of the task's floors under the same protocol: evaluated now, or found."""
    names = [name for name in spec.task.floors if name != spec.model.name]
    return [_found_or_done(spec.of_floor(name), split, stages.Clock())[1] for name in names]


def _found_or_done(
    spec: RunSpec,
    split: Split,
    clock: stages.Clock,
    floors: Sequence[dict[str, Any]] = (),
    origin: Origin | None = None,
) -> tuple[Outcome, dict[str, Any]]:
    """The run at the spec's address: found there if it is finished, otherwise built, fitted, evaluated and saved."""
    initial = (origin.weights.sha256, origin.variant_for(spec.config.seed)) if origin else None
    where = address_of(spec, split.dataset, initial=initial)
    if spec.llm.dry_run and spec.model.uses_llm:
        stages.rehearse(spec, split)
    with locked(where.folder):
        found = processes.from_first(lambda: metrics_of(where.folder))
        if found is not None and not spec.config.force:
            log.info("%s is done: %s", spec.model.name, where.folder)
            return Outcome("skipped", where.folder), marks.relabelled(found, where, spec, floors)

        with recorded(where, spec) as folder:
            log.info("%s on %s: %s", spec.model.name, spec.config.dataset.name, folder)
            spec = with_arithmetic(spec, folder)
            model = stages.build(spec, split)
            if origin:
                log.info("begins with the weights of %s", origin.folder)
                model.initialise_from(checkpoints.weights(origin.weights))
            stages.keep_artefacts(model, folder)
            clock.lap("build")
            training = _fitted(spec, model, split, folder) if spec.model.trainable else None
            clock.lap("train")
            metrics = stages.measure(
                spec,
                split,
                model,
                where,
                clock,
                floors,
                experiment=spec.experiment,
                overrides=spec.overrides,
                training=training,
                init_from=marks.begun_with(origin.metrics) if origin else None,
            )
    return Outcome("done", where.folder), metrics


def _fitted(spec: RunSpec, model: Any, split: Split, folder: Path) -> dict[str, float]:
    """Fits the weights; returns how training went."""
    from llm4rec_cli.training.fit import fit

    n_trainable = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
    n_frozen = sum(weights.numel() for weights in model.parameters()) - n_trainable
    log.info("%s parameters are trained, %s are frozen", f"{n_trainable:,}", f"{n_frozen:,}")
    config, task = spec.config, tasks.module(spec.task)
    asked = task.examples(split, SplitName.valid, config, spec.cache)
    asked = tasks.subset(asked, config.trainer.valid_examples, config.dataset.seed, "valid_examples")
    rows = model.training_rows()
    fitted = fit(
        model,
        rows,
        lambda: task.validation_score(model, split, asked, config),
        config.trainer,
        folder / "checkpoints",
        folder / "train_log.jsonl",
        config.seed,
    )
    return {
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        f"valid_{config.task.selection}": direction(config.task.selection) * fitted.best_score,
        "rows": len(rows),
    }
