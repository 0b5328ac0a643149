"""Compose configs from overrides. Besides the grammar of overrides, this is the only module that uses Hydra.

A composition leaves no global state behind, so it can run repeatedly, also during a sweep. `Composed` records what
commands need to know about the composition.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, cast, get_origin

import hydra
import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from llm4rec_cli.config import schema
from llm4rec_cli.config.folders import added_conf_dirs, conf_dir, conf_dirs, options, user_conf_dir, user_files
from llm4rec_cli.config.keys import all_declarations, declarations_with, key_role, value_types
from llm4rec_cli.config.overrides import GROUPS, as_typed, quoted
from llm4rec_cli.config.plugins import offered_models
from llm4rec_cli.config.reading import MOST_VALUES, n_values
from llm4rec_cli.config.registry import config_class, model_names, no_model
from llm4rec_cli.errors import UsageError, closest, did_you_mean, meant

# What Hydra raises for wrong overrides and files.
COMPOSE_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError)
# Hydra's own groups that only its application uses: without them a composition takes a quarter less.
_WITHOUT = [f"~hydra/{group}" for group in ("help", "hydra_help", "output", "env", "job_logging", "hydra_logging")]
# Of an experiment that Hydra merges below `experiment`, not into the root.
_OUTSIDE_ROOT = re.compile(
    r"In '(experiment/[^']+)': (?:ConfigKeyError .*\nKey 'experiment' not in|Could not override '[^']+@experiment\.)"
)


@dataclass(frozen=True)
class Composed:
    """A composed config and the overrides behind it.

    Attributes:
        config: the typed root node.
        typed: the overrides that the user typed, without Hydra's own.
        choices: the chosen option of each config group, by group.
    """

    config: Any
    typed: tuple[str, ...]
    choices: Mapping[str, str]


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep of a command, with its number, from 0."""

    command: str
    number: int
    composed: Composed


def compose(typed: Sequence[str]) -> Composed:
    """Compose the config from overrides in Hydra's grammar.

    Hydra takes about 0.1 s to merge the chosen options, so they are merged once, and values are set in a copy.

    Raises:
        UsageError: the composition fails; Hydra's error is its cause.
    """
    with usage_errors():
        overrides = OverridesParser.create().parse_overrides(list(typed))
        values = [override for override in overrides if not _is_option(override)]
        if not all(map(_sets_a_value, values)):  # such as ++key=value, which may depend on its place among the others
            return _with_values(typed, [])
        choices = [str(override.input_line) for override in overrides if _is_option(override)]
        kept = tuple(str(override.input_line) for override in overrides if not override.is_hydra_override())
        try:
            return replace(_with_values(choices, values), typed=kept)
        except OmegaConfBaseException:  # Hydra's own error says more
            return _with_values(typed, [])


def _with_values(typed: Sequence[str], values: Sequence[Override]) -> Composed:
    """Return what Hydra composes from overrides, in a copy of its own, with these values set."""
    merged: Composed = pickle.loads(_merge(tuple(typed), tuple(searchpath()), _files(conf_dirs())))
    for override in values:
        OmegaConf.update(merged.config, override.key_or_group, override.value(), merge=True)
    return merged


@lru_cache(maxsize=1024)
def _merge(typed: tuple[str, ...], searched: tuple[str, ...], files: tuple[object, ...]) -> bytes:
    """Compose by Hydra, and return it pickled: loading takes an eighth of the time of a deep copy. With other `files`
    than before a changed file is read again."""
    with _hydra():
        config = hydra.compose("config", overrides=[*searched, *_WITHOUT, *typed], return_hydra_config=True)
    return pickle.dumps(_composed(config, config.hydra))


def _is_option(override: Override) -> bool:
    """Return whether an override chooses an option, of Hydra too."""
    is_group = override.package is not None or any((folder / override.key_or_group).is_dir() for folder in conf_dirs())
    return is_group or override.is_hydra_override()


def _sets_a_value(override: Override) -> bool:
    """Return whether an override of a key is `key=value`: it adds or deletes no key, and is not a sweep."""
    return override.type is OverrideType.CHANGE and not override.is_sweep_override()


def _files(folders: Iterable[Path | str]) -> tuple[object, ...]:
    """Return name, time of change and size of each config file below these folders.

    By `os.scandir`, in about half the time of `Path.rglob`: it is done for each composition.
    """
    files: list[object] = []
    for entry in chain.from_iterable(map(os.scandir, folders)):
        if entry.is_dir():
            files += _files([entry.path])
        elif entry.name.endswith(".yaml"):
            with suppress(FileNotFoundError):  # an editor's lock, or removed meanwhile
                files.append((entry.path, entry.stat().st_mtime_ns, entry.stat().st_size))
    return tuple(files)


@lru_cache(maxsize=1)
def _refuse_oversized(files: tuple[object, ...]) -> None:
    """Raise an error if a file of the user's has so many or so deep values that composing would not end.

    Args:
        files: what `_files` returns: a changed file is read again.
    """
    for file in user_files():
        with suppress(OSError, UnicodeDecodeError, yaml.YAMLError):  # told if the file is composed
            if n_values(file.read_text(encoding="utf-8")) > MOST_VALUES:
                raise UsageError(f"{file} has more than {MOST_VALUES:,} values, or is too deep", "delete or repair it")


class _ParsedOnce(ConfigSource):
    """Config files as of Hydra's `file://`, each parsed once: half of a composition's time is parsing."""

    @staticmethod
    def scheme() -> str:
        return "parsed"

    def load_config(self, config_path: str) -> ConfigResult:
        file = Path(self.path, self._normalize_file_name(config_path))
        if not file.exists():
            raise ConfigLoadError(f"Config not found : {file}")
        config, header = pickle.loads(_parsed(file, file.stat().st_mtime_ns, file.stat().st_size))
        return ConfigResult(self.provider, self.full_path(), config, header)

    def is_group(self, config_path: str) -> bool:
        return Path(self.path, config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        return Path(self.path, self._normalize_file_name(config_path)).is_file()

    def available(self) -> bool:
        return self.is_group("")

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        names: list[str] = []
        for file in Path(self.path, config_path).iterdir():
            self._list_add_result(names, f"{config_path}/{file.name}", file.name, results_filter)
        return sorted(set(names))


@cache
def _parsed(file: Path, changed: int, size: int) -> bytes:
    """Return a file's content and header, pickled: Hydra may change what it loads."""
    with file.open(encoding="utf-8") as stream:
        header = ConfigSource._get_header_dict(stream.read(512))
        stream.seek(0)
        return pickle.dumps((OmegaConf.load(stream), header))


class _SearchPath(SearchPathPlugin):
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.prepend("llm4rec", f"{_ParsedOnce.scheme()}://{conf_dir()}")


def compose_prompt(model: str, name: str) -> Any:
    with _hydra():
        return hydra.compose(overrides=[*searchpath(), f"+prompt/{model}@prompt={name}"]).prompt


def model_node(name: str, settings: Sequence[str], root: DictConfig) -> Any:
    """Return the node of a model, as `compose` would with `model=NAME` and these overrides, without Hydra's tenth of a
    second: of a floor, whose file chooses no option that its settings depend on. These may refer to nodes in `root`,
    to which the model is added, in place of an earlier one.
    """
    root.model = option_node("model", name)
    for override in OverridesParser.create().parse_overrides(list(settings)):
        OmegaConf.update(root, override.key_or_group, override.value(), merge=True)
    return root.model


def option_node(group: str, name: str) -> Any:
    """Return an option's YAML merged onto the options of its group that its defaults name.

    Raises:
        UsageError: the option does not exist.
    """
    register_types()
    file = next((path for top in conf_dirs() if (path := top / group / f"{name}.yaml").exists()), None)
    if file is None:
        raise UsageError(f"unknown {group} '{name}'", did_you_mean(name, options(group)))
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    node: Any = {}
    for default in content.pop("defaults", []):
        if default != "_self_" and isinstance(default, str):
            is_type = default[0] == "_"
            below = OmegaConf.structured(node_type(f"{group}/{default}")) if is_type else option_node(group, default)
            node = OmegaConf.merge(node, below) if node else below
    return OmegaConf.merge(node, content)


def sources(typed: Sequence[str]) -> list[tuple[str, str]]:
    """Return the configs that these overrides merge, in order: the name of each and its position in the root."""
    with _hydra():
        loader = GlobalHydra.instance().config_loader()
        defaults = loader.compute_defaults_list("config", [*searchpath(), *typed], RunMode.RUN).defaults
    return [(str(default.config_path), default.package or "") for default in defaults]


def node_type(name: str) -> type[Any]:
    """Return the dataclass of a type config such as `model/_unisrec`."""
    return cast(type[Any], OmegaConf.get_type(ConfigStore.instance().load(f"{name}.yaml").node))


def launch(job: Callable[[SweepJob], None], command: str, flags: Sequence[str], typed: Sequence[str]) -> None:
    """Run Hydra's application: a sweep, with jobs in the processes that its launcher starts, or the output of a flag,
    such as `--cfg job`. Overrides are in Hydra's grammar."""
    register_types()
    _refuse_oversized(_files(filter(None, [user_conf_dir()])))
    saved = sys.argv
    sys.argv = [f"llm4rec {command}", *flags, f"hydra.job.name={command}", *searchpath(), *typed]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(partial(_run_job, job))()
    finally:
        sys.argv = saved


def _run_job(job: Callable[[SweepJob], None], config: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    job(SweepJob(hydra_config.job.name, hydra_config.job.num, _composed(config, hydra_config)))


def _composed(config: DictConfig, hydra_config: Any) -> Composed:
    choices = {k: str(name) for k, name in hydra_config.runtime.choices.items() if not k.startswith("hydra/")}
    # Hydra's sweeper writes `llm.base_url=http\://…`, which outside quotes is the same value as without the backslash.
    overrides = hydra_config.overrides.task
    typed = tuple(text if "'" in text or '"' in text else text.replace("\\:", ":") for text in overrides)
    if "hydra" in config:
        with open_dict(config):
            del config["hydra"]
    return Composed(config, typed, choices)


@contextmanager
def _hydra() -> Iterator[None]:
    """Initialise Hydra's global state while the block lasts, and then restore the previous one (of a sweep)."""
    register_types()
    _refuse_oversized(_files(filter(None, [user_conf_dir()])))
    state = GlobalHydra.instance()
    previous, state.hydra = state.hydra, None
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = previous


def searchpath() -> list[str]:
    """Return the override that makes Hydra search the configs of installed packages and the user's as well."""
    added = ",".join(quoted(f"{_ParsedOnce.scheme()}://{folder}") for folder in added_conf_dirs())
    return [f"hydra.searchpath=[{added}]"] if added else []


def problems_of_choices(choices: Mapping[str, str]) -> Iterator[UsageError]:
    """Yield an error for each chosen option whose file in the user's `./conf` is hidden by another one."""
    user = user_conf_dir()
    if user is None:
        return
    for group, name in choices.items():
        file = f"{group.partition('@')[0]}/{name}.yaml"
        if (user / file).exists() and (first := next(f for f in conf_dirs() if (f / file).exists())) != user:
            whose = "a shipped config" if first == conf_dir() else f"one in {first}"
            yield UsageError(f"conf/{file} is never read: {whose} has the same name", f"rename conf/{file}")


@cache
def register_types() -> None:
    """Register the dataclass of each config node. The names begin with `_` and cannot be chosen."""
    Plugins.instance().register(_ParsedOnce)
    Plugins.instance().register(_SearchPath)
    store = ConfigStore.instance()
    store.store(name="_config", node=schema.Config)
    store.store(group="dataset", name="_dataset", node=schema.DatasetConfig)
    store.store(group="task", name="_task", node=schema.TaskConfig)
    store.store(group="trainer", name="_trainer", node=schema.TrainerConfig)
    store.store(group="llm", name="_llm", node=schema.LLMConfig)
    store.store(group="enrichment", name="_enrichment", node=schema.EnrichmentConfig)
    for name in model_names():
        store.store(group="model", name=f"_{name}", node=config_class(name))
    # Hydra copies its sources for each composition and each group that `--help` lists, and with them this store. It is
    # not changed then, and `load` copies what it returns. Without the copies `--help` takes a fifth of the time.
    vars(store)["__deepcopy__"] = lambda memo: store


@contextmanager
def usage_errors() -> Iterator[None]:
    """Raise a UsageError where the block raises an error of Hydra, OmegaConf, YAML or of a file that is not UTF-8."""
    try:
        yield
    except COMPOSE_ERRORS as error:
        raise as_usage_error(error) from error
    except ValueError as error:
        if not str(error).startswith("Expected header format"):  # of Hydra, for a damaged `# @package …`
            raise
        raise UsageError(f"a config's first line is not a header: {error}", "write `# @package _global_`") from error


def as_usage_error(error: Exception) -> UsageError:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return UsageError(f"{mark.name}, line {mark.line + 1}: invalid YAML ({error.problem})", "fix that line")
    if isinstance(error, UnicodeDecodeError):
        file = next((file for file in user_files() if file.is_file() and file.read_bytes() == error.object), "a config")
        return UsageError(f"{file}: not UTF-8 ({error.reason} at byte {error.start})", "save the file as UTF-8")
    text = str(error)
    cause = str(error.__cause__ or "").splitlines()
    if outside := _OUTSIDE_ROOT.match(text):
        return UsageError(f"conf/{outside.group(1)}.yaml lacks its first line", "add `# @package _global_` as line 1")
    if missing := re.search(r"Could not (?:find|load) '(\w+)/([^']+)'", text):
        group, name = missing.groups()
        if name.startswith("launcher/"):
            return UsageError(
                f"unknown hydra/launcher '{name.removeprefix('launcher/')}'",
                "use joblib or submitit_local; to install them: pip install 'llm4rec[joblib,submitit]'",
            )
        if group == "model" and name.startswith("_"):
            if offered_models().problems.get(name[1:]):
                return no_model(name[1:])
            return UsageError(
                f"a YAML in conf/model names the type {name}, and no installed package has the code of {name[1:]}",
                f"llm4rec new model {name[1:]} writes such a package; for other values of a model that exists, "
                "`defaults: [sasrec, _self_]`",
            )
        if group == "dataset" and Path(name).suffix in (".csv", ".tsv", ".jsonl", ".json", ".parquet"):
            return UsageError(
                f"'{name}' is a file, and dataset= takes the name of a YAML file",
                "write conf/dataset/NAME.yaml, which names it (docs/start/your-data.md), and type dataset=NAME",
            )
        if group == "model" and offered_models().problems.get(name):
            return no_model(name)
        return UsageError(f"unknown {group} '{name}'", did_you_mean(name, options(group)))
    if unknown := re.search(r"Could not override '([^']+)'", text):
        key = unknown.group(1)
        if key == "experiment" or key.startswith(("dataset.domains.", "dataset.columns.")):
            return UsageError(f"'{key}' is not in the config yet and must be added with +", f"+{key}=…")
        if key.startswith("prompt/"):
            model = key.removeprefix("prompt/").partition("@")[0]
            return UsageError(f"the model does not use prompts of {model}", f"set model={model}, or remove prompt=…")
        return UsageError(f"unknown key '{as_typed(key)}'", _similar_keys(key, _keys(cause)))
    if several := re.match(r"Ambiguous value for argument '([^=]+)=(.+)'", text):
        key, values = several.groups()
        if key.lstrip("+") not in GROUPS and key_role(key) is None and not key.startswith("hydra"):
            return UsageError(f"unknown key '{as_typed(key)}'", _similar_keys(key, [d.key for d in all_declarations()]))
        return _several_values(key, values)
    if missing := re.match(r"Missing mandatory value: (\S+)", text):
        return UsageError(f"{missing.group(1)} has no value", f"set {missing.group(1)}=…, or add it to the YAML")
    if wrong := re.search(r"Error merging override (.+)", text):
        return _wrong_value(wrong.group(1), cause[0] if cause else text)
    if failed := re.match(r"In '([^']+)': \w+ raised while composing config:\n(.+)", text):
        name, reason = failed.groups()
        return UsageError(f"{name}: {reason}", f"llm4rec validate {name} lists all errors with file and line")
    return UsageError(text.splitlines()[0] if text else type(error).__name__, "llm4rec train --help")


def _similar_keys(key: str, known: Sequence[str]) -> str:
    """Return a remedy with the keys that an unknown one may mean; without a parent, of any node."""
    parent, _, leaf = key.rpartition(".")  # only last parts are compared: a shared parent makes all keys similar
    siblings = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == parent}
    below = defaultdict[str, list[str]](list)
    for k in known if not parent else ():
        below[k.rpartition(".")[2]].append(k)
    close = [siblings[name] for name in closest(leaf, siblings)] or [
        k for name in closest(leaf, below)[:1] for k in below[name]
    ]
    if close:
        return meant(list(map(as_typed, close)))
    listing = "llm4rec list prompts" if parent == "model.prompts" else "llm4rec train --cfg job shows every key"
    return did_you_mean(leaf, siblings) or listing


def _wrong_value(override: str, reason: str) -> UsageError:
    key, _, value = override.partition("=")
    kinds = {"Integer": "a whole number", "Float": "a number", "Bool": "true or false"}
    if (kind := re.search(r"could not be converted to (\w+)", reason)) and kind.group(1) in kinds:
        return UsageError(
            f"{override}: {key} is {kinds[kind.group(1)]}, not '{value}'", "llm4rec train --cfg job shows every value"
        )
    if choices := re.search(r"expected one of \[(.+)\]", reason):
        names = choices.group(1).split(", ")
        return UsageError(f"{override}: {key} is one of {', '.join(names)}", did_you_mean(value, names))
    return UsageError(f"{override}: {reason}", "llm4rec train --cfg job shows every value")


def _several_values(key: str, values: str) -> UsageError:
    """Return the error of a value with commas outside a sweep, with what the setting takes."""
    types, one, several = value_types(key), as_typed(f"{key}='{values}'"), as_typed(f"{key}=[{values}]")
    remedies = ["add -m to run each"]
    if any(get_origin(kind) is list for kind in types) or key.startswith("prompt/"):
        remedies.append(f"for a list, {several}")
    if str in types:
        remedies.append(f'for one value with commas, "{one}"')
    return UsageError(f"{as_typed(f'{key}={values}')} has several values", "; ".join(remedies))


def _keys(cause: list[str]) -> list[str]:
    """Return the path of every key of the schema, with the model whose class the error names."""
    match = re.search(r"not in '(\w+)'", cause[0]) if cause else None
    named = match.group(1) if match else None
    model: Any
    for model in map(config_class, model_names()):
        kinds = (model, *(setting.kind for setting in declarations_with(model) if setting.key != "model"))
        if named in (getattr(kind, "__name__", "") for kind in kinds):
            break
    else:
        model = schema.ModelConfig
    return [setting.key for setting in declarations_with(model)]
