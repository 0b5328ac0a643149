"""What a setting may hold beyond its type: stated where it is declared, refused before anything is computed."""

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

LARGEST_SEED = 2**31 - 1  # numpy's own generator takes no more than 2^32 - 1, and each process adds to the seed

_BOUNDS = {
    "at_least": (operator.ge, "at least"),
    "above": (operator.gt, "above"),
    "at_most": (operator.le, "at most"),
    "below": (operator.lt, "below"),
}
_FOLDER_NAME = r"[\w+][\w.+ -]{0,49}"  # none that leads out of its folder, hides, or is longer than disks take


def number(default: Any = MISSING, multiple_of: str | None = None, role: Role | None = None, **bounds: float) -> Any:
    """A field for a finite number, or for a list of at least one, within bounds.

    Args:
        default: its value, copied if it is a list; None stands for no number where the type allows it.
        multiple_of: another field of the class that must divide it.
        role: of its own; None = that of its dataclass. Likewise below.
        bounds: any of `at_least`, `above`, `at_most`, `below`.
    """
    metadata = {"bounds": bounds, "multiple_of": multiple_of, "role": role}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def seed(role: Role) -> Any:
    """A field for the seed of random numbers, by default 0."""
    return number(0, role=role, at_least=0, at_most=LARGEST_SEED)


def folder_name() -> Any:
    """A field for a name that a folder is called by."""
    return field(default=MISSING, metadata={"folder_name": True})


def path(default: str | None, role: Role | None = None, kept: str = "absolute") -> Any:
    """A field for a path, which cannot be empty: an unset shell variable would mean the working directory.

    Args:
        kept: `absolute`, or `relative` for one that stays as it was typed.
    """
    return field(default=default, metadata={"path": kept, "role": role})


def check(config: Any) -> None:
    """Refuses a config with a value outside what its dataclasses state.

    Raises:
        UsageError: so it is, for the first.
    """
    for refusal in refusals(config):
        raise refusal


def refusals(config: Any) -> Iterator[UsageError]:
    """Every value of a config that lies outside what its dataclass states."""
    for key, holder, declared, value in walk.settings(config):
        metadata = declared.metadata
        if "bounds" in metadata and value is not None:
            yield from _beyond(key, value, metadata["bounds"])
            divisor = metadata["multiple_of"]
            if divisor and (by := getattr(holder, divisor)) and value % by:
                yield UsageError(
                    f"{key}={value} is not a multiple of {divisor}={by}",
                    f"choose another {key}, or as {divisor} one of its divisors",
                )
        elif "folder_name" in metadata and not re.fullmatch(_FOLDER_NAME, value):
            yield UsageError(
                f"{key}={value} cannot name a folder", "at most 50 letters, digits, spaces and _ . + - can"
            )
        elif "path" in metadata and value == "":
            yield UsageError(f"{key} is empty", f"{key}=PATH, or leave it out")


def _beyond(name: str, value: Any, bounds: dict[str, float]) -> Iterator[UsageError]:
    asked = "a finite number: " + " and ".join(f"{_BOUNDS[kind][1]} {bound:,}" for kind, bound in bounds.items())
    numbers = [value] if isinstance(value, int | float) else list(value)
    if not numbers:
        yield UsageError(f"{name} holds no number", f"{name}=[…], each {asked}")
    for found in numbers:
        if not math.isfinite(found) or not all(_BOUNDS[kind][0](found, bound) for kind, bound in bounds.items()):
            yield UsageError(f"{name}={found} is out of range", f"{name} takes {asked}")
