"""The settings that there are, with those of every model, and their keys by what they are about."""

from __future__ import annotations

from functools import cache
from typing import Any

from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.roles import Role
from llm4rec_cli.config.schema import Config
from llm4rec_cli.config.walk import Declared, declared


@cache
def declared_with(model: Any) -> tuple[Declared, ...]:
    """Every setting of a config with this model's."""
    shared = (one for one in declared(Config) if one.key.partition(".")[0] != "model")
    return (*shared, *declared(model, "model"))


@cache
def all_declared() -> tuple[Declared, ...]:
    """Every setting there is, with those of every model; one that several have, once."""
    classes: list[Any] = [config_class(name) for name in model_names()]
    found = [one for kind in classes for one in declared_with(kind)]
    return tuple({(one.key, one.role): one for one in found}.values())


@cache
def keys_of(*roles: Role) -> frozenset[str]:
    """The keys of all settings of these roles, but of nodes."""
    return frozenset(one.key for one in all_declared() if one.role in roles and not one.is_node)
