"""`llm4rec eval`: ask a trained model another question — another task, split or protocol — without training anew.

The run is `run=PATH`, or the newest one that matches what was typed. Its stored overrides and the typed ones are
composed together; only what was typed has to match.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from llm4rec_cli.commands import experiment, train
from llm4rec_cli.errors import RunError
from llm4rec_cli.models import base as models
from llm4rec_cli.runs.address import OUTSIDE, address
from llm4rec_cli.runs.folder import CONFIG, Outcome, finished, locked, metrics_of, recorded
from llm4rec_cli.schema import Config
from llm4rec_cli.training import checkpoints

log = logging.getLogger(__name__)

# What may differ from the trained run: the question, not the weights.
ASKED = ("task", "split", "device", "force", "run", "paths", "hydra")


def run(config: Config) -> Outcome:
    """One evaluation, in a folder of its own that names the trained run."""
    if not models.config_class(config.model.name).trainable:
        return train.run(config)  # there is nothing to train, so nothing to find
    folder, status, trained = _trained(experiment.settled(config))
    overrides = _overrides(status["overrides"])
    config = experiment.settled(_composed(overrides))
    experiment.check(config)
    _same_model(config, folder)
    clock = experiment.Clock()
    cache = experiment.cache_dir(config)
    dataset = experiment.load(config, cache)
    if dataset.fingerprint != trained["dataset_fingerprint"]:
        raise RunError(
            f"{folder} was trained on other data of the name {config.dataset.name}",
            "give the dataset.raw_dir and dataset.seed it was trained with, or train anew",
        )

    from llm4rec_cli.data.split import leave_one_out

    split = leave_one_out(dataset)
    clock.lap("prepare")
    weights = checkpoints.best(checkpoints.whole(folder / "checkpoints", remove=False))
    where = address(
        config,
        dataset.fingerprint,
        trainable=True,
        encoder=experiment.encoder_weights(config),
        trained=(f"{trained['config_hash']} {weights.sha256}", trained["variant"]),
    )
    beside = train.floors_beside(config, split)
    clock.lap("floors")
    with locked(where.folder):
        metrics = metrics_of(where.folder)
        if metrics is not None and not config.force:
            log.info("done before: %s", where.folder)
            outcome = Outcome("skipped", where.folder)
        else:
            from llm4rec_cli.training.fit import load_best

            with recorded(where, config, experiment.facts("eval", config), fresh=config.force):
                model = experiment.build(config, split, cache)
                load_best(model, folder / "checkpoints")
                clock.lap("build")
                metrics = experiment.measure(
                    config,
                    split,
                    model,
                    where,
                    clock,
                    beside,
                    experiment=status["choices"].get("experiment"),
                    overrides=overrides,
                    trained_run=folder.relative_to(Path(config.paths.outputs)).as_posix(),
                )
            outcome = Outcome("done", where.folder)
    train.show([*beside, metrics], outcome)
    return outcome


def _trained(config: Config) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The run to evaluate: its folder, status.json and metrics.json.

    Raises:
        RunError: there is none; the remedy is the command that makes one.
    """
    outputs = Path(config.paths.outputs)
    runs = [(f, s, m) for f, s, m in finished(outputs) if s["command"] == "train"]
    if config.run is not None:
        wanted = Path(config.run).resolve()
        runs = [(f, s, m) for f, s, m in runs if f.resolve() == wanted]
        if not runs:
            raise RunError(f"{config.run} is no finished training run", "llm4rec list runs")
        return runs[0]
    typed = _typed()
    choices = HydraConfig.get().runtime.choices
    for folder, status, metrics in runs:
        if not models.config_class(metrics["model"]).trainable:
            continue
        stored = OmegaConf.load(folder / CONFIG)
        if all(_matches(key, config, choices, stored, status["choices"]) for key in typed):
            return folder, status, metrics
    command = " ".join(["llm4rec train", *HydraConfig.get().overrides.task])
    raise RunError(f"no finished training run under {outputs} matches what was typed", command)


def _typed() -> list[str]:
    """The keys that were typed, other than those that only ask or move no number."""
    keys = [override.partition("=")[0].lstrip("+") for override in HydraConfig.get().overrides.task]
    return [key for key in keys if key.split(".")[0] not in ASKED and key not in OUTSIDE]


def _matches(key: str, config: Config, choices: Any, stored: Any, stored_choices: dict[str, str]) -> bool:
    if key in ("model", "dataset", "trainer", "experiment"):
        return str(choices.get(key)) == str(stored_choices.get(key))
    value = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    return bool(OmegaConf.select(OmegaConf.create(value), key) == OmegaConf.select(stored, key))


def _overrides(stored: list[str]) -> list[str]:
    """The trained run's overrides with the typed ones on top."""
    typed = list(HydraConfig.get().overrides.task)
    keys = {override.partition("=")[0].lstrip("+") for override in typed}
    kept = [
        override
        for override in stored
        if (key := override.partition("=")[0].lstrip("+")) not in keys
        and key.split(".")[0] not in ("split", "device", "force", "run", "paths", "hydra")
        and not ("task" in keys and key.split(".")[0] == "task")
    ]
    return [*kept, *typed]


def _composed(overrides: list[str]) -> Config:
    composed = hydra.compose(config_name="config", overrides=[*HydraConfig.get().overrides.hydra, *overrides])
    return cast(Config, composed)


def _same_model(config: Config, folder: Path) -> None:
    """Refuses weights whose settings have changed in the YAML since they were trained.

    Raises:
        RunError: the model, the text or the control is not what the run was trained with.
    """
    stored = OmegaConf.load(folder / CONFIG)
    now = OmegaConf.create(OmegaConf.to_container(config, resolve=True, enum_to_str=True))
    for key in ("model", "dataset.text", "dataset.control"):
        if OmegaConf.select(stored, key) != OmegaConf.select(now, key):
            raise RunError(
                f"{key} is not what {folder} was trained with: {OmegaConf.select(stored, key)}",
                "give the settings it was trained with, or train anew",
            )
