"""`llm4rec validate`: compose every config there is, and tell all errors at once, each with its file and line.

llm4rec validate                                     the shipped configs and those in ./conf
llm4rec validate dataset/mine experiment             one option, and all options of a group
llm4rec validate conf/dataset/mine.yaml              by its file

Each option is composed in the default setting, prompts beside their model's, each experiment as it is. Looked for: keys
of no name and wrong types; where these are right, missing values, ranges, readers, roles, floors and metrics of no
name, prompts that cannot be filled or asked, and models that cannot do their task; and files in ./conf that nobody
reads. No raw file is read and nothing is computed.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from llm4rec_cli.config import ranges
from llm4rec_cli.config.compose import (
    COMPOSE_ERRORS,
    Composed,
    as_usage_error,
    compose,
    conf_dir,
    node_type,
    options,
    register_types,
    sources,
    user_conf_dir,
)
from llm4rec_cli.config.overrides import FOLDERS
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.config.schema import Config, ModelConfig
from llm4rec_cli.errors import Llm4RecError, UsageError, did_you_mean
from llm4rec_cli.runs import rules
from llm4rec_cli.runs.spec import resolved_config
from llm4rec_cli.tasks.base import asks_about_impressions

CLICK_LOG = "demo_news"  # what a task is composed with that asks about one


@dataclass(frozen=True, order=True)
class Fault:
    """One error.

    Attributes:
        file: the YAML file.
        line: from 1; 0 where it is not known.
        problem, remedy: as of an error.
    """

    file: Path
    line: int
    problem: str
    remedy: str

    def __str__(self) -> str:
        shown = self.file.relative_to(Path.cwd()) if Path.cwd() in self.file.parents else self.file
        at = f"{shown}:{self.line}" if self.line else str(shown)
        return f"{at}: {self.problem}\n  try: {self.remedy}"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "llm4rec validate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="group/option, a group, or a file (default: all)")
    asked = parser.parse_args(argv).names
    register_types()
    known = [f"{group}/{option}" for group in FOLDERS for option in options(group)]
    names = [name for text in asked for name in _named(text, known)] or known
    found = {name: faults_of(name) for name in names}
    faults = {*_unread_files(asked), *(fault for told in found.values() for fault in told)}
    located = {fault.problem for fault in faults if fault.line}  # the rest only build on what is wrong there
    faults = {fault for fault in faults if fault.line or fault.problem not in located}
    for fault in sorted(faults):
        print(fault)
    print(_summary(names, len(faults), sum(map(bool, found.values()))))
    return 2 if faults else 0


def _named(text: str, known: Sequence[str]) -> list[str]:
    """The configs that an argument names.

    Raises:
        UsageError: none.
    """
    name = text.removeprefix("./").removeprefix("conf/").removesuffix(".yaml").rstrip("/")
    group, _, option = name.partition("/")
    found = [one for one in known if one == name or one.startswith(f"{name}/") or one.partition("/")[2] == name]
    if not found:
        near = [one for one in known if one.startswith(f"{group}/")] if option else FOLDERS
        raise UsageError(f"there is no config '{text}'", did_you_mean(name, near or FOLDERS))
    return found


def _summary(names: Sequence[str], faults: int, unusable: int) -> str:
    """`29 configs (9 datasets, …): all compose, typed and whole`."""
    counts = {group: sum(name.startswith(f"{group}/") for name in names) for group in FOLDERS}
    told = [_counted(n, group) for group, n in counts.items() if n]
    if user := user_conf_dir():
        told.append(f"{sum(user in _file(name).parents for name in names)} of them in ./conf")
    result = f"{_counted(faults, 'error')}; {unusable} cannot be used" if faults else "all compose, typed and whole"
    return f"{_counted(len(names), 'config')} ({', '.join(told)}): {result}"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


# --- one config


def faults_of(name: str) -> list[Fault]:
    """What is wrong with `group/option`; where a file that it builds on is at fault, the fault is told there."""
    group, _, option = name.partition("/")
    own = partial(_located, _file(name))
    if group == "prompt" and option.partition("/")[0] not in model_names():
        return [own(UsageError("no model is asked with these prompts", "conf/prompt/p5/NAME.yaml"))]
    try:
        overrides = _choosing(group, option)
        config = _config(overrides)
        if group in ("task", "dataset") and (model := _fitting(config)):
            overrides = [*overrides, f"model={model}"]
            config = _config(overrides)
        if group == "task" and asks_about_impressions(config.task):
            config = _config([*overrides, f"dataset={CLICK_LOG}"])
    except COMPOSE_ERRORS as error:
        return _explained(overrides) or [own(as_usage_error(error))]
    except UnicodeDecodeError as error:
        return [own(UsageError(f"no UTF-8 ({error.reason} at byte {error.start})", "save the file as UTF-8"))]
    missing: list[str] = []
    problems = list(_unresolved(config, missing))
    if missing:
        remedy = "write them, or build on an option that has them: defaults: [OPTION, _self_]"
        problems.append(UsageError(f"without a value: {', '.join(missing)}", remedy))
    return [own(problem) for problem in problems or _refused(config)]


def _choosing(group: str, option: str) -> list[str]:
    """The overrides that choose an option; of prompts that have names, beside those that their model has anyway."""
    if group == "home":
        model, _, dataset = option.partition("-")
        return [f"model={model}", f"dataset={dataset}"]
    if group != "prompt":
        return [f"+experiment={option}" if group == "experiment" else f"{group}={option}"]
    model, _, name = option.partition("/")
    kind = _class_at("model.prompts", {"model": config_class(model)})
    if get_origin(kind) is not dict:  # of which a model has one, not many
        return [f"model={model}", f"prompt/{model}@model.prompts=[{name}]"]
    paths = [path.partition(f"prompt/{model}/")[2] for path, _ in sources([f"model={model}"])]
    names = dict.fromkeys([*filter(None, paths), name])
    return [f"model={model}", f"prompt/{model}@model.prompts=[{','.join(names)}]"]


def _config(overrides: Sequence[str]) -> Any:
    return compose(overrides).config


def _fitting(config: Config) -> str | None:
    """For a task, or that of a dataset, that the default model cannot do, the first that can, if there is one."""
    needed = rules.needed_capability(config.task)
    able = [name for name in model_names() if needed in config_class(name).capabilities]
    return None if config.model.name in able or not able else able[0]


def _unresolved(node: Any, missing: list[str], path: str = "") -> Iterator[UsageError]:
    """Interpolations that lead nowhere or to a value of another type; keys without a value go to `missing`."""
    for key in node:
        at = f"{path}.{key}".lstrip(".")
        try:
            value = node[key]
        except MissingMandatoryValue:
            missing.append(at)
        except OmegaConfBaseException as error:
            yield UsageError(f"{at}: {str(error).splitlines()[0]}", "write a value, or the path of another key")
        else:
            if OmegaConf.is_dict(value):
                yield from _unresolved(value, missing, at)


def _refused(node: Any) -> list[Llm4RecError]:
    """What `train` would refuse before it reads any data.

    Args:
        node: a composed config in which all is there.
    """
    from llm4rec_cli.data import prepare

    config = cast(Config, OmegaConf.to_object(node))
    found: list[Llm4RecError] = list(ranges.problems(config))
    try:
        config = resolved_config(Composed(node, (), {}))
    except UsageError as refused:
        found.append(refused)
    found += [*prepare.problems(config.dataset), *rules.problems(config)]
    return list({problem.problem: problem for problem in found}.values())


def _located(file: Path, error: Llm4RecError) -> Fault:
    """An error of a composed config, at the first line of its file that holds what the error quotes or names."""
    named = re.search(r"'([^']+)'|(\w+)=|(?:\w+\.)+(\w+)", error.problem)
    word = next(filter(None, named.groups()), "") if named else ""
    lines = enumerate(file.read_text(errors="replace").splitlines(), start=1)
    pattern = rf"(?<![\w-]){re.escape(word)}(?![\w-])"
    line = next((i for i, text in lines if word and re.search(pattern, text.partition("#")[0])), 0)
    return Fault(file, line, error.problem, error.remedy)


# --- a config that does not compose: its files one by one, each key against its type


def _explained(overrides: Sequence[str]) -> list[Fault]:
    """Every fault in the files that a composition is made of; Hydra stops at the first."""
    try:
        listed = sources(overrides)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        return [Fault(Path(mark.name), mark.line + 1, f"no YAML: {error.problem}", "mend that line")] if mark else []
    except COMPOSE_ERRORS:
        return []
    types: dict[str, type[Any]] = {}  # where in the config -> its dataclass
    files: dict[Path, str] = {}  # file -> where in the config it goes
    for path, package in listed:
        if path.rpartition("/")[2].startswith("_"):
            types[package] = node_type(path)
        elif not path.startswith("hydra/"):
            files[_file(path)] = package
    return [fault for file, package in files.items() for fault in _mistyped(file, package, types)]


def _mistyped(file: Path, package: str, types: dict[str, type[Any]]) -> Iterator[Fault]:
    content = OmegaConf.to_container(OmegaConf.load(file))
    if not isinstance(content, dict):
        yield Fault(file, 1, f"a {type(content).__name__}, where keys and their values should be", "key: value")
        return
    lines = _lines(yaml.compose(file.read_text(encoding="utf-8")), package)
    settings = {key: value for key, value in content.items() if key not in ("defaults", "hydra")}
    for key, problem, remedy in _wrong_keys(settings, package, types):
        yield Fault(file, lines[key], problem, remedy)


def _wrong_keys(content: dict[Any, Any], path: str, types: dict[str, type[Any]]) -> Iterator[tuple[str, str, str]]:
    """Of each key that does not exist or whose value has the wrong type: its path, the problem and the remedy."""
    kind = _class_at(path, types)
    for key, value in content.items():
        at = f"{path}.{key}".lstrip(".")
        if get_origin(kind) is dict:
            if isinstance(value, dict):
                yield from _wrong_keys(value, at, types)
            else:
                keys = ", ".join(field.name for field in fields(_class_at(at, types)))
                yield at, f"'{key}' holds a {type(value).__name__}, where keys and their values should be", keys
        elif key not in (field.name for field in fields(kind)):
            yield at, f"unknown key '{at}'", _nearest(str(key), path, kind, types)
        elif isinstance(value, dict) and _class_at(at, types) is not type(None):
            yield from _wrong_keys(value, at, types)
        else:
            try:
                OmegaConf.structured(kind)[key] = value
            except OmegaConfBaseException as error:
                yield at, f"{at}: {str(error).splitlines()[0]}", "llm4rec train --cfg job shows values that fit"


def _class_at(path: str, types: dict[str, type[Any]]) -> type[Any]:
    """The dataclass of a node of the config, or a dictionary of those by names of one's own; NoneType where a key holds
    neither."""
    if not path:
        return Config
    if path in types:
        return types[path]
    parent, _, key = path.rpartition(".")
    holder = _class_at(parent, types)
    if get_origin(holder) is dict:
        return cast(type[Any], get_args(holder)[1])
    hint = get_type_hints(holder)[key]
    if get_origin(hint) is dict and is_dataclass(get_args(hint)[1]):
        return cast(type[Any], hint)
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return next((kind for kind in kinds if is_dataclass(kind)), type(None))  # type: ignore[return-value]


def _nearest(key: str, path: str, kind: type[Any], types: dict[str, type[Any]]) -> str:
    """The key of this node that was meant, or the node that has such a key."""
    if kind is ModelConfig:
        return f"say whose settings these are: defaults: [_NAME, _self_], NAME one of {', '.join(model_names())}"
    own = [field.name for field in fields(kind)]
    if not difflib.get_close_matches(key, own, n=1, cutoff=0.6):
        for field in fields(Config):
            other = _class_at(field.name, types)
            if field.name != path and is_dataclass(other) and key in (f.name for f in fields(other)):
                return f"it is a key of {field.name}: {field.name}.{key}"
    return did_you_mean(key, own)


def _lines(node: Any, path: str) -> dict[str, int]:
    """The line of each key of a YAML document, by its path in the config."""
    found: dict[str, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            at = f"{path}.{key.value}".lstrip(".")
            found |= {at: key.start_mark.line + 1, **_lines(value, at)}
    return found


# --- files


def _file(name: str) -> Path:
    """Where Hydra finds a config: the shipped ones come first."""
    roots = [conf_dir(), *([user] if (user := user_conf_dir()) else [])]
    return next(file for root in roots if (file := root / f"{name}.yaml").exists())


def _unread_files(asked: Sequence[str]) -> Iterator[Fault]:
    """Files in ./conf that look like configs and that nothing reads."""
    user = user_conf_dir()
    if user is None or asked:
        return
    for file in sorted(user.rglob("*.y*ml")):
        group, _, option = file.relative_to(user).as_posix().partition("/")
        if not option:
            yield Fault(file, 0, "nobody reads this file: the root is the shipped one", "write an experiment")
        elif group not in FOLDERS:
            remedy = did_you_mean(group, FOLDERS)
            yield Fault(file, 0, f"nobody reads this file: no config group is called '{group}'", remedy)
        elif file.suffix != ".yaml":
            yield Fault(file, 0, f"nobody reads a file that ends on {file.suffix}", f"call it {file.stem}.yaml")
        elif _file(f"{group}/{option.removesuffix('.yaml')}") != file:
            yield Fault(file, 0, "nobody reads this file: the shipped one of its name comes first", "rename it")
