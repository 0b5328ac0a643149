"""The composed config as a run reads it: typed, with absolute paths, and neutral values for settings without effect."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from llm4rec_cli.config import ranges, secrets, walk
from llm4rec_cli.config.compose import Composed
from llm4rec_cli.config.schema import (
    SAMPLED,
    Backend,
    Candidates,
    Config,
    DatasetConfig,
    Keep,
    LLMConfig,
    ModelConfig,
    Question,
    SeenItems,
    TaskConfig,
)
from llm4rec_cli.errors import UsageError, raise_first


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
    node = pickle.loads(pickle.dumps(composed.config))  # three times as fast as a deep copy
    # First, as other settings may refer to these.
    if node.trainer.keep == Keep.last:
        node.trainer.patience = 1  # without effect
    if node.task.candidates != Candidates.full or node.task.question not in (Question.rank, Question.pretrain):
        node.task.mask_history = False  # sampled candidates are never in the history; other tasks rank nothing
    if not node.task.mask_history:
        node.task.seen_items = SeenItems.excluded  # without effect
    config = cast(Config, OmegaConf.to_object(node))
    raise_first(ranges.problems(config))
    raise_first(secrets.problems(config.llm))
    if config.task.question != Question.rank or config.task.candidates not in SAMPLED:
        config.task.negatives, config.task.draw = TaskConfig.negatives, TaskConfig.draw  # without effect
    if config.task.question in Question.__members__:  # without effect on tasks of ours
        config.task.history, config.task.shots = TaskConfig.history, TaskConfig.shots
        config.dataset.liked_above = DatasetConfig.liked_above
    if config.task.question == Question.write:
        config.llm.structured = LLMConfig.structured  # without effect: a text has no form
    if not config.model.traits.seeded:
        config.seed = Config.seed  # without effect: a rule has one run
    for setting in walk.settings(config):
        if "path" in setting.field.metadata and setting.value is not None:
            path = Path(setting.value).expanduser()
            path = path if setting.field.metadata["path"] == "relative" else path.resolve()
            setattr(setting.holder, setting.field.name, str(path))
        if setting.key.endswith(secrets.ADDRESS) and setting.value:
            raise_first(secrets.problems_of_address(setting.key, setting.value))
        if "weights" in setting.field.metadata and _is_at_hand(setting, config.llm):
            setattr(setting.holder, setting.field.name, str(Path.cwd() / Path(setting.value).expanduser()))
    config.model = without_unused(config.model, config.task)
    for key, value in config.model.derived_settings(config.task, config.llm).items():
        setattr(config.model, key, value)
    return config


def without_unused(model: ModelConfig, task: TaskConfig) -> ModelConfig:
    """Return the model's config with null for its own settings that have no effect in the task."""
    neutral: dict[str, Any] = {key: None for key in model.unused_settings(task) if "." not in key}
    return replace(model, **neutral)


def _is_at_hand(setting: walk.Setting, llm: LLMConfig) -> bool:
    """Return whether a setting names weights by a path on this machine. A packaged name or a shape has no slash."""
    of_server = setting.holder is llm and llm.backend is Backend.openai
    value = str(setting.value)
    is_path = "/" in value or value.endswith(".gguf")
    return is_path and not of_server and Path(value).expanduser().exists()
