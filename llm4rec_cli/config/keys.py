"""All declared settings, with every model's, and lookup of their keys by role."""

from __future__ import annotations

from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args

from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.roles import FOR_EACH_TASK, Role
from llm4rec_cli.config.schema import Config
from llm4rec_cli.config.walk import Declaration, declarations


@cache
def declarations_with(model: Any) -> tuple[Declaration, ...]:
    """Return every setting of a config whose model has this config class."""
    shared = (setting for setting in declarations(Config) if not setting.key.startswith("model."))
    return (*shared, *declarations(model, "model"))


@cache
def all_declarations() -> tuple[Declaration, ...]:
    """Return the settings of all models together; a key shared by several models appears once per role."""
    classes: list[Any] = [config_class(name) for name in model_names()]
    settings = [setting for model in classes for setting in declarations_with(model)]
    return tuple({(setting.key, setting.role): setting for setting in settings}.values())


@cache
def _roles() -> dict[str, Role | None]:
    return {setting.key: setting.role for setting in all_declarations()}


def key_role(key: str) -> Role | None:
    """Return the role of a setting or node, or of the declared one that contains it; None for keys of Hydra. The key is
    as typed: `prompt/p5@model.prompts` sets `model.prompts`."""
    key = key.lstrip("~").rpartition("@")[2]
    while key and key not in _roles():
        key = key.rpartition(".")[0]
    return _roles().get(key)


@cache
def value_types(key: str) -> frozenset[Any]:
    """Return the types of values that a setting takes, in any model; empty for an unknown key."""
    declared = [setting for setting in all_declarations() if setting.key == key]
    kinds = {kind for s in declared for kind in (get_args(s.kind) if isinstance(s.kind, UnionType) else (s.kind,))}
    optional = any(setting.field.default is None for setting in declared)  # a node's kind does not say so
    return frozenset(kinds | ({NoneType} if optional else set()))


@cache
def is_of_one_task(key: str) -> bool:
    """Return whether a key is a setting of a task that a training for all tasks does not apply to each of them."""
    return key.startswith("task.") and key not in keys_with_role(*FOR_EACH_TASK)


def keys_with_role(*roles: Role) -> frozenset[str]:
    """Return the keys of all settings with one of these roles, without nodes."""
    return frozenset(setting.key for setting in all_declarations() if setting.role in roles and not setting.is_node)
