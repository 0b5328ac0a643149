"""A trained run, found by what was typed: what `eval` and `recommend` ask.

The run is `run=PATH`, or the newest one that matches what was typed. Its stored overrides and the typed ones are
composed together; only what was typed has to match.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from llm4rec_cli.config import walk
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.keys import all_declarations, keys_with_role
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.roles import NOT_HASHED, Role
from llm4rec_cli.config.schema import Config, Question, Weights
from llm4rec_cli.errors import RunError, UsageError
from llm4rec_cli.runs import rules
from llm4rec_cli.runs.catalog import CONFIG, STATUS, finished, metrics_of
from llm4rec_cli.runs.identity import plain, text_encoder, weights
from llm4rec_cli.runs.spec import RunSpec, resolved_config
from llm4rec_cli.training import checkpoints
from llm4rec_cli.training.checkpoints import Checkpoint

if TYPE_CHECKING:
    from llm4rec_cli.data.recdataset import RecDataset

ASKING = (Role.question, Role.extent, *NOT_HASHED)  # may differ from the trained run


@dataclass(frozen=True)
class TrainedRun:
    """A finished training run.

    Attributes:
        folder: the run folder.
        status, metrics: its status.json and metrics.json.
        overrides: what it was trained with, and on top what was typed now.
        spec: what it is to be asked: the config that these overrides compose, checked.
    """

    folder: Path
    status: dict[str, Any]
    metrics: dict[str, Any]
    overrides: list[str]
    spec: RunSpec

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
                f"{self.folder} was trained on other data of the name {self.spec.config.dataset.name}",
                "give the dataset.raw_dir and dataset.seed it was trained with, or train anew",
            )
        if dataset.manifest.get("tokens") != self.metrics["tokens"]:
            raise RunError(
                f"{self.folder} was trained with other tokens of the items",
                "give the llm, enrichment and dataset.seed it was trained with, or train anew",
            )


def find(asked: RunSpec) -> TrainedRun:
    """The run that `run` names, or the newest that matches what was typed.

    Args:
        asked: as typed, unchecked.

    Raises:
        RunError: there is none (the remedy is the command that makes one), or its settings have changed since.
        UsageError: what was typed does not fit it.
    """
    folder, status, metrics = _found(asked)
    return _to_be_asked(folder, status, metrics, _overrides(status["overrides"], asked.typed), asked)


def at(folder: Path, asked: RunSpec) -> TrainedRun:
    """The finished run in a folder, with what was typed now."""
    metrics, status = metrics_of(folder), json.loads((folder / STATUS).read_text())
    assert metrics is not None, folder
    return _to_be_asked(folder, status, metrics, _overrides(status["overrides"], asked.typed), asked)


def for_task(source: TrainedRun, task: str) -> TrainedRun:
    """The same run, to be asked another task with its ordinary settings, and with what was typed for any task."""
    of_any_task = keys_with_role(Role.extent, Role.citation)
    kept = [
        override
        for override in source.overrides
        if (key := key_typed(override)).split(".")[0] != "task" or key in of_any_task
    ]
    return _to_be_asked(source.folder, source.status, source.metrics, [*kept, f"task={task}"], source.spec)


def _to_be_asked(
    folder: Path, status: dict[str, Any], metrics: dict[str, Any], overrides: list[str], asked: RunSpec
) -> TrainedRun:
    """A run with the config that these overrides compose.

    Raises:
        RunError: its settings have changed since.
        UsageError: what was typed does not fit it.
    """
    spec = RunSpec(resolved_config(compose(overrides)), "eval", asked.typed, asked.choices)
    rules.check(spec)
    stored: Any = OmegaConf.load(folder / CONFIG)
    if spec.model.task_bound and not _answers(stored, spec.config):
        raise UsageError(
            f"{folder} was trained for task '{stored.task.name}', and can be asked nothing else",
            f"train it for this: llm4rec train model={spec.model.name} task={spec.task.name}, or task=all",
        )
    _same_model(spec.config, stored, folder)
    return TrainedRun(folder, status, metrics, overrides, spec)


def _found(asked: RunSpec) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    runs = [(f, s, m) for f, s, m in finished(asked.outputs) if s["command"] == "train"]
    if asked.config.run is not None:
        wanted = Path(asked.config.run).resolve()
        runs = [(f, s, m) for f, s, m in runs if f.resolve() == wanted]
        if not runs:
            raise RunError(f"{asked.config.run} is no finished training run", "llm4rec list runs")
        return runs[0]
    keys = dict.fromkeys([*_of_weights(asked.typed), *_untouched()])
    wanted_config = OmegaConf.create(plain(asked.config))
    task_typed = {"task", "experiment"} & asked.typed_keys
    for folder, status, metrics in runs:
        if not config_class(metrics["model"]).trainable:
            continue
        stored: Any = OmegaConf.load(folder / CONFIG)
        named = asked.task.question is Question.pretrain or {"dataset", "experiment"} & keys.keys()
        if stored.task.question == Question.pretrain.name and not named:
            continue  # its data are not what anybody asks about without naming them
        if task_typed and config_class(metrics["model"]).task_bound and not _answers(stored, asked.config):
            continue
        if all(_matches(key, wanted_config, asked.choices, stored, status["choices"]) for key in keys):
            return folder, status, metrics
    command = " ".join(["llm4rec train", *asked.typed])
    raise RunError(f"no finished training run under {asked.outputs} matches what was typed", command)


def _answers(stored: Any, config: Config) -> bool:
    """Whether a run that can be asked what it was trained for alone, was trained for this task, or for all."""
    return stored.task.question == Question.all.name or stored.task.name == config.task.name


def _of_weights(typed: Sequence[str]) -> list[str]:
    """The keys that were typed, other than those that only ask or move no number."""
    asking = {one.key for one in all_declarations() if one.role in ASKING}  # whole nodes, too
    return [key for key in map(key_typed, typed) if key != "task" and key not in asking]


@cache
def _untouched() -> dict[str, Any]:
    """The settings that take something from the data on purpose, as they leave it whole: only who asks for such a run
    gets one."""
    found = {one.key: one.field.default for one in all_declarations() if one.role is Role.intervention}
    return {key: default.name if isinstance(default, Enum) else default for key, default in found.items()}


def _matches(key: str, config: Any, choices: Mapping[str, str], stored: Any, stored_choices: dict[str, str]) -> bool:
    if key in ("model", "dataset", "trainer", "experiment"):
        return str(choices.get(key)) == str(stored_choices.get(key))
    key = key.partition("@")[2] or key  # prompt/p5@model.prompts
    return bool(OmegaConf.select(config, key) == OmegaConf.select(stored, key))


def _overrides(stored: Sequence[str], typed: Sequence[str]) -> list[str]:
    """The trained run's overrides with the typed ones on top."""
    keys = set(map(key_typed, typed))
    kept = [
        override
        for override in stored
        if (key := key_typed(override)) not in keys
        and key.split(".")[0] not in ("split", "device", "force", "run", "paths", "hydra")
        and not ("task" in keys and key.split(".")[0] == "task")
    ]
    return [*kept, *typed]


def _same_model(config: Config, stored: Any, folder: Path) -> None:
    """Refuses weights whose settings have changed in the YAML since they were trained.

    Args:
        stored: the config that they were trained with.

    Raises:
        RunError: the model, the text or what is taken from the data is not what the run was trained with.
    """
    now: Any = OmegaConf.create(plain(config))
    own = walk.declarations(type(config.model))
    asking = [setting.field.name for setting in own if setting.role in ASKING and "." not in setting.key]
    for node in (stored.model, now.model):
        for key in (*config.model.provenance_settings, *asking):
            node.pop(key, None)
    for key in ("model", "dataset.text", *_untouched()):
        if OmegaConf.select(stored, key) != OmegaConf.select(now, key):
            raise RunError(
                f"{key} is not what {folder} was trained with: {OmegaConf.select(stored, key)}",
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


def origin(spec: RunSpec) -> Origin | None:
    """The finished run whose weights training begins with, as the model's config names it; None where it names none.

    A folder of runs stands for the one there that has this config's seed: a sweep over seeds names them all. Whether it
    knows what is held out now is told by the dataset's name: the same files under another name are not seen through.

    Raises:
        UsageError: there is no such run or several, it knows what is held out now, or its weights would not fit.
    """
    setting = spec.model.init_setting
    path = getattr(spec.model, setting) if setting else None
    if path is None:
        return None
    folders = [Path(path)] if (Path(path) / STATUS).exists() else sorted(Path(path).glob(f"seed{spec.config.seed}-*"))
    found = [
        (folder, metrics)
        for folder in folders
        if (metrics := metrics_of(folder)) is not None and metrics["trained_run"] is None  # no evaluation of another
    ]
    if len(found) != 1:
        told = ", ".join(folder.name for folder, _ in found) or "none"
        raise UsageError(
            f"model.{setting}={path} is no finished run, nor a folder with one of seed {spec.config.seed} ({told})",
            "name a run folder: llm4rec list runs task=pretrain",
        )
    ((folder, metrics),) = found
    stored: Any = OmegaConf.load(folder / CONFIG)
    now: Any = OmegaConf.create(plain(spec.config))
    # What decides which interactions a training does not see; a control destroys, and hides nothing.
    hides = sorted(keys_with_role(Role.division, Role.intervention) - {"dataset.control"})
    for key in hides if stored.dataset.name == now.dataset.name else ():
        if (theirs := OmegaConf.select(stored, key)) != OmegaConf.select(now, key):
            raise UsageError(
                f"{folder} was trained on these data with {key}={theirs}: it may know what this run holds out",
                f"{key}={theirs}, or begin with a run on other data",
            )
    for key in ("name", *spec.model.init_shared_settings):
        if (theirs := OmegaConf.select(stored.model, key)) != (ours := OmegaConf.select(now.model, key)):
            raise UsageError(
                f"the weights of {folder} do not fit: they are of model.{key}={theirs}, not {ours}",
                "give the settings that it was trained with, or train it anew with these",
            )
    if metrics["text_encoder"] != text_encoder(spec.model):
        (named,) = (key for key, (kind, _) in weights(spec.model).items() if kind is Weights.encoder)
        raise UsageError(
            f"the weights of {folder} do not fit: they are of another text encoder than "
            f"{OmegaConf.select(now.model, named)}",
            "give the encoder that it was trained with, or train it anew with this one",
        )
    return Origin(folder, metrics, checkpoints.chosen(folder / "checkpoints"))
