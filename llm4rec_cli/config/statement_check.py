"""Checks of the files in conf/deviations: known sections, entries, settings, values, and fields of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from string import Formatter
from typing import Any

from omegaconf import OmegaConf

from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.reading import read_yaml
from llm4rec_cli.config.registry import model_names
from llm4rec_cli.config.statements import SHARED, Statements, content
from llm4rec_cli.errors import UsageError, did_you_mean

CONDITIONS, OPERATORS = {"when", "unless"}, {"not", "above", "has", "like"}
KEYS = {  # of an entry, besides its conditions, by section
    **{section: {"says"} for section in ("name", "experiment", "method", "deviations")},
    **{"labels": set(), "unused": {"settings", "use"}},
    **{section: {"problem", "remedy"} for section in ("refused", "refused_with_new_items")},
}


def problems(file: Path, name: str) -> list[UsageError]:
    """Return the problems of a model's file, of one that files build on, or of the sentences that models share.

    Raises:
        UsageError: it is not valid YAML.
    """
    models = [model for model in model_names() if name in (model, content(model).get("base"))]
    if not models and name != SHARED:
        return [UsageError(f"unknown model '{name}'", did_you_mean(name, model_names()))]
    sections = read_yaml(file)
    if not isinstance(sections, dict) or not sections:
        return [UsageError("the file has no sections", f"one of {', '.join(KEYS)}")]
    if name == SHARED:
        return [p for key, text in sections.items() for p in _problems_of_text(f"'{key}'", text, None)]
    config: Any = OmegaConf.to_object(compose([f"model={models[0]}", "task=sequential"]).config)
    facts = {**vars(config), "trained": True, **config.model.facts("sequential", "sequential")}
    known = Statements(config.model, facts)
    return [
        problem
        for section, entries in sections.items()
        if section != "base"
        for problem in _problems_of_section(section, entries, known)
    ]


def _problems_of_section(section: str, entries: Any, known: Statements) -> Iterator[UsageError]:
    if section not in KEYS:
        yield UsageError(f"unknown section '{section}'", did_you_mean(section, KEYS))
        return
    for name, cases in entries.items() if isinstance(entries, Mapping) else [(section, entries)]:
        for case in cases if isinstance(cases, list) else [cases]:
            case = case if isinstance(case, Mapping) else {"says": case}
            allowed = {*KEYS[section], *CONDITIONS}
            for key in case.keys() - allowed:
                yield UsageError(f"'{name}': unknown key '{key}'", did_you_mean(key, allowed))
            if section == "deviations" and "says" not in case and name not in content(SHARED):
                yield UsageError(f"'{name}' has no sentence", f"{name}: SENTENCE")
            for key in CONDITIONS & case.keys():
                for condition in case[key] if isinstance(case[key], list) else [case[key]]:
                    yield from _problems_of_condition(f"'{name}'", condition, known)
            for key in ("says", "problem", "remedy"):
                if key in case:
                    yield from _problems_of_text(f"'{name}'", case[key], known)


def _problems_of_condition(where: str, condition: Mapping[str, Any], known: Statements) -> Iterator[UsageError]:
    for path, wanted in condition.items():
        try:
            value = known.raw(path)
        except AttributeError:
            yield UsageError(f"{where}: no setting '{path}'", did_you_mean(path, vars(known.model)))
            continue
        is_operator = isinstance(wanted, Mapping)
        if is_operator and not (len(wanted) == 1 and wanted.keys() <= OPERATORS):
            yield UsageError(f"{where}: {path} has no known operator", f"one of {', '.join(sorted(OPERATORS))}")
            continue
        operand = next(iter(wanted.values())) if is_operator else wanted
        names = [member.name for member in type(value)] if isinstance(value, Enum) else None
        for choice in operand if isinstance(operand, list) else [operand]:
            if names and choice is not None and choice not in names:
                yield UsageError(f"{where}: {path} is never '{choice}'", did_you_mean(str(choice), names))


def _problems_of_text(where: str, text: Any, known: Statements | None) -> Iterator[UsageError]:
    try:
        fields = [name.partition(".")[0] for _, name, _, _ in Formatter().parse(text) if name is not None]
    except (TypeError, ValueError):
        yield UsageError(f"{where} is not a sentence with fields in braces", "write a literal brace as {{ or }}")
        return
    if known is None:
        return
    for name in fields:
        if not (name in known.facts or hasattr(known.model, name)):
            yield UsageError(f"{where}: no setting '{name}'", did_you_mean(name, vars(known.model)))
