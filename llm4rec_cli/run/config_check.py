"""Checks of configs: compose each, and report all of its problems, with file and line."""

from __future__ import annotations

import difflib
import gc
import logging
import multiprocessing
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, get_args, get_origin

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from llm4rec_cli.config import ranges, statement_check, statements
from llm4rec_cli.config.commands import commands
from llm4rec_cli.config.compose import (
    COMPOSE_ERRORS,
    Composed,
    compose,
    node_type,
    register_types,
    sources,
    usage_errors,
)
from llm4rec_cli.config.folders import conf_dirs, options, user_conf_dir
from llm4rec_cli.config.overrides import FOLDERS, hydra_override
from llm4rec_cli.config.registry import config_class, model_names, models_with
from llm4rec_cli.config.resolved import resolved_config
from llm4rec_cli.config.schema import Config, ModelConfig
from llm4rec_cli.config.walk import declarations
from llm4rec_cli.data import prepare
from llm4rec_cli.errors import Llm4RecError, UsageError, did_you_mean
from llm4rec_cli.run import rules
from llm4rec_cli.tasks.base import ranks_impressions

log = logging.getLogger(__name__)

T = TypeVar("T")

MANY = 20  # configs, of which each takes a tenth of a second
CLICK_LOG = "demo_news"  # the dataset with which a task that evaluates on impressions is composed

Nodes = Mapping[str, Any]  # path in the config -> its dataclass, or `dict[str, dataclass]` of user-named entries


class Folder(NamedTuple):
    """A folder of conf/ whose files do not belong to a config; a user's file there replaces a shipped one.

    Attributes:
        noun: what a file is.
        problems: returns the problems of a file, given its path and its name in the folder.
    """

    noun: str
    problems: Callable[[Path, str], Sequence[Llm4RecError]]


@cache
def data_folders() -> Mapping[str, Folder]:
    """Return these folders by name: of statements on models, and what commands read, by their `config_folders()`."""
    found = {statements.GROUP: Folder("statement file", statement_check.problems)}
    for command in commands().values():
        if not command.defines("config_folders"):
            continue
        try:
            read = command.load().config_folders()
        except UsageError as error:  # of a package, whose faults stop no other check
            log.warning("%s; %s", error.problem, error.remedy)
            continue
        if taken := read.keys() & {*FOLDERS, *found}:
            log.warning("conf/%s of the command %s is another's", sorted(taken)[0], command.typed)
        found |= {name: folder for name, folder in read.items() if name not in taken}
    return found


def read_folders() -> tuple[str, ...]:
    """Return the folders of conf/ that are read."""
    return (*FOLDERS, *data_folders())


@dataclass(frozen=True, order=True)
class ConfigProblem:
    """One error in a config file."""

    file: Path
    line: int  # from 1; 0 if unknown
    problem: str
    remedy: str

    def __str__(self) -> str:
        path = self.file.relative_to(Path.cwd()) if Path.cwd() in self.file.parents else self.file
        place = f"{path}:{self.line}" if self.line else str(path)
        return f"{place}: {self.problem}\n  try: {self.remedy}"


def check(names: Sequence[str], everything: bool) -> tuple[list[ConfigProblem], int]:
    """Return the problems of configs, in order, and the number of configs with problems.

    Args:
        everything: whether these are all configs, so that any file that is never read is a problem.
    """
    register_types()
    problems_of_overrides.cache_clear()  # the files may have changed
    by_name = dict(zip(names, _in_processes(problems_in, names), strict=True))
    problems = {
        *_unread_files(() if everything else names),
        *(problem for some in by_name.values() for problem in some),
    }
    located = {problem.problem for problem in problems if problem.line}  # repeated by the configs that build on them
    problems = {problem for problem in problems if problem.line or problem.problem not in located}
    return sorted(problems), sum(map(bool, by_name.values()))


def _in_processes(function: Callable[[str], T], names: Sequence[str]) -> list[T]:
    """Return the function's values of all names, computed by one process a core if there are many."""
    if len(names) < MANY:
        return [function(name) for name in names]
    fork = multiprocessing.get_context("fork")
    rarely = (100_000,)  # objects until garbage is collected, which otherwise takes a tenth of the time
    with ProcessPoolExecutor(mp_context=fork, initializer=gc.set_threshold, initargs=rarely) as pool:
        return list(pool.map(function, names))


def known_configs() -> list[str]:
    """Return `group/option` of every config."""
    return [f"{group}/{option}" for group in read_folders() for option in options(group)]


# --- one config


def problems_in(name: str) -> list[ConfigProblem]:
    """Return the problems of `group/option`; those in a file that it builds on are reported in that file."""
    group, _, option = name.partition("/")
    locate = partial(_located, file_of(name))
    if folder := data_folders().get(group):
        try:
            return [locate(problem) for problem in folder.problems(file_of(name), option)]
        except UsageError as error:
            return [locate(error)]
    if group == "prompt" and option.partition("/")[0] not in model_names():
        return [locate(UsageError("no model uses these prompts", "move the file to conf/prompt/p5/NAME.yaml"))]
    overrides = [f"model={option.partition('/')[0]}"] if group == "prompt" else []  # which `_overrides_for` may compose
    try:
        with usage_errors():
            overrides = _overrides_for(group, option)
            config = composed_node(overrides)
            if group in ("task", "dataset") and (model := _suitable_model(config)):
                overrides = [*overrides, f"model={model}"]
                config = composed_node(overrides)
            if group == "task" and ranks_impressions(config.task):
                config = composed_node([*overrides, f"dataset={CLICK_LOG}"])
    except UsageError as error:
        return _problems_of_files(overrides) or [locate(error)]
    missing: list[str] = []
    problems = list(_unresolved(config, missing))
    if missing:
        remedy = "add them, or build on an option that has them: defaults: [OPTION, _self_]"
        problems.append(UsageError(f"missing values: {', '.join(missing)}", remedy))
    return [locate(problem) for problem in problems or _problems_before_data(config)]


@cache
def problems_of_overrides(overrides: tuple[str, ...]) -> list[Llm4RecError]:
    """Return why `train` would refuse these overrides, which several tables may share, before it reads data."""
    try:
        with usage_errors():
            return _problems_before_data(composed_node([hydra_override(override) for override in overrides]))
    except UsageError as error:
        return [error]


def _overrides_for(group: str, option: str) -> list[str]:
    """Return the overrides that choose an option; for named prompts, together with the model's default prompts."""
    if group in ("home", "size"):
        model, _, other = option.partition("-")
        return [f"model={model}", f"{'dataset' if group == 'home' else 'trainer'}={other}"]
    if group != "prompt":
        return [f"+experiment={option}" if group == "experiment" else f"{group}={option}"]
    model, _, name = option.partition("/")
    prompts = _node_types({"model": config_class(model)}).get("model.prompts")
    names = [name]
    if get_origin(prompts) is dict:  # a model with named prompts has several files of them
        paths = [path.partition(f"prompt/{model}/")[2] for path, _ in sources([f"model={model}"])]
        names = list(dict.fromkeys([*filter(None, paths), name]))
    return [f"model={model}", f"prompt/{model}@model.prompts=[{','.join(names)}]"]


def composed_node(overrides: Sequence[str]) -> Any:
    """Return the composed config, which may lack values."""
    return compose(overrides).config


def _suitable_model(config: Config) -> str | None:
    """Return the first model that supports the task; None if the config's own model does, or no model does."""
    capability = rules.needed_capability(config.task)
    suitable = models_with(capability)
    return None if config.model.name in suitable or not suitable else suitable[0]


def _unresolved(node: Any, missing: list[str], path: str = "") -> Iterator[UsageError]:
    """Yield the interpolations that do not resolve to a valid value; add keys without a value to `missing`."""
    for name in node:
        key = f"{path}.{name}".lstrip(".")
        try:
            value = node[name]
        except MissingMandatoryValue:
            missing.append(key)
        except OmegaConfBaseException as error:
            yield UsageError(f"{key}: {str(error).splitlines()[0]}", "write a value, or the path of another key")
        else:
            if OmegaConf.is_dict(value):
                yield from _unresolved(value, missing, key)


def _problems_before_data(node: Any) -> list[Llm4RecError]:
    """Return the problems for which `train` refuses a composed config without missing values before it reads data."""
    config = cast(Config, OmegaConf.to_object(node))
    problems: list[Llm4RecError] = list(ranges.problems(config))
    try:
        config = resolved_config(Composed(node, (), {}))
    except UsageError as error:
        problems.append(error)
    problems += [*prepare.problems(config.dataset), *rules.problems(config)]
    return list({problem.problem: problem for problem in problems}.values())


def _located(file: Path, error: Llm4RecError) -> ConfigProblem:
    """Return an error of a composed config with the first line of its file that holds the word that the error names."""
    match = re.search(r"'([^']+)'|(\w+)=|(?:\w+\.)+(\w+)", error.problem)
    word = next(filter(None, match.groups()), "") if match else ""
    lines = enumerate(file.read_text(errors="replace").splitlines(), start=1)
    pattern = rf"(?<![\w-]){re.escape(word)}(?![\w-])"
    line = next((i for i, text in lines if word and re.search(pattern, text.partition("#")[0])), 0)
    return ConfigProblem(file, line, error.problem, error.remedy)


# --- a config that does not compose: its files one by one, each key against its type


def _problems_of_files(overrides: Sequence[str]) -> list[ConfigProblem]:
    """Return all problems in the files of a composition; Hydra stops at the first."""
    try:
        configs = sources(overrides)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        if mark is None:
            return []
        return [ConfigProblem(Path(mark.name), mark.line + 1, f"invalid YAML: {error.problem}", "fix that line")]
    except (*COMPOSE_ERRORS, ValueError):  # the latter for a damaged `# @package …`
        return []
    types: dict[str, type] = {"": Config}  # path in the config -> its dataclass
    files: dict[Path, str] = {}  # file -> its path in the config
    for name, path in configs:
        if name.rpartition("/")[2].startswith("_"):
            types[path] = node_type(name)
        elif not name.startswith("hydra/"):
            files[file_of(name)] = path
    nodes = _node_types(types)
    return [problem for file, path in files.items() if path in nodes for problem in _type_problems(file, path, nodes)]


def _type_problems(file: Path, path: str, nodes: Nodes) -> Iterator[ConfigProblem]:
    """Yield the unknown keys and wrong types of a file that goes to `path` in the config."""
    content = OmegaConf.to_container(OmegaConf.load(file))
    if not isinstance(content, dict):
        yield ConfigProblem(file, 1, f"the file has type {type(content).__name__} instead of keys", "write key: value")
        return
    lines = _lines(yaml.compose(file.read_text(encoding="utf-8")), path)
    values = {key: value for key, value in content.items() if key not in ("defaults", "hydra")}
    for key, problem, remedy in _wrong_keys(values, path, nodes):
        yield ConfigProblem(file, lines[key], problem, remedy)


def _wrong_keys(content: dict[Any, Any], path: str, nodes: Nodes) -> Iterator[tuple[str, str, str]]:
    """Yield the path, problem and remedy of each unknown key and each value of a wrong type."""
    node = nodes[path]
    for name, value in content.items():
        key = f"{path}.{name}".lstrip(".")
        if get_origin(node) is dict:
            (_, entry) = get_args(node)
            if isinstance(value, dict):
                yield from _wrong_keys(value, key, {**nodes, **_node_types({key: entry})})
            else:
                keys = ", ".join(field.name for field in fields(entry))
                yield key, f"'{name}' has type {type(value).__name__} instead of keys", f"write its keys: {keys}"
        elif name not in (field.name for field in fields(node)):
            yield key, f"unknown key '{key}'", _nearest(str(name), path, nodes)
        elif isinstance(value, dict) and key in nodes:
            yield from _wrong_keys(value, key, nodes)
        else:
            try:
                OmegaConf.structured(node)[name] = value
            except OmegaConfBaseException as error:
                yield key, f"{key}: {str(error).splitlines()[0]}", "see valid values: llm4rec train --cfg job"


def _node_types(types: Nodes) -> Nodes:
    """Return the type of every node by its path: a dataclass, or `dict[str, dataclass]` for user-named entries, from
    the dataclasses that configs choose: `{"model": UniSRecConfig}`."""
    nodes: Nodes = {}
    for path, holder in sorted(types.items()):  # the root first: its nodes are replaced by more specific ones
        below = {setting.key: setting.kind for setting in declarations(holder, path) if setting.is_node}
        nodes = {**nodes, path: holder, **below}
    return nodes


def _nearest(key: str, path: str, nodes: Nodes) -> str:
    """Return a remedy that names the closest key of the node, or the group that has this key."""
    if nodes[path] is ModelConfig:
        return f"name the model whose settings these are: defaults: [_NAME, _self_], NAME in {', '.join(model_names())}"
    keys = [field.name for field in fields(nodes[path])]
    if not difflib.get_close_matches(key, keys, n=1, cutoff=0.6) and not path.startswith("model.prompts"):
        for group in (field.name for field in fields(Config) if field.name in nodes and field.name != path):
            if key in (field.name for field in fields(nodes[group])):
                return f"it is a key of {group}: {group}.{key}"
    return did_you_mean(key, keys)


def _lines(node: Any, path: str) -> dict[str, int]:
    """Return the line of each key of a YAML document, by its path in the config."""
    lines: dict[str, int] = {}
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            key = f"{path}.{name.value}".lstrip(".")
            lines |= {key: name.start_mark.line + 1, **_lines(value, key)}
    return lines


# --- files


def file_of(name: str) -> Path:
    """Return the file of a config: as in Hydra's search path, shipped ones come first, but for data folders."""
    roots = conf_dirs()
    if name.partition("/")[0] in data_folders():
        roots.reverse()
    return next(file for root in roots if (file := root / f"{name}.yaml").exists())


def _unread_files(names: Sequence[str]) -> Iterator[ConfigProblem]:
    """Yield the YAML files in ./conf that are never read: all, or those with these names, as `group/option`."""
    user = user_conf_dir()
    if user is None:
        return
    for file in sorted(user.rglob("*.y*ml")):
        if names and file.relative_to(user).with_suffix("").as_posix() not in names:
            continue
        group, _, option = file.relative_to(user).as_posix().partition("/")
        if not option:
            problem, remedy = "the root config is always the shipped one", "write conf/experiment/NAME.yaml instead"
        elif group not in read_folders():
            problem, remedy = f"unknown config group '{group}'", did_you_mean(group, read_folders())
        elif file.suffix != ".yaml":
            problem, remedy = f"its name ends in {file.suffix}", f"rename it to {file.stem}.yaml"
        elif file_of(f"{group}/{option.removesuffix('.yaml')}") != file:
            problem, remedy = "a shipped config has the same name", "rename it"
        else:
            continue
        yield ConfigProblem(file, 0, f"this file is never read: {problem}", remedy)
