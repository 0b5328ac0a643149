"""The RunSpec: a run's config, checked and resolved once, before data are read."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from llm4rec_cli.config import ranges, secrets, walk
from llm4rec_cli.config.compose import Composed, compose, options, problems_of_choices, usage_errors
from llm4rec_cli.config.overrides import key_typed, quoted
from llm4rec_cli.config.schema import (
    SAMPLED,
    Backend,
    Candidates,
    Config,
    Keep,
    LLMConfig,
    ModelConfig,
    Question,
    SeenItems,
    TaskConfig,
    TextRecipe,
)
from llm4rec_cli.errors import UsageError, raise_first
from llm4rec_cli.runs.catalog import cache_folder

DEFAULTS = ("dataset", "task", "trainer")  # groups for which a model may have its own default


@dataclass(frozen=True)
class RunSpec:
    """The immutable specification of one run of a command.

    Attributes:
        config: typed, with absolute paths and neutral values for settings without effect.
        command: `train`, `eval`, …
        typed: the overrides that were typed.
        choices: config group -> option chosen.
    """

    config: Config
    command: str
    typed: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def resolve(cls, composed: Composed, command: str) -> RunSpec:
        """Return the spec of a composed config.

        Raises:
            UsageError: a value is out of range or read from the environment, or `rules.check` refuses the run.
        """
        from llm4rec_cli.runs import rules

        spec = cls.resolve_unchecked(composed, command)
        rules.check(spec)
        return spec

    @classmethod
    def resolve_unchecked(cls, composed: Composed, command: str) -> RunSpec:
        """Return the spec without `rules.check`, for commands that only select a run, or run no model.

        Raises:
            UsageError: a value is out of range, of another type, or refers to a key that does not exist; or the user
                has a file of a chosen option that is not read.
        """
        raise_first(problems_of_choices(composed.choices))
        with usage_errors():
            config = resolved_config(composed)
        return cls(config, command, composed.typed, composed.choices)

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
        """Return `device`, with `auto` resolved; imports torch."""
        return resolve_device(self.config.device)

    @property
    def typed_keys(self) -> set[str]:
        return {key_typed(override) for override in self.typed}

    @property
    def overrides(self) -> list[str]:
        """Return the typed overrides, with raw_dir and folders of weights absolute, so that they hold in any working
        directory."""
        folders = {
            setting.key: setting.value
            for setting in walk.settings(self.config)
            if "weights" in setting.field.metadata and Path(str(setting.value)).is_absolute()
        }
        typed = [
            f"{key_typed(override)}={quoted(folders[key_typed(override)])}"
            if key_typed(override) in folders
            else override
            for override in self.typed
            if key_typed(override) != "dataset.raw_dir"
        ]
        raw_dir = self.config.dataset.raw_dir
        return typed if raw_dir is None else [*typed, f"dataset.raw_dir={quoted(raw_dir)}"]

    @property
    def experiment(self) -> str | None:
        """Return the name of the chosen experiment, if any."""
        return self.choices.get("experiment")

    def with_config(self, **nodes: Any) -> RunSpec:
        """Return a spec with changed values: `with_config(task={"max_examples": 3}, seed=1)`; a dictionary changes
        settings of a node."""
        changed = {
            name: replace(getattr(self.config, name), **value) if isinstance(value, dict) else value
            for name, value in nodes.items()
        }
        return replace(self, config=replace(self.config, **changed))

    def for_floor(self, name: str, *settings: str) -> RunSpec:
        """Return the spec of a floor under the same dataset and task, at its default settings except those that it
        takes over from the model. Typed overrides of the model, its prompts, its chat model, the trainer and the
        experiment do not apply to it.

        Args:
            settings: overrides of the floor's own settings, such as `model.recent=1`.
        """
        node = compose([f"model={name}", *settings]).config
        for key in ("dataset", "task", "trainer", "seed"):  # a floor's settings may refer to these
            node[key] = getattr(self.config, key)
        floor = cast(ModelConfig, OmegaConf.to_object(node.model))
        copied = {
            name: value
            for name, is_copied in walk.settings_with(floor, "copied_if").items()
            if (value := getattr(self.model, name, None)) is not None and is_copied(value)
        }
        model = replace(floor, **copied)
        config = replace(self.config, model=model, deviations=[], tuning=None)
        of_model = ["model", "prompt", "trainer", "experiment"]
        if self.config.dataset.text is not TextRecipe.enriched:
            of_model += ["llm", "enrichment"]
        kept = [o for o in self.overrides if not o.lstrip("+").startswith(tuple(of_model))]
        shared = {group: option for group, option in self.choices.items() if group in ("dataset", "task")}
        choices = shared | {"model": name}
        return replace(self, config=config, command="train", typed=(*kept, f"model={name}", *settings), choices=choices)

    def describe_defaults(self) -> str:
        """Return the choices that come from the model's defaults, as `prompt4nr: dataset=demo_news task=impressions,
        its defaults`; empty if all were typed, or an experiment was."""
        defaults = [f"{group}={self.choices[group]}" for group in DEFAULTS if group not in self.typed_keys]
        if "experiment" in self.typed_keys or not defaults:
            return ""
        if self.task.max_examples is not None and "task.max_examples" not in self.typed_keys:
            defaults.append(f"task.max_examples={self.task.max_examples}")
        home = self.choices.get("home@_global_")
        if home in options("home"):
            defaults.append(f"conf/home/{home}.yaml")
        return f"{self.model.name}: {' '.join(defaults)}, its defaults"


def resolve_device(device: str) -> str:
    """Return the device of a config, with `auto` resolved.

    Raises:
        UsageError: this machine does not have it.
    """
    if device == "cpu":
        return "cpu"
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    available = accelerator.type if accelerator else "cpu"
    if device not in ("auto", available):
        raise UsageError(f"torch finds no {device} on this machine", f"device={available}; llm4rec doctor says more")
    return available


def _is_at_hand(setting: walk.Setting, llm: LLMConfig) -> bool:
    """Return whether a setting names weights by a path on this machine; a packaged name or a shape has no slash."""
    of_server = setting.holder is llm and llm.backend is Backend.openai
    value = str(setting.value)
    is_path = "/" in value or value.endswith(".gguf")
    return is_path and not of_server and Path(value).expanduser().exists()


def resolved_config(composed: Composed) -> Config:
    """Return the composed config, typed, with absolute paths, and neutral values for settings without effect, so that
    these do not change the address.

    Raises:
        UsageError: a value is out of range, or might be a secret, which config.yaml would store: it is read from the
            environment, or has not the form of its setting.
    """
    if re.search(r"\$\{\s*oc\.env", str(OmegaConf.to_container(composed.config))):
        raise UsageError("the config reads an environment variable, which config.yaml would store", "write the value")
    if missing := sorted(OmegaConf.missing_keys(composed.config)):
        raise UsageError(f"{missing[0]} has no value", f"{missing[0]}=…, or write it into its YAML")
    node = copy.deepcopy(composed.config)
    # First, as other settings may refer to these.
    if node.trainer.keep == Keep.last:
        node.trainer.patience = 1  # without effect
    if node.task.candidates != Candidates.full or node.task.question not in (Question.rank, Question.pretrain):
        node.task.mask_history = False  # sampled candidates are never in the history; other tasks rank nothing
    if not node.task.mask_history:
        node.task.seen_items = SeenItems.excluded  # without effect
    config = cast(Config, OmegaConf.to_object(node))
    ranges.check(config)
    raise_first(secrets.problems(config.llm))
    if config.task.question is not Question.rank or config.task.candidates not in SAMPLED:
        config.task.negatives, config.task.draw = TaskConfig.negatives, TaskConfig.draw  # without effect
    if config.task.question is Question.write:
        config.llm.structured = LLMConfig.structured  # without effect: a text has no form
    for setting in walk.settings(config):
        if "path" in setting.field.metadata and setting.value is not None:
            path = Path(setting.value).expanduser()
            path = path if setting.field.metadata["path"] == "relative" else path.resolve()
            setattr(setting.holder, setting.field.name, str(path))
        if "weights" in setting.field.metadata and _is_at_hand(setting, config.llm):
            setattr(setting.holder, setting.field.name, str(Path.cwd() / Path(setting.value).expanduser()))
    for key in config.model.unused_settings(config.task):
        if "." not in key:
            setattr(config.model, key, None)
    for key, value in config.model.derived_settings(config.task, config.llm).items():
        setattr(config.model, key, value)
    return config
