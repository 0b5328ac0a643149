"""`llm4rec train`: train a model, evaluate it beside the floors of its task, write and print the metrics."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llm4rec_cli import processes
from llm4rec_cli.commands import experiment, trained
from llm4rec_cli.evaluation.rating import direction
from llm4rec_cli.models import base as models
from llm4rec_cli.runs.address import address
from llm4rec_cli.runs.folder import Facts, Outcome, locked, metrics_of, recorded
from llm4rec_cli.schema import Config, Part, Question
from llm4rec_cli.tasks import base as tasks
from llm4rec_cli.training import checkpoints

if TYPE_CHECKING:
    from llm4rec_cli.data.split import Split

log = logging.getLogger(__name__)


def run(config: Config) -> Outcome:
    """One composed config, from raw files to a printed table. A finished run is shown again, not repeated."""
    config = experiment.settled(config)
    experiment.check(config)
    if defaults := experiment.defaults_in_words(config):
        log.info(defaults)
    origin = processes.from_first(lambda: trained.origin(config))  # refused before anything is computed
    clock = experiment.Clock()
    cache = experiment.cache_dir(config)
    dataset = experiment.load(config, cache)

    split = experiment.split(config, dataset)
    clock.lap("prepare")

    beside = floors_beside(config, split)
    clock.lap("floors")
    outcome, metrics = _evaluated(config, split, clock, experiment.facts("train", config), beside, origin)
    show([*beside, metrics], outcome)
    if config.task.question == Question.all:
        ask_each(outcome)
    return outcome


def ask_each(outcome: Outcome) -> None:
    """Asks what was trained for all tasks each of them."""
    from llm4rec_cli.commands import eval as evaluation

    evaluation.each_task(processes.from_first(lambda: trained.at(outcome.folder)))


def floors_beside(config: Config, split: Split) -> list[dict[str, Any]]:
    """metrics.json of each of the task's floors under the same protocol: evaluated now, or found."""
    floors = [name for name in config.task.floors if name != config.model.name]
    asked = experiment.facts("train", config)
    return [
        _evaluated(experiment.with_model(config, name), split, experiment.Clock(), asked.of_floor(name))[1]
        for name in floors
    ]


def _evaluated(
    config: Config,
    split: Split,
    clock: experiment.Clock,
    facts: Facts,
    beside: Sequence[dict[str, Any]] = (),
    origin: trained.Origin | None = None,
) -> tuple[Outcome, dict[str, Any]]:
    """The run at this config's address: found there if it is finished, otherwise trained, evaluated and written."""
    trainable = models.config_class(config.model.name).trainable
    where = address(
        config,
        split.dataset.fingerprint,
        trainable,
        experiment.encoder_weights(config),
        file=experiment.file_content(config),
        backbone=experiment.backbone_weights(config),
        llm=experiment.chat_model(config, split.dataset),
        initial=(origin.weights.sha256, origin.variant_for(config.seed)) if origin else None,
    )
    if config.llm.dry_run and models.config_class(config.model.name).uses_llm:
        experiment.rehearse(config, split)
    with locked(where.folder):
        found = processes.from_first(lambda: metrics_of(where.folder))
        if found is not None and not config.force:
            log.info("%s is done: %s", config.model.name, where.folder)
            return Outcome("skipped", where.folder), experiment.relabelled(found, where, config, beside)

        with recorded(where, config, facts, fresh=config.force) as folder:
            log.info("%s on %s: %s", config.model.name, config.dataset.name, folder)
            config = experiment.with_arithmetic(config, folder)
            model = experiment.build(config, split, experiment.cache_dir(config))
            if origin:
                log.info("begins with the weights of %s", origin.folder)
                model.begin_with(checkpoints.weights(origin.weights))
            experiment.keep_artefacts(model, folder)
            clock.lap("build")
            training = _train(model, split, config, folder) if trainable else None
            clock.lap("train")
            metrics = experiment.measure(
                config,
                split,
                model,
                where,
                clock,
                beside,
                experiment=facts.choices.get("experiment"),
                overrides=facts.overrides,
                training=training,
                init_from=experiment.begun_with(origin.metrics) if origin else None,
            )
    return Outcome("done", where.folder), metrics


def _train(model: Any, split: Split, config: Config, folder: Any) -> dict[str, float]:
    """Fits the weights; returns how training went."""
    from llm4rec_cli.training.fit import fit

    n_trainable = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
    n_frozen = sum(weights.numel() for weights in model.parameters()) - n_trainable
    log.info("%s parameters are trained, %s are frozen", f"{n_trainable:,}", f"{n_frozen:,}")
    task = tasks.module(config.task)
    asked = task.examples(split, Part.valid, config, experiment.cache_dir(config))
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


def show(runs: list[dict[str, Any]], outcome: Outcome) -> None:
    """The table of these runs, the last the one that was asked for, on stdout."""
    if not processes.is_first():
        return
    from llm4rec_cli.reporting.runs import cold_table, results_table
    from llm4rec_cli.reporting.tables import console

    out = console()
    out.print(results_table(runs))
    if "target_is_cold" in runs[-1]["breakdown"]:
        out.print(cold_table(runs))
    out.print(f"run folder: {outcome.folder}", soft_wrap=True)
