"""The options of config groups: how they are sorted and described, without composing them, which would be slow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from llm4rec_cli.config.compose import COMPOSE_ERRORS, compose_prompt
from llm4rec_cli.config.folders import conf_dir, conf_dirs, options
from llm4rec_cli.config.plugins import conf_folders
from llm4rec_cli.config.reading import read_yaml
from llm4rec_cli.config.registry import config_class, load_module, model_names, plugin_of
from llm4rec_cli.config.schema import Candidates, ModelConfig, ModelKind, PromptTable, Question, TaskConfig
from llm4rec_cli.errors import UsageError, did_you_mean
from llm4rec_cli.results.tables import Content, is_wide
from llm4rec_cli.run.rules import needed_capability

RAW_FILES = ("generated", "downloaded", "by hand")
# The order of tasks by their questions; None for those of installed packages.
TASKS = (Question.rank, Question.rate, Question.write, None, Question.pretrain, Question.all)


def sorted_by_use(group: str) -> list[str]:
    """Return the options of a group: a user's own, then by `_use`, then the default, then by name."""
    defaults = yaml.safe_load((conf_dir() / "config.yaml").read_text())["defaults"]
    default = next((d[group] for d in defaults if isinstance(d, dict) and group in d), None)
    return sorted(descriptions(group), key=lambda option: (_use(group, option), option != default, option))


def _use(group: str, option: str) -> int:
    """Return the place of an option's kind in its group; -1 for a user's own option."""
    if not any((folder / group / f"{option}.yaml").exists() for folder in (conf_dir(), *conf_folders())):
        return -1
    if group == "model":
        return [*ModelKind.__members__].index(model.traits.kind.name) if (model := _model_class(option)) else -1
    if group == "dataset":
        return RAW_FILES.index(_raw_files(option))
    if group == "task":
        question = _task(option).question
        return TASKS.index(question if question in TASKS else None)
    return int(group == "experiment" and "demo" not in option)


def _model_class(option: str) -> type[ModelConfig] | None:
    """Return the config class of an option of `model`; None for a YAML of a model that no package has."""
    name = option if option in model_names() else str(content_of("model", option).get("name", option))
    return config_class(name) if name in model_names() else None


def _kind_of_model(option: str) -> str:
    model, plugin = _model_class(option), plugin_of(option)
    package = f", of {plugin.distribution} {plugin.version}" if plugin and not plugin.is_ours else ""
    return f"{model.traits.kind.name}{package}" if model else f"no code: llm4rec new model {option}"


def _raw_files(dataset: str) -> str:
    """Return how a dataset's raw files are obtained, as one of RAW_FILES."""
    content = content_of("dataset", dataset)
    return RAW_FILES[0 if content.get("generator") else 1 if content.get("download") else 2]


def _task(option: str) -> TaskConfig:
    content = content_of("task", option)
    candidates = Candidates[content.get("candidates", Candidates.full.name)]
    return TaskConfig(name=content["name"], question=content["question"], candidates=candidates)


def content_of(group: str, option: str) -> Mapping[str, Any]:
    """Return the keys of an option's YAML and of the options in its group that it builds on."""
    content = read_yaml(_file(group, option)) or {}
    merged: Mapping[str, Any] = {}
    for parent in content.pop("defaults", []):
        if isinstance(parent, str) and any((top / group / f"{parent}.yaml").exists() for top in conf_dirs()):
            merged = {**merged, **content_of(group, parent)}
    return {**merged, **content}


def _file(group: str, option: str) -> Path:
    """Return the YAML of an option; of two with one name the shipped one, which is composed."""
    return next(file for folder in conf_dirs() if (file := folder / group / f"{option}.yaml").exists())


def descriptions(group: str) -> dict[str, str]:
    """Return the options of a config group, each with the first comment line of its file."""
    by_option = {}
    for option in options(group):
        lines = _file(group, option).read_text(encoding="utf-8", errors="replace").splitlines()
        by_option[option] = next(
            (line[1:].strip() for line in lines if line.startswith("# ") and "@package" not in line), ""
        )
    return by_option


def _prompts_in(file: str) -> PromptTable:
    """Return the prompts of a file and of those that it builds on. Raises UsageError if it cannot be composed, has
    unknown keys or wrong types, or a prompt is invalid."""
    model, _, name = file.partition("/")
    prompts: Any = load_module(model, "prompts")
    try:
        table: PromptTable = prompts.prompt_table(compose_prompt(model, name))
        return table
    except COMPOSE_ERRORS as error:
        raise UsageError(
            f"prompts '{file}': {str(error).splitlines()[0]}", f"llm4rec validate prompt/{file}"
        ) from error


# --- tables


def tables(group: str, names: Sequence[str] = ()) -> list[Content]:
    """Return a table of a group's options, or a table for each file of prompts with one of these names, or for all."""
    if group == "prompt":
        return [*_prompt_tables(names)]
    columns = {group: sorted_by_use(group)}
    if group == "model":
        columns |= {"kind": list(map(_kind_of_model, columns[group])), "tasks": _tasks_of_models(columns[group])}
    elif group == "dataset":
        columns |= {"raw files": list(map(_raw_files, columns[group]))}
    return [_described(group, columns)]


def _tasks_of_models(options: Sequence[str]) -> list[str]:
    needed = {task: needed_capability(_task(task)) for task in sorted_by_use("task")}
    can = [model.traits.capabilities if (model := _model_class(option)) else () for option in options]
    return [", ".join(task for task, capability in needed.items() if capability in of_model) for of_model in can]


def _described(group: str, columns: dict[str, list[str]]) -> Content:
    """Return a table of options, the first of `columns`, whose last column describes them: in one sentence, or
    completely under `--wide`."""
    in_full = descriptions(group)
    options, *_ = columns.values()
    texts = [in_full[option] if is_wide() else first_sentence(in_full[option]) for option in options]
    rows = list(zip(*columns.values(), texts, strict=True))
    shortened = any(text != in_full[option].removesuffix(".") for option, text in zip(options, texts, strict=True))
    notes = ["complete descriptions: --wide"] if shortened else []
    return Content(f"{group}s", [*columns, "description"], rows, notes, whole=[next(iter(columns))])


def first_sentence(text: str) -> str:
    """Return the text up to the first full stop or question mark that a capital letter or a number follows."""
    return re.split(r"(?<=[.?]) (?=[A-Z\d])", text)[0].removesuffix(".")


def _prompt_tables(names: Sequence[str]) -> Iterator[Content]:
    """Yield one table per prompt file. Names may lack their model (`rating`), and none means all. Raises UsageError if
    a file does not exist, or its content is invalid."""
    with_prompts = [name for name in model_names() if "prompts" in config_class(name).__dataclass_fields__]
    available = [option for option in options("prompt") if option.partition("/")[0] in with_prompts]
    files = [file for file in available if not names or {file, file.partition("/")[2]} & {*names}]
    for name in names:
        if not any(name in (file, file.partition("/")[2]) for file in files):
            raise UsageError(
                f"unknown prompts '{name}'",
                did_you_mean(name, [*available, *(file.partition("/")[2] for file in available)]),
            )
    by_file = descriptions("prompt")
    for file in files:
        table, path = _prompts_in(file), _file("prompt", file)
        model = file.partition("/")[0]
        copied = f"a changed copy is conf/prompt/{model}/NAME.yaml, chosen by prompt={model}/NAME"
        yield Content(f"{file}: {by_file[file]}", table.columns, table.rows, [f"file: {path}", copied])
