"""The one walk over the settings of a config."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from typing import Any, NamedTuple


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
