"""Ranges of settings: declared with the field, checked before anything is computed."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator
from dataclasses import field
from typing import Any

from omegaconf import MISSING

from llm4rec_cli.config import walk
from llm4rec_cli.config.roles import Role
from llm4rec_cli.errors import UsageError

LARGEST_SEED = 2**31 - 1  # numpy's generator takes at most 2^32 - 1, and each process adds to the seed

_BOUNDS = {
    "at_least": (operator.ge, "at least"),
    "above": (operator.gt, "above"),
    "at_most": (operator.le, "at most"),
    "below": (operator.lt, "below"),
}
_FOLDER_NAME = r"[\w+][\w.+ -]{0,49}"  # cannot leave its folder, be hidden, or exceed the length limit of file systems


def number(
    default: Any = MISSING,
    multiple_of: str | None = None,
    role: Role | None = None,
    added: bool = False,
    **bounds: float,
) -> Any:
    """Return a field for a finite number, or a non-empty list of them, within bounds.

    Args:
        default: default value. A list is copied, and None is allowed if the type is optional.
        multiple_of: another field of the class that must divide it.
        role: the field's own role; None = its dataclass's.
        added: as `schema.added`: left out of run addresses at its default.
        bounds: any of `at_least`, `above`, `at_most`, `below`.
    """
    metadata = {"bounds": bounds, "multiple_of": multiple_of, "role": role, "added": added}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def seed(role: Role | None = None) -> Any:
    return number(0, role=role, at_least=0, at_most=LARGEST_SEED)


def folder_name() -> Any:
    """Return a field for a name that is used as a folder name."""
    return field(default=MISSING, metadata={"folder_name": True})


def path(default: str | None, role: Role | None = None, stored: str = "absolute") -> Any:
    """Return a field for a path, stored `absolute`, or `relative` to keep it as typed; empty paths are refused, as an
    unset shell variable would mean the working directory."""
    return field(default=default, metadata={"path": stored, "role": role})


def problems(config: Any) -> Iterator[UsageError]:
    for key, holder, declaration, value in walk.settings(config):
        metadata = declaration.metadata
        if "bounds" in metadata and value is not None:
            yield from _out_of_range(key, value, metadata["bounds"])
            divisor = metadata["multiple_of"]
            if divisor and (by := getattr(holder, divisor)) and value % by:
                yield UsageError(
                    f"{key}={value} is not a multiple of {divisor}={by}",
                    f"choose another {key}, or set {divisor} to one of its divisors",
                )
        elif "folder_name" in metadata and not re.fullmatch(_FOLDER_NAME, value):
            yield UsageError(
                f"{key}={value} cannot name a folder", "use at most 50 letters, digits, spaces and _ . + -"
            )
        elif "path" in metadata and value == "":
            yield UsageError(f"{key} is empty", f"{key}=PATH, or leave it out")


def _out_of_range(name: str, value: Any, bounds: dict[str, float]) -> Iterator[UsageError]:
    range_text = "a finite number: " + " and ".join(f"{_BOUNDS[kind][1]} {bound:,}" for kind, bound in bounds.items())
    numbers = [value] if isinstance(value, int | float) else list(value)
    if not numbers:
        yield UsageError(f"{name} is an empty list", f"{name}=[…], each {range_text}")
    for x in numbers:
        if not math.isfinite(x) or not all(_BOUNDS[kind][0](x, bound) for kind, bound in bounds.items()):
            yield UsageError(f"{name}={x} is out of range", f"{name} takes {range_text}")
