"""A trained run, found by what was typed: what `eval` and `recommend` ask.

The run is `run=PATH`, or the newest one that matches what was typed. Its stored overrides and the typed ones are
composed together; only what was typed has to match.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from llm4rec_cli.commands import experiment
from llm4rec_cli.errors import RunError, UsageError
from llm4rec_cli.models import base as models
from llm4rec_cli.runs.address import OUTSIDE
from llm4rec_cli.runs.folder import CONFIG, STATUS, finished, metrics_of
from llm4rec_cli.schema import Config, Question
from llm4rec_cli.training import checkpoints
from llm4rec_cli.training.checkpoints import Checkpoint

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset

# What may differ from the trained run: the question, not the weights.
ASKED = ("task", "split", "device", "force", "run", "paths", "hydra")
ASKED_OF_DATA = ("dataset.empty_history",)
OF_ANY_TASK = ("task.max_examples", "task.floors", "task.bootstrap", "task.mask_history")
# What takes something from the data on purpose, and what leaves it whole: only who asks for such a run gets one.
TAKEN = {
    "dataset.control": "none",
    "dataset.cold_items": 0.0,
    "dataset.train_users": 1.0,
    "dataset.split": "leave_one_out",
}

# What decides which interactions a training does not see.
HOLDS_OUT = (
    *("dataset.seed", "dataset.split", "dataset.cuts", "dataset.test_domain"),
    *("dataset.cold_items", "dataset.train_users"),
)


@dataclass(frozen=True)
class TrainedRun:
    """A finished training run.

    Attributes:
        folder: the run folder.
        status, metrics: its status.json and metrics.json.
        overrides: what it was trained with, and on top what was typed now.
        config: what these overrides compose, settled and checked.
    """

    folder: Path
    status: dict[str, Any]
    metrics: dict[str, Any]
    overrides: list[str]
    config: Config

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def check_data(self, dataset: RecDataset) -> None:
        """Refuses data that it was not trained on.

        Raises:
            RunError: the fingerprints differ, or the tokens of items.
        """
        if dataset.fingerprint != self.metrics["dataset_fingerprint"]:
            raise RunError(
                f"{self.folder} was trained on other data of the name {self.config.dataset.name}",
                "give the dataset.raw_dir and dataset.seed it was trained with, or train anew",
            )
        if dataset.manifest.get("tokens") != self.metrics.get("tokens"):
            raise RunError(
                f"{self.folder} was trained with other tokens of the items",
                "give the llm, enrichment and dataset.seed it was trained with, or train anew",
            )


def find(config: Config) -> TrainedRun:
    """The run that `config.run` names, or the newest that matches what was typed.

    Raises:
        RunError: there is none (the remedy is the command that makes one), or its settings have changed since.
        UsageError: what was typed does not fit it.
    """
    folder, status, metrics = _found(experiment.settled(config))
    return asked_of(folder, status, metrics, _overrides(status["overrides"]))


def at(folder: Path) -> TrainedRun:
    """The finished run in a folder, with what was typed now."""
    metrics, status = metrics_of(folder), json.loads((folder / STATUS).read_text())
    assert metrics is not None, folder
    return asked_of(folder, status, metrics, _overrides(status["overrides"]))


def for_task(source: TrainedRun, task: str) -> TrainedRun:
    """The same run, to be asked another task with its ordinary settings, and with what was typed for any task."""
    kept = [
        override
        for override in source.overrides
        if (key := override.partition("=")[0]).split(".")[0] != "task" or key in OF_ANY_TASK
    ]
    return asked_of(source.folder, source.status, source.metrics, [*kept, f"task={task}"])


def asked_of(folder: Path, status: dict[str, Any], metrics: dict[str, Any], overrides: list[str]) -> TrainedRun:
    """A run with the config that these overrides compose.

    Raises:
        RunError: its settings have changed since.
        UsageError: what was typed does not fit it.
    """
    composed = hydra.compose(config_name="config", overrides=[*HydraConfig.get().overrides.hydra, *overrides])
    settled = experiment.settled(cast(Config, composed))
    experiment.check(settled)
    stored: Any = OmegaConf.load(folder / CONFIG)
    if models.config_class(settled.model.name).task_bound and not _answers(stored, settled):
        raise UsageError(
            f"{folder} was trained for task '{stored.task.name}', and can be asked nothing else",
            f"train it for this: llm4rec train model={settled.model.name} task={settled.task.name}, or task=all",
        )
    _same_model(settled, folder)
    return TrainedRun(folder, status, metrics, overrides, settled)


def _found(config: Config) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    outputs = Path(config.paths.outputs)
    runs = [(f, s, m) for f, s, m in finished(outputs) if s["command"] == "train"]
    if config.run is not None:
        wanted = Path(config.run).resolve()
        runs = [(f, s, m) for f, s, m in runs if f.resolve() == wanted]
        if not runs:
            raise RunError(f"{config.run} is no finished training run", "llm4rec list runs")
        return runs[0]
    keys = dict.fromkeys([*_typed(), *TAKEN])
    task_typed = {"task", "experiment"} & {o.partition("=")[0].lstrip("+") for o in HydraConfig.get().overrides.task}
    choices = HydraConfig.get().runtime.choices
    for folder, status, metrics in runs:
        if not models.config_class(metrics["model"]).trainable:
            continue
        stored = OmegaConf.load(folder / CONFIG)
        named = config.task.question == Question.pretrain or {"dataset", "experiment"} & keys.keys()
        if stored.task.question == "pretrain" and not named:
            continue  # its data are not what anybody asks about without naming them
        if task_typed and models.config_class(metrics["model"]).task_bound and not _answers(stored, config):
            continue
        if all(_matches(key, config, choices, stored, status["choices"]) for key in keys):
            return folder, status, metrics
    command = " ".join(["llm4rec train", *HydraConfig.get().overrides.task])
    raise RunError(f"no finished training run under {outputs} matches what was typed", command)


def _answers(stored: Any, config: Config) -> bool:
    """Whether a run that can be asked what it was trained for alone, was trained for this task, or for all."""
    return stored.task.question == Question.all.name or stored.task.name == config.task.name


def _typed() -> list[str]:
    """The keys that were typed, other than those that only ask or move no number."""
    keys = [override.partition("=")[0].lstrip("+") for override in HydraConfig.get().overrides.task]
    asked = {f"model.{key}" for name in models.names() for key in models.config_class(name).asked}
    return [
        key
        for key in keys
        if key.split(".")[0] not in ASKED
        and ".".join(key.split(".")[:2]) not in asked
        and key not in (*ASKED_OF_DATA, *OUTSIDE)
    ]


def _matches(key: str, config: Config, choices: Any, stored: Any, stored_choices: dict[str, str]) -> bool:
    if key in ("model", "dataset", "trainer", "experiment"):
        return str(choices.get(key)) == str(stored_choices.get(key))
    key = key.partition("@")[2] or key  # prompt/p5@model.prompts
    value = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    return bool(OmegaConf.select(OmegaConf.create(value), key) == _stored(stored, key))


def _stored(config: Any, key: str) -> Any:
    """A setting of a stored config; earlier runs do not say that they held nothing out."""
    return OmegaConf.select(config, key, default=TAKEN.get(key))


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


def _same_model(config: Config, folder: Path) -> None:
    """Refuses weights whose settings have changed in the YAML since they were trained.

    Raises:
        RunError: the model, the text or what is taken from the data is not what the run was trained with.
    """
    stored = OmegaConf.load(folder / CONFIG)
    now = OmegaConf.create(OmegaConf.to_container(config, resolve=True, enum_to_str=True))
    for node in (stored.model, now.model):
        # How the weights came about, or how they are asked; not what they are.
        for key in ("init_from", "freeze", "pretraining", *models.config_class(now.model.name).asked):
            node.pop(key, None)
        for key, value in models.config_class(now.model.name).later.items():
            if node.get(key) == value:
                node.pop(key)
    for key in ("model", "dataset.text", *TAKEN):
        if _stored(stored, key) != OmegaConf.select(now, key):
            raise RunError(
                f"{key} is not what {folder} was trained with: {_stored(stored, key)}",
                "give the settings it was trained with, or train anew",
            )


@dataclass(frozen=True)
class Origin:
    """The run whose weights a training begins with.

    Attributes:
        folder: its run folder.
        metrics: its metrics.json.
        weights: the checkpoint that it chose.
    """

    folder: Path
    metrics: dict[str, Any]
    weights: Checkpoint

    def variant_for(self, seed: int) -> str:
        """What runs share that began each with its own seed's pre-training, or all with that of one seed."""
        own = self.metrics["seed"] == seed
        return f"{self.metrics['variant']} of {'the own seed' if own else self.metrics['seed']}"


def origin(config: Config) -> Origin | None:
    """The finished run that `model.init_from` names; None where it names none, or the model knows no such setting.

    A folder of runs stands for the one there that has this config's seed: a sweep over seeds names them all. Whether it
    knows what is held out now is told by the dataset's name: the same files under another name are not seen through.

    Raises:
        UsageError: there is no such run or several, it knows what is held out now, or its weights would not fit.
    """
    path = getattr(config.model, "init_from", None)
    if path is None:
        return None
    folders = [Path(path)] if (Path(path) / STATUS).exists() else sorted(Path(path).glob(f"seed{config.seed}-*"))
    found = [
        (folder, metrics)
        for folder in folders
        if (metrics := metrics_of(folder)) is not None and metrics["trained_run"] is None  # no evaluation of another
    ]
    if len(found) != 1:
        told = ", ".join(folder.name for folder, _ in found) or "none"
        raise UsageError(
            f"model.init_from={path} is no finished run, nor a folder with one of seed {config.seed} ({told})",
            "name a run folder: llm4rec list runs task=pretrain",
        )
    ((folder, metrics),) = found
    stored: Any = OmegaConf.load(folder / CONFIG)
    now: Any = OmegaConf.create(OmegaConf.to_container(cast(Any, config), resolve=True, enum_to_str=True))
    for key in HOLDS_OUT if stored.dataset.name == now.dataset.name else ():
        if (theirs := _stored(stored, key)) != OmegaConf.select(now, key):
            raise UsageError(
                f"{folder} was trained on these data with {key}={theirs}: it may know what this run holds out",
                f"{key}={theirs}, or begin with a run on other data",
            )
    for key in ("name", *models.config_class(config.model.name).inherited):
        if (theirs := OmegaConf.select(stored.model, key)) != (ours := OmegaConf.select(now.model, key)):
            raise UsageError(
                f"the weights of {folder} do not fit: they are of model.{key}={theirs}, not {ours}",
                "give the settings that it was trained with, or train it anew with these",
            )
    if metrics.get("text_encoder") != experiment.encoder_weights(config):
        # Or of a run that does not say: those before this setting did not.
        raise UsageError(
            f"the weights of {folder} do not fit: they are of another text encoder than {now.model.encoder.name}",
            "give the encoder that it was trained with, or train it anew with this one",
        )
    return Origin(folder, metrics, checkpoints.chosen(folder / "checkpoints"))
