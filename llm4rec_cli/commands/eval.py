"""`llm4rec eval`: ask a trained model another question — another task, split or protocol — without training anew.

The run is `run=PATH`, or the newest one that matches what was typed.
"""

from __future__ import annotations

import logging
from pathlib import Path

from llm4rec_cli import processes
from llm4rec_cli.commands import experiment, train, trained
from llm4rec_cli.models import base as models
from llm4rec_cli.runs.address import address
from llm4rec_cli.runs.folder import Outcome, locked, metrics_of, recorded
from llm4rec_cli.schema import Config
from llm4rec_cli.training import checkpoints

log = logging.getLogger(__name__)


def run(config: Config) -> Outcome:
    """One evaluation, in a folder of its own that names the trained run."""
    if not models.config_class(config.model.name).trainable:
        return train.run(config)  # there is nothing to train, so nothing to find
    source = processes.from_first(lambda: trained.find(config))
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
                model = experiment.build(config, split, cache)
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
    train.show([*beside, metrics], outcome)
    return outcome
