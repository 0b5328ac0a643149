"""`llm4rec eval`: ask a trained model another question — another task, split or protocol — without training anew.

The run is `run=PATH`, or the newest one that matches what was typed.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from llm4rec_cli import processes
from llm4rec_cli.commands import experiment, train, trained
from llm4rec_cli.errors import DataError, UsageError
from llm4rec_cli.models import base as models
from llm4rec_cli.runs.address import address
from llm4rec_cli.runs.folder import Outcome, locked, metrics_of, recorded
from llm4rec_cli.schema import Config, Question
from llm4rec_cli.training import checkpoints

log = logging.getLogger(__name__)

EVERY = ("rating", "sequential", "direct", "explanation", "review_summary")  # what task=all is trained for


def run(config: Config) -> Outcome:
    """One evaluation, in a folder of its own that names the trained run."""
    if not models.config_class(config.model.name).trainable:
        return train.run(config)  # there is nothing to train, so nothing to find
    source = processes.from_first(lambda: trained.find(config))
    if source.config.task.question == Question.all:
        return each_task(source)
    outcome, runs = evaluated(source)
    train.show(runs, outcome)
    return outcome


def each_task(source: trained.TrainedRun) -> Outcome:
    """One evaluation a task, of all that the data have something to ask about; a table each."""
    outcomes = []
    for task in EVERY:
        try:
            outcome, runs = evaluated(trained.for_task(source, task))
        except (DataError, UsageError) as error:  # nothing to ask about, or no prompt that asks it
            log.info("%s: not asked: %s", task, error.problem)
            continue
        train.show(runs, outcome)
        outcomes.append(outcome)
    if not outcomes:
        raise DataError(f"{source.config.dataset.name} has nothing to ask about", "llm4rec list datasets")
    return Outcome("done" if any(o.status == "done" for o in outcomes) else "skipped", source.folder)


def evaluated(source: trained.TrainedRun) -> tuple[Outcome, list[dict[str, Any]]]:
    """The run asked what its config asks: the evaluation, and metrics.json of the floors and of itself."""
    config = source.config
    log.info("%s as trained in %s", config.model.name, source.folder)
    clock = experiment.Clock()
    cache = experiment.cache_dir(config)
    dataset = experiment.load(config, cache)
    source.check_data(dataset)

    split = experiment.split(config, dataset)
    clock.lap("prepare")
    weights = processes.from_first(lambda: checkpoints.chosen(source.checkpoints))
    where = address(
        config,
        dataset.fingerprint,
        trainable=True,
        encoder=experiment.encoder_weights(config),
        backbone=experiment.backbone_weights(config),
        trained=(f"{source.metrics['config_hash']} {weights.sha256}", source.metrics["variant"]),
    )
    beside = train.floors_beside(config, split)
    clock.lap("floors")
    with locked(where.folder):
        metrics = processes.from_first(lambda: metrics_of(where.folder))
        if metrics is not None and not config.force:
            log.info("done before: %s", where.folder)
            outcome = Outcome("skipped", where.folder)
        else:
            with recorded(where, config, experiment.facts("eval", config), fresh=config.force):
                config = experiment.with_arithmetic(config, where.folder, began=source.folder)
                model = experiment.build(config, split, cache)
                experiment.check_artefacts(model, source.folder)
                checkpoints.load(model, weights)
                clock.lap("build")
                metrics = experiment.measure(
                    config,
                    split,
                    model,
                    where,
                    clock,
                    beside,
                    experiment=source.status["choices"].get("experiment"),
                    overrides=source.overrides,
                    init_from=source.metrics.get("init_from"),
                    trained_run=source.folder.relative_to(Path(config.paths.outputs)).as_posix(),
                )
            outcome = Outcome("done", where.folder)
    return outcome, [*beside, metrics]
