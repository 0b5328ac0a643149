"""Asks a trained run: one evaluation, or one of each task."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from llm4rec_cli import processes
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.runs import stages
from llm4rec_cli.runs.catalog import finished_metrics
from llm4rec_cli.runs.folder import Outcome, locked, recorded
from llm4rec_cli.runs.identity import address_of
from llm4rec_cli.runs.precision import resolve_precision
from llm4rec_cli.training import checkpoints, trained
from llm4rec_cli.training.run import run_floors

log = logging.getLogger(__name__)

ALL_TASKS = ("rating", "sequential", "direct", "explanation", "review_summary")  # what task=all is trained for


def evaluate_all_tasks(source: trained.TrainedRun) -> Iterator[tuple[Outcome, list[dict[str, Any]]]]:
    """One evaluation a task, as `evaluate_run` gives it, of all that the data have something to ask about.

    Raises:
        DataError: that is none.
    """
    n_asked = 0
    for task in ALL_TASKS:
        try:
            yield evaluate_run(trained.with_task(source, task))
            n_asked += 1
        except (DataError, UsageError) as error:  # nothing to ask about, or no prompt that asks it
            log.info("%s: not asked: %s", task, error.problem)
    if not n_asked:
        raise DataError(f"{source.spec.config.dataset.name} has nothing to ask about", "llm4rec list datasets")


def evaluate_run(source: trained.TrainedRun) -> tuple[Outcome, list[dict[str, Any]]]:
    """The run asked what its spec asks: the evaluation, and metrics.json of the floors and of itself."""
    spec = source.spec
    log.info("%s as trained in %s", spec.model.name, source.folder)
    clock = stages.Clock()
    dataset = stages.load(spec)
    source.check_data(dataset)
    split = stages.split_dataset(spec, dataset)
    clock.lap("prepare")
    weights = processes.from_first(lambda: checkpoints.selected(source.checkpoints))
    identity = f"{source.metrics['config_hash']} {weights.sha256}"
    where = address_of(spec, dataset, trained=(identity, source.metrics["variant"]))
    floors = run_floors(spec, split)
    clock.lap("floors")
    with locked(where.folder):
        metrics = processes.from_first(lambda: finished_metrics(where.folder))
        if metrics is not None and not spec.config.force:
            log.info("done before: %s", where.folder)
            return Outcome("skipped", where.folder), [*floors, metrics]
        with recorded(where, spec):
            spec = resolve_precision(spec, where.folder, source=source.folder)
            model = stages.build(spec, split)
            stages.check_artifacts(model, source.folder)
            checkpoints.load(model, weights)
            clock.lap("build")
            metrics = stages.evaluate(
                spec,
                split,
                model,
                where,
                clock,
                floors,
                experiment=source.status["choices"].get("experiment"),
                overrides=source.overrides,
                init_from=source.metrics["init_from"],
                trained_run=source.folder.relative_to(spec.outputs).as_posix(),
            )
    return Outcome("done", where.folder), [*floors, metrics]
