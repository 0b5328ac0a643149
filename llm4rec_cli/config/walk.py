"""The one walk over the settings of a config, and over those that the schema declares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from llm4rec_cli.config.roles import Role, role_of


class Setting(NamedTuple):
    """One setting of a config.

    Attributes:
        key: its path, `model.encoder.name`.
        holder: the dataclass instance that holds it.
        field: its declaration there, whose metadata say what it is.
        value: as it is set.
    """

    key: str
    holder: Any
    field: Field[Any]
    value: Any


def settings(node: Any, key: str = "") -> Iterator[Setting]:
    """Every setting of a config node that holds no other node, in the order of declaration.

    Args:
        node: an instance of a dataclass of the schema.
        key: its own path; empty for the root.
    """
    for declared in fields(node):
        name, value = f"{key}.{declared.name}".lstrip("."), getattr(node, declared.name)
        if is_dataclass(value):
            yield from settings(value, name)
        else:
            yield Setting(name, node, declared, value)


class Declared(NamedTuple):
    """A setting as the schema declares it.

    Attributes:
        key: its path.
        field: its declaration.
        kind: its type; of a node, the dataclass; of nodes by names of one's own, `dict[str, dataclass]`.
        role: what it is about.
    """

    key: str
    field: Field[Any]
    kind: Any
    role: Role | None

    @property
    def is_node(self) -> bool:
        return is_dataclass(self.kind) or (get_origin(self.kind) is dict and is_dataclass(get_args(self.kind)[1]))


def declared(holder: Any, key: str = "", above: Role | None = None) -> Iterator[Declared]:
    """Every setting that a dataclass of the schema declares, nodes before what they hold.

    Args:
        key: the dataclass's own path.
        above: the role of what holds it.
    """
    for field, kind in _typed_fields(holder):
        role = role_of(holder, field.metadata, above)
        one = Declared(f"{key}.{field.name}".lstrip("."), field, kind, role)
        yield one
        if is_dataclass(kind):
            yield from declared(kind, one.key, role)


@cache
def _typed_fields(holder: Any) -> list[tuple[Field[Any], Any]]:
    """The fields of a dataclass with their types; of one that may be null, the dataclass that it may be."""
    hints = get_type_hints(holder)
    nullable = {name: get_args(hint) if isinstance(hint, UnionType) else () for name, hint in hints.items()}
    kinds = {name: next(filter(is_dataclass, of), hints[name]) for name, of in nullable.items()}
    return [(field, kinds[field.name]) for field in fields(holder)]
