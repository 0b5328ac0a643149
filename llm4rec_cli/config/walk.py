"""Iterate over the settings of a config, or of the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import omegaconf

from llm4rec_cli.config.roles import Role, role_of


class Setting(NamedTuple):
    """One setting of a config: its path, such as `model.encoder.name`, the dataclass instance that contains it, its
    dataclass field with metadata, and its value."""

    key: str
    holder: Any
    field: Field[Any]
    value: Any

    @property
    def is_as_before(self) -> bool:
        """Whether it was added after runs existed and has its default, which they used."""
        return bool(self.field.metadata.get("added")) and self.value == self.field.default


def settings(node: Any, key: str = "") -> Iterator[Setting]:
    """Yield the leaf settings of a config node, in the order of declaration; `key` is the node's path, empty for the
    root."""
    for field in fields(node):
        name, value = f"{key}.{field.name}".lstrip("."), getattr(node, field.name)
        if is_dataclass(value):
            yield from settings(value, name)
        else:
            yield Setting(name, node, field, value)


def settings_with(holder: Any, fact: str) -> dict[str, Any]:
    """Return name -> fact of the settings of a dataclass whose metadata have this fact."""
    return {own.name: own.metadata[fact] for own in fields(holder) if fact in own.metadata}


class Declaration(NamedTuple):
    """A setting as the schema declares it.

    Attributes:
        key: its path.
        field: its dataclass field.
        kind: its type: a dataclass for a node, `dict[str, dataclass]` for nodes with free names.
        role: what it affects, for a node without one the role of its own dataclass; None outside the schema.
    """

    key: str
    field: Field[Any]
    kind: Any
    role: Role | None

    @property
    def is_node(self) -> bool:
        """Whether the setting contains other settings."""
        return is_dataclass(self.kind) or (get_origin(self.kind) is dict and is_dataclass(get_args(self.kind)[1]))


def declarations(holder: Any, key: str = "", above: Role | None = None) -> Iterator[Declaration]:
    """Yield every setting that a schema dataclass declares, each node before its contents; `key` is its path, and
    `above` the role of the setting that contains it."""
    for field, kind in _typed_fields(holder):
        role = role_of(holder, field.metadata, above) or getattr(kind, "role", None)
        declaration = Declaration(f"{key}.{field.name}".lstrip("."), field, kind, role)
        yield declaration
        if is_dataclass(kind):
            yield from declarations(kind, declaration.key, role)


@cache
def _typed_fields(holder: Any) -> list[tuple[Field[Any], Any]]:
    """Return the fields of a dataclass with their types. An optional node counts as its dataclass."""
    hints = get_type_hints(holder)
    members = {name: get_args(hint) if isinstance(hint, UnionType) else () for name, hint in hints.items()}
    kinds = {name: next(filter(is_dataclass, types), hints[name]) for name, types in members.items()}
    return [(field, kinds[field.name]) for field in fields(holder)]


def plain(value: Any) -> Any:
    """Return a config as stored in config.yaml: dictionaries, lists, and enums by name."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.name if isinstance(value, Enum) else value


def nested(settings: Mapping[str, object]) -> dict[str, object]:
    """Return settings by dotted key as nested dictionaries."""
    result: dict[str, object] = {}
    for key, value in settings.items():
        *parents, name = key.split(".")
        node: Any = result
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return result


def typed(kind: Any, value: Any) -> Any:
    """Return a value of this type from what `plain` made of it; None stays None, as settings without effect are stored.

    Raises:
        ValueError: a field without a default is missing, or an enum has no such name.
    """
    if value is None:
        return None
    if is_dataclass(kind):
        return _dataclass_of(kind, value)
    inner = [argument for argument in get_args(kind) if argument is not NoneType]
    if get_origin(kind) in (Union, UnionType):
        return typed(inner[0], value) if len(inner) == 1 else value
    if get_origin(kind) is list:
        return [typed(inner[0], item) for item in value]
    if get_origin(kind) is dict:
        return {key: typed(inner[1], item) for key, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        if value not in kind.__members__:
            raise ValueError(f"{kind.__name__} has no {value}")
        return kind[value]
    return value


def _dataclass_of(kind: Any, content: Mapping[str, Any]) -> Any:
    hints = _hints(kind)
    needed = {own.name for own in fields(kind) if own.default == omegaconf.MISSING}
    if missing := sorted(needed - content.keys()):
        raise ValueError(f"{kind.__name__} has no {missing[0]}")
    return kind(**{own.name: typed(hints[own.name], content[own.name]) for own in fields(kind) if own.name in content})


_hints = cache(get_type_hints)
