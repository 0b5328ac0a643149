"""Iterate over the settings of a config, and over those that the schema declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from llm4rec_cli.config.roles import Role, role_of


class Setting(NamedTuple):
    """One setting of a config.

    Attributes:
        key: its path, such as `model.encoder.name`.
        holder: the dataclass instance that contains it.
        field: its dataclass field, with metadata.
        value: its value.
    """

    key: str
    holder: Any
    field: Field[Any]
    value: Any


def settings(node: Any, key: str = "") -> Iterator[Setting]:
    """Yield the leaf settings of a config node, in the order of declaration.

    Args:
        node: an instance of a schema dataclass.
        key: the node's path; empty for the root.
    """
    for field in fields(node):
        name, value = f"{key}.{field.name}".lstrip("."), getattr(node, field.name)
        if is_dataclass(value):
            yield from settings(value, name)
        else:
            yield Setting(name, node, field, value)


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
        """Return whether the setting contains other settings."""
        return is_dataclass(self.kind) or (get_origin(self.kind) is dict and is_dataclass(get_args(self.kind)[1]))


def declarations(holder: Any, key: str = "", above: Role | None = None) -> Iterator[Declaration]:
    """Yield every setting that a schema dataclass declares, each node before its contents.

    Args:
        holder: the dataclass.
        key: its path; empty for the root.
        above: the role of the setting that contains it.
    """
    for field, kind in _typed_fields(holder):
        role = role_of(holder, field.metadata, above) or getattr(kind, "role", None)
        declaration = Declaration(f"{key}.{field.name}".lstrip("."), field, kind, role)
        yield declaration
        if is_dataclass(kind):
            yield from declarations(kind, declaration.key, role)


@cache
def _typed_fields(holder: Any) -> list[tuple[Field[Any], Any]]:
    """Return the fields of a dataclass with their types; an optional node counts as its dataclass."""
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
