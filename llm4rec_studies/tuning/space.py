"""Search spaces of `llm4rec tune`: conf/search/<model>.yaml holds the values that it tries for each setting.

    model.dropout: {values: [0.1, 0.3, 0.5]}
    trainer.learning_rate: {low: 1e-4, high: 1e-2, log: true}

Spaces are data, no part of a config: a run's address holds the values that it used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from llm4rec_cli.config.keys import declarations_with
from llm4rec_cli.config.reading import read_yaml
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.roles import Role
from llm4rec_cli.errors import UsageError, did_you_mean, raise_first

SEARCHED = (Role.model, Role.training)  # what weights are fitted, and how; other settings change the question
NOT_SEARCHED = ("seed", "model.name", "trainer.precision")


@dataclass(frozen=True)
class Values:
    """A setting that takes one of several values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{{{', '.join(map(str, self.values))}}}"


@dataclass(frozen=True)
class Interval:
    """A setting that takes any number in [low, high], uniformly or uniformly in its logarithm."""

    low: float
    high: float
    log: bool = False
    whole: bool = False  # only whole numbers, as of a setting that takes no others

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


Space = Mapping[str, Values | Interval]


def read_space(file: Path) -> Space:
    """Return the search space of a file, by key. Raises UsageError with the first of its problems."""
    content = read_yaml(file)
    raise_first(UsageError(f"{file}: {problem.problem}", problem.remedy) for problem in _problems(content, file.stem))
    kinds = _kinds(file.stem)
    return {key: _parse(entry, kinds[key]) for key, entry in content.items()}


def problems_of_space(file: Path) -> list[UsageError]:
    try:
        content = read_yaml(file)
    except UsageError as error:
        return [error]
    return list(_problems(content, file.stem))


def _problems(content: Any, model: str) -> Iterator[UsageError]:
    if not isinstance(content, dict) or not content:
        yield UsageError("the file has no settings to search", "write KEY: {values: […]} or {low: …, high: …}")
        return
    allowed = _kinds(model)
    for key, entry in content.items():
        if key not in allowed:
            yield UsageError(f"'{key}' cannot be searched", did_you_mean(str(key), allowed))
            continue
        try:
            _parse(entry, allowed[key])
        except (TypeError, ValueError) as error:
            yield UsageError(f"'{key}': {error}", "write {values: […]}, or {low: …, high: …, log: true}")


def _kinds(model: str) -> Mapping[str, Any]:
    """Return the settings of a model that can be searched, with their types."""
    kind: Any = config_class(model)
    return {
        setting.key: setting.kind
        for setting in declarations_with(kind)
        if setting.role in SEARCHED and not setting.is_node and setting.key not in NOT_SEARCHED
    }


def _parse(entry: Any, kind: Any) -> Values | Interval:
    """Return one entry of a search space, of a setting of this type. Raises TypeError or ValueError if it is neither a
    list of values nor an interval."""
    if not isinstance(entry, dict):
        raise TypeError("neither values nor an interval")
    if "values" in entry:
        if len(entry) > 1 or not isinstance(entry["values"], list) or len(entry["values"]) < 2:
            raise ValueError("values must be a list of at least two, without other keys")
        return Values(tuple(entry["values"]))
    if unknown := entry.keys() - {"low", "high", "log"}:
        raise ValueError(f"unknown key '{min(unknown)}'")
    low: Any = entry.get("low")
    high: Any = entry.get("high")
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)):
        raise ValueError("low and high must be numbers")
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise TypeError(f"log must be true or false, and is {log!r}")
    if not low < high or (log and low <= 0):
        raise ValueError(f"low={low} must be below high={high}" + (", and above 0 as log is set" if log else ""))
    whole = float not in (get_args(kind) or (kind,))
    if whole and not (isinstance(low, int) and isinstance(high, int)):
        raise ValueError("low and high must be whole numbers, as the setting is")
    return Interval(low, high, log, whole)
