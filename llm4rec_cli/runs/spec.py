"""One run as it will be done: its config checked and resolved, once, before any data are read."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from llm4rec_cli.config import ranges, walk
from llm4rec_cli.config.compose import Composed, compose, options
from llm4rec_cli.config.overrides import key_typed, quoted
from llm4rec_cli.config.schema import Candidates, Config, Keep, LLMConfig, ModelConfig, Question, TaskConfig
from llm4rec_cli.errors import UsageError
from llm4rec_cli.runs.catalog import cache_folder

DEFAULTS = ("dataset", "task", "trainer")  # groups that a model has defaults of its own for


@dataclass(frozen=True)
class RunSpec:
    """What one command is to do. Nothing changes it: what differs is another spec.

    Attributes:
        config: typed; its paths are absolute, and settings without effect hold a neutral value.
        command: `train`, `eval`, …
        typed: the overrides that were typed.
        choices: the option chosen of each config group.
    """

    config: Config
    command: str
    typed: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def resolve(cls, composed: Composed, command: str) -> RunSpec:
        """The spec of a composed config.

        Raises:
            UsageError: a value is out of its range, read from the environment, or the first of `rules.problems`.
        """
        from llm4rec_cli.runs import rules

        spec = cls.unchecked(composed, command)
        rules.check(spec)
        return spec

    @classmethod
    def unchecked(cls, composed: Composed, command: str) -> RunSpec:
        """The same without the rules: of what only says which run is meant, or asks no model."""
        return cls(resolved_config(composed), command, composed.typed, composed.choices)

    @property
    def model(self) -> ModelConfig:
        return self.config.model

    @property
    def task(self) -> TaskConfig:
        return self.config.task

    @property
    def llm(self) -> LLMConfig:
        return self.config.llm

    @property
    def outputs(self) -> Path:
        return Path(self.config.paths.outputs)

    @property
    def cache(self) -> Path:
        return cache_folder(self.config.paths.cache)

    @cached_property
    def device(self) -> str:
        """`device`, with `auto` resolved; asks torch."""
        return device_of(self.config.device)

    @property
    def typed_keys(self) -> set[str]:
        return {key_typed(override) for override in self.typed}

    @property
    def overrides(self) -> list[str]:
        """What was typed, as it means the same elsewhere: a relative raw_dir would be another folder there."""
        typed = [override for override in self.typed if not override.startswith("dataset.raw_dir=")]
        raw_dir = self.config.dataset.raw_dir
        return typed if raw_dir is None else [*typed, f"dataset.raw_dir={quoted(raw_dir)}"]

    @property
    def experiment(self) -> str | None:
        """The experiment that was chosen, if one was."""
        return self.choices.get("experiment")

    def with_config(self, **nodes: Any) -> RunSpec:
        """The same with other values: `with_config(task={"split": …}, seed=1)`; a dictionary changes settings of a
        node."""
        changed = {
            name: replace(getattr(self.config, name), **value) if isinstance(value, dict) else value
            for name, value in nodes.items()
        }
        return replace(self, config=replace(self.config, **changed))

    def of_floor(self, name: str) -> RunSpec:
        """The same experiment with a floor at its default settings, and with what it takes over from the model.

        What was typed of the model, its trainer and its experiment is none of the floor's.
        """
        node = compose([f"model={name}"]).config
        for part in ("dataset", "task", "trainer", "seed"):  # a floor's setting may be one of these
            node[part] = getattr(self.config, part)
        floor = cast(ModelConfig, OmegaConf.to_object(node.model))
        config = replace(self.config, model=replace(floor, **floor.copied_settings(self.model)), deviations=[])
        kept = [o for o in self.overrides if not o.lstrip("+").startswith(("model", "trainer", "experiment"))]
        shared = {group: option for group, option in self.choices.items() if group in ("dataset", "task")}
        choices = shared | {"model": name}
        return replace(self, config=config, command="train", typed=(*kept, f"model={name}"), choices=choices)

    def defaults_in_words(self) -> str:
        """`prompt4nr: dataset=demo_news task=impressions, its defaults`: the choices that the command line left to the
        model; empty where it names all or an experiment."""
        left = [f"{group}={self.choices[group]}" for group in DEFAULTS if group not in self.typed_keys]
        if "experiment" in self.typed_keys or not left:
            return ""
        if self.task.max_examples is not None and "task.max_examples" not in self.typed_keys:
            left.append(f"task.max_examples={self.task.max_examples}")
        home = self.choices.get("home@_global_")
        if home in options("home"):
            left.append(f"conf/home/{home}.yaml")
        return f"{self.model.name}: {' '.join(left)}, its defaults"


def device_of(stated: str) -> str:
    """A device as a config states it, with `auto` resolved.

    Raises:
        UsageError: this machine has no such.
    """
    if stated == "cpu":
        return "cpu"
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    found = accelerator.type if accelerator else "cpu"
    if stated not in ("auto", found):
        raise UsageError(f"torch finds no {stated} on this machine", f"device={found}; llm4rec doctor says more")
    return found


def resolved_config(composed: Composed) -> Config:
    """The composed config, typed: paths are absolute, and what has no effect holds a neutral value, so that it makes
    no other address.

    Raises:
        UsageError: a value is out of its range, or read from the environment: it might be a secret, and config.yaml
            would hold it.
    """
    if "${oc.env" in str(OmegaConf.to_container(composed.config)):
        raise UsageError("the config reads an environment variable, which config.yaml would hold", "write the value")
    if missing := sorted(OmegaConf.missing_keys(composed.config)):
        raise UsageError(f"{missing[0]} has no value", f"{missing[0]}=…, or write it into its YAML")
    node = copy.deepcopy(composed.config)
    # First of all, as other settings may refer to these.
    if node.trainer.keep == Keep.last:
        node.trainer.patience = 1  # nobody asks for it
    if node.task.candidates != Candidates.full or node.task.question not in (Question.rank, Question.pretrain):
        node.task.mask_history = False  # sampled candidates are never in the history, and others are not ranked
    config = cast(Config, OmegaConf.to_object(node))
    ranges.check(config)
    for setting in walk.settings(config):
        if "path" in setting.field.metadata and setting.value is not None:
            path = Path(setting.value).expanduser()
            kept = path if setting.field.metadata["path"] == "relative" else path.resolve()
            setattr(setting.holder, setting.field.name, str(kept))
    for key in config.model.unused_settings(config.task):
        setattr(config.model, key, None)
    for key, value in config.model.derived_settings(config.task, config.llm).items():
        setattr(config.model, key, value)
    return config
