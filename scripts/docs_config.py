"""The reference of all config keys, as Markdown: from the schema, its comments, and the YAML files in conf/."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from itertools import compress
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import yaml
from omegaconf import MISSING

from llm4rec_cli.config.folders import conf_dir, data_file, options
from llm4rec_cli.config.keys import declarations_with
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.roles import NOT_HASHED, Role
from llm4rec_cli.config.schema import Config, ModelConfig
from llm4rec_cli.config.walk import Declaration
from llm4rec_cli.results.tables import markdown
from llm4rec_cli.run.config_options import content_of

SHOWN = {"trainer": "default", "llm": "local", "enrichment": "default"}  # the option whose values are shown
OTHERS = {"llm": ["openai"]}  # whose values are shown where they differ
BOUNDS = {"at_least": "≥", "above": ">", "at_most": "≤", "below": "<"}
TYPES = {str: "text", int: "integer", float: "number", bool: "true or false", NoneType: "null"}
MOST_FILES = 6  # of a dataset, that its row names
COLUMNS = ("key", "type and range", "default", "source and notes", "role", "meaning")


def config_keys() -> str:
    """Return a table for each config group, and for each model one with its own keys."""
    shared = [setting for setting in declarations_with(ModelConfig) if not setting.key.startswith("model")]
    top = [setting for setting in shared if "." not in setting.key and not _is_group(setting)]
    parts = ["## Top level", _table(top, {"": Config}, yaml_values(conf_dir() / "config.yaml"))]
    for group in shared:
        if "." in group.key or not _is_group(group):
            continue
        shown_option = str(SHOWN.get(group.key))
        file = data_file(group.key, shown_option)
        values = dict(yaml_values(file, f"{group.key}.")) if file else {}
        shown = f" The defaults are those of `{group.key}={shown_option}`." if values else ""
        for other in OTHERS.get(group.key, ()):
            for key, (default, source) in yaml_values(_file(group.key, other), f"{group.key}.").items():
                if default != values[key][0]:
                    values[key] = (f"{values[key][0]}; `{group.key}={other}`: {default}", values[key][1] or source)
        parts += [f"## {group.key}", _summary(group.kind) + shown]
        parts.append(_table(_below(shared, group.key), _holders(shared), values))
    for name in model_names():
        model: Any = config_class(name)
        file = _file("model", name)
        settings = declarations_with(model)
        parts += [f"## model={name}", f"{_summary(model)} {_sources(file)}"]
        parts.append(_table(_below(settings, "model"), _holders(settings, model), yaml_values(file, "model.")))
    return "\n\n".join(parts)


def roles() -> str:
    """Return the table of roles."""
    rows = [[f"`{role.name}`", comments(Role)[role.name], "no" if role in NOT_HASHED else "yes"] for role in Role]
    return markdown(["role", "what a key with this role affects", "part of a run's address"], rows)


def config_options() -> str:
    """Return the options of every config group, each with the first sentence of its file."""
    parts = []
    for group in ("dataset", "model", "task", "trainer", "llm", "experiment", "prompt"):
        typed = f"+{group}" if group == "experiment" else group
        rows = [[f"`{typed}={name}`", _first_sentence(_file(group, name))] for name in options(group)]
        parts += [f"## {group}", markdown(["option", "description"], rows)]
    return "\n\n".join(parts)


def datasets() -> str:
    """Return the table of dataset configs: reader, raw files and where they come from, and the paper's counts."""
    rows = []
    for name in options("dataset"):
        file = _file("dataset", name)
        content = content_of("dataset", name)
        paper = content.get("paper") or {}
        counts = [f"{paper[key]:,} {key}" for key in ("users", "items") if key in paper]
        source = "generated" if content.get("generator") else "downloaded" if content.get("download") else "by hand"
        domains = (content.get("domains") or {}).values()
        raw = [raw_file for domain in domains for role, raw_file in domain.items() if role != "reader"]
        shown = ", ".join(f"`{raw_file}`" for raw_file in raw) if len(raw) <= MOST_FILES else f"{len(raw)} files"
        cells = [_first_sentence(file), content.get("reader", ""), source, shown, ", ".join(counts)]
        rows.append([f"`{name}`", *map(str, cells)])
    return markdown(["dataset", "description", "reader", "source", "raw files", "the paper's counts"], rows)


# --- tables of keys


def _is_group(setting: Declaration) -> bool:
    return is_dataclass(setting.kind)


def _below(settings: Sequence[Declaration], key: str) -> list[Declaration]:
    """Return the settings within a group, without the groups among them."""
    return [setting for setting in settings if setting.key.startswith(f"{key}.") and not _is_group(setting)]


def _holders(settings: Sequence[Declaration], model: Any = ModelConfig) -> dict[str, Any]:
    """Return the key of each group -> the dataclass that declares its settings."""
    return {"model": model} | {setting.key: setting.kind for setting in settings if _is_group(setting)}


def _table(settings: Sequence[Declaration], holders: Mapping[str, Any], values: Mapping[str, tuple[str, str]]) -> str:
    """Return the table of these settings.

    Args:
        holders: key of a group -> its dataclass.
        values: key -> (its default, the comment on it), as far as YAML sets them.
    """
    rows = []
    for setting in settings:
        own = comments(holders[setting.key.rpartition(".")[0]]).get(setting.field.name, "")
        meaning = "; ".join(filter(None, [own, _values_in_words(setting.kind)]))
        default, source = values.get(setting.key, (_default(setting), ""))
        role = setting.role.name if setting.role else ""
        rows.append([f"`{setting.key}`", _type_and_range(setting), default, source, role, meaning])
    shown = [any(cells) for cells in zip(*rows, strict=True)]
    return markdown([*compress(COLUMNS, shown)], [[*compress(row, shown)] for row in rows])


def _default(setting: Declaration) -> str:
    """Return the schema's default as code."""
    field = setting.field
    if callable(field.default_factory):
        return f"`{field.default_factory()}`"
    if field.default == MISSING:
        return "set by each file"
    value = field.default.name if isinstance(field.default, Enum) else field.default
    return f"`{yaml.safe_dump(value).splitlines()[0]}`"


def _type_and_range(setting: Declaration) -> str:
    bounds = [f"{BOUNDS[kind]} {bound:,}" for kind, bound in setting.field.metadata.get("bounds", {}).items()]
    return f"{_type(setting.kind)} {', '.join(bounds)}".strip()


def _type(kind: Any) -> str:
    members = get_args(kind)
    if get_origin(kind) is list:
        return f"list of {_type(members[0])}"
    if get_origin(kind) is dict:
        return f"{{name: {_type(members[1])}}}"
    if members:
        return " or ".join(map(_type, members))
    if is_dataclass(kind):
        return f"({', '.join(field.name for field in fields(kind))})"
    return TYPES.get(kind) or " | ".join(f"`{member.name}`" for member in kind)


def _values_in_words(kind: Any) -> str:
    """Return the meaning of each value of an enum; empty for another type."""
    for enum in get_args(kind) or [kind]:
        if inspect.isclass(enum) and issubclass(enum, Enum):
            return "; ".join(f"`{name}`: {text}" for name, text in comments(enum).items())
    return ""


# --- sentences in files


def _summary(holder: type[Any]) -> str:
    """Return the first paragraph of a docstring."""
    return " ".join(str(inspect.getdoc(holder)).partition("\n\n")[0].split())


def _header(file: Path) -> str:
    """Return the comment at the top of a YAML file, without the examples of commands."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return " ".join(line[2:] for line in lines if not line.startswith(("#  ", "# @package")))


def _file(group: str, option: str) -> Path:
    file = data_file(group, option)
    assert file, f"{group}={option} has no file"
    return file


def _first_sentence(file: Path) -> str:
    return re.split(r"(?<=[.?]) (?=[A-Z])", _header(file))[0]


def _sources(file: Path) -> str:
    _, start, end = _header(file).partition("Source of each value")
    return start + end


@cache
def comments(holder: Any) -> dict[str, str]:
    """Return field or member -> the comment on its line or the lines directly above, for a class and its bases."""
    bases = [base for base in reversed(holder.__mro__) if base.__module__.startswith("llm4rec_")]
    return {name: text for base in bases for name, text in _comments(textwrap.dedent(inspect.getsource(base)))}


def _comments(source: str) -> Iterator[tuple[str, str]]:
    lines = source.splitlines()
    (holder,) = ast.parse(source).body
    assert isinstance(holder, ast.ClassDef)
    for node in holder.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        (target,) = node.targets if isinstance(node, ast.Assign) else [node.target]
        assert isinstance(target, ast.Name) and node.end_lineno is not None
        above: list[str] = []
        for line in reversed(lines[: node.lineno - 1]):
            if not line.strip().startswith("# "):
                break
            above.insert(0, line.strip()[2:])
        comment = lines[node.end_lineno - 1][node.end_col_offset :].partition("# ")[2] or " ".join(above)
        if comment:
            yield target.id, comment


@cache
def yaml_values(file: Path, prefix: str = "") -> dict[str, tuple[str, str]]:
    """Return key -> (value as code, comment on its line and on the indented lines below) for each value of a file.

    Args:
        prefix: of the keys.
    """
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()

    def values(node: yaml.MappingNode, above: str) -> Iterator[tuple[str, tuple[str, str]]]:
        for key, value in node.value:
            name = f"{above}{key.value}"
            if isinstance(value, yaml.MappingNode) and not value.flow_style:
                yield from values(value, f"{name}.")
            code = text[value.start_mark.index : value.end_mark.index].strip()
            yield name, ("see the file" if "\n" in code else f"`{code}`", _comment(lines, key.start_mark.line))

    return dict(values(yaml.compose(text), prefix))


def _comment(lines: Sequence[str], i: int) -> str:
    parts = [lines[i].partition(" # ")[2]]
    for line in lines[i + 1 :]:
        if not re.match(r" +# ", line):
            break
        parts.append(line.strip()[2:])
    return " ".join(parts).strip()
