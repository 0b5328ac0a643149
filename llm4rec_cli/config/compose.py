"""The one module that talks to Hydra: composes configs out of overrides.

A composition leaves no state behind, so one may follow another, or be made while a sweep goes on. What a command needs
to know of how its config came about is in `Composed`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from llm4rec_cli.config import schema
from llm4rec_cli.config.keys import declared_with
from llm4rec_cli.config.overrides import quoted
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.errors import UsageError, did_you_mean

NOT_COMPOSED = (HydraException, OmegaConfBaseException, yaml.YAMLError)  # what `compose` raises of wrong overrides


@dataclass(frozen=True)
class Composed:
    """A config, and how it came about.

    Attributes:
        config: the typed node of the root.
        typed: the overrides that were typed, without Hydra's own.
        choices: the option chosen of each config group, by group.
    """

    config: Any
    typed: tuple[str, ...]
    choices: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        command: which is swept.
        number: of the job, from 0.
        composed: its config.
    """

    command: str
    number: int
    composed: Composed


def compose(typed: Sequence[str]) -> Composed:
    """The config that these overrides make, in Hydra's grammar.

    Raises:
        HydraException, OmegaConfBaseException, YAMLError: they make none; `as_usage_error` says it in our words.
    """
    with _hydra():
        config = hydra.compose("config", overrides=[*searchpath(), *typed], return_hydra_config=True)
    return _composed(config, config.hydra)


def compose_prompt(model: str, name: str) -> Any:
    """The node of one prompt of a model, by itself."""
    with _hydra():
        return hydra.compose(overrides=[*searchpath(), f"+prompt/{model}@prompt={name}"]).prompt


def sources(typed: Sequence[str]) -> list[tuple[str, str]]:
    """The configs that these overrides bring together, in their order: the name of each, and its place in the root."""
    with _hydra():
        loader = GlobalHydra.instance().config_loader()
        listed = loader.compute_defaults_list("config", [*searchpath(), *typed], RunMode.RUN).defaults
    return [(str(one.config_path), one.package or "") for one in listed]


def node_type(name: str) -> type[Any]:
    """The dataclass behind a config of types, `model/_unisrec`."""
    return cast(type[Any], OmegaConf.get_type(ConfigStore.instance().load(f"{name}.yaml").node))


def launch(job: Callable[[Job], None], command: str, flags: Sequence[str], typed: Sequence[str]) -> None:
    """Hydra's own application: a sweep, each job in whichever process its launcher starts; or what a flag shows.

    Args:
        flags: Hydra's, `-m` or `--cfg job` and the like.
    """
    register_types()
    saved = sys.argv
    sys.argv = [f"llm4rec {command}", *flags, f"hydra.job.name={command}", *searchpath(), *typed]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(partial(_run_job, job))()
    finally:
        sys.argv = saved


def _run_job(job: Callable[[Job], None], config: DictConfig) -> None:
    facts = HydraConfig.get()
    job(Job(facts.job.name, facts.job.num, _composed(config, facts)))


def _composed(config: DictConfig, facts: Any) -> Composed:
    typed, choices = tuple(facts.overrides.task), {key: str(name) for key, name in facts.runtime.choices.items()}
    if "hydra" in config:
        with open_dict(config):
            del config["hydra"]
    return Composed(config, typed, {key: name for key, name in choices.items() if not key.startswith("hydra/")})


@contextmanager
def _hydra() -> Iterator[None]:
    """Hydra's state, which is one a process, for as long as the block lasts; that of a sweep is put aside."""
    register_types()
    state = GlobalHydra.instance()
    kept, state.hydra = state.hydra, None
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = kept


# --- where configs are


def conf_dir() -> Path:
    """The shipped configs: beside the package in a checkout or editable install, inside it in a wheel."""
    package = Path(__file__).parents[1]
    beside = package.parent / "conf"
    return beside if (beside / "config.yaml").exists() else package / "conf"


def user_conf_dir() -> Path | None:
    """`./conf` of the working directory, if it is not the shipped one."""
    found = Path.cwd() / "conf"
    return found if found.is_dir() and found.resolve() != conf_dir().resolve() else None


def searchpath() -> list[str]:
    """The override that makes Hydra look into the user's conf too."""
    return [f"hydra.searchpath=[{quoted(f'file://{user}')}]"] if (user := user_conf_dir()) else []


def options(group: str) -> list[str]:
    """What a group offers: the YAML files of the shipped and the user's conf."""
    folders = [conf_dir() / group] + ([user / group] if (user := user_conf_dir()) else [])
    files = (file.relative_to(folder) for folder in folders for file in folder.rglob("*.yaml"))
    return sorted({file.with_suffix("").as_posix() for file in files})


@cache
def register_types() -> None:
    """Gives each config node its dataclass; the names begin with `_` and cannot be chosen."""
    store = ConfigStore.instance()
    store.store(name="_config", node=schema.Config)
    store.store(group="dataset", name="_dataset", node=schema.DatasetConfig)
    store.store(group="task", name="_task", node=schema.TaskConfig)
    store.store(group="trainer", name="_trainer", node=schema.TrainerConfig)
    store.store(group="llm", name="_llm", node=schema.LLMConfig)
    store.store(group="enrichment", name="_enrichment", node=schema.EnrichmentConfig)
    for name in model_names():
        store.store(group="model", name=f"_{name}", node=config_class(name))


# --- what is wrong with overrides, in our words


def as_usage_error(error: Exception) -> UsageError:
    """Hydra's, OmegaConf's and YAML's errors in two lines."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        at = error.problem_mark
        return UsageError(f"{at.name}, line {at.line + 1}: no YAML ({error.problem})", "mend that line")
    text = str(error)
    cause = str(error.__cause__ or "").splitlines()
    if missing := re.search(r"Could not (?:find|load) '(\w+)/([^']+)'", text):
        group, name = missing.groups()
        if name.startswith("launcher/"):
            return UsageError(
                f"unknown hydra/launcher '{name.removeprefix('launcher/')}'",
                "joblib or submitit_local, once installed: pip install 'llm4rec[joblib,submitit]'",
            )
        return UsageError(f"unknown {group} '{name}'", did_you_mean(name, options(group)))
    if unknown := re.search(r"Could not override '([^']+)'", text):
        key = unknown.group(1)
        if key == "experiment" or key.startswith(("dataset.domains.", "dataset.columns.")):
            return UsageError(f"'{key}' is no part of the config, but is added to it", f"+{key}=…")
        if key.startswith("prompt/"):
            remedy = f"model={key.removeprefix('prompt/').partition('@')[0]}, or leave it out"
            return UsageError("the model is one without such prompts: 'prompt' cannot be chosen", remedy)
        parent, _, leaf = key.rpartition(".")  # compared by their last part: with the parent all would be alike
        near = [k.rpartition(".")[2] for k in _keys(cause) if k.rpartition(".")[0] == parent]
        shown = key.replace("model.prompts.", "prompt.", 1)  # as it is typed
        return UsageError(f"unknown key '{shown}'", did_you_mean(leaf, near))
    if several := re.match(r"Ambiguous value for argument '([^=]+)=(.+)'", text):
        key, values = several.groups()
        return UsageError(
            f"{key}={values} is several values",
            f"-m, to run each; {key}=[{values}], for a list; \"{key}='{values}'\", for one that holds commas",
        )
    if missing := re.match(r"Missing mandatory value: (\S+)", text):
        return UsageError(f"{missing.group(1)} has no value", f"{missing.group(1)}=…, or write it into its YAML")
    if wrong := re.search(r"Error merging override (.+)", text):
        return UsageError(
            f"{wrong.group(1)}: {cause[0] if cause else text}", "llm4rec train --cfg job shows every value"
        )
    if composed := re.match(r"In '([^']+)': \w+ raised while composing config:\n(.+)", text):
        name, wrong_in_file = composed.groups()
        return UsageError(f"{name}: {wrong_in_file}", f"llm4rec validate {name} tells all that is wrong, and where")
    return UsageError(text.splitlines()[0] if text else type(error).__name__, "llm4rec train --help")


def _keys(cause: list[str]) -> list[str]:
    """Return the path of every key of the schema; of models, those of the one with the class that the error names."""
    match = re.search(r"not in '(\w+)'", cause[0]) if cause else None
    named = match.group(1) if match else None
    model: Any
    for model in map(config_class, model_names()):
        kinds = (model, *(setting.kind for setting in declared_with(model)))
        if named in (getattr(kind, "__name__", "") for kind in kinds):
            break
    else:
        model = schema.ModelConfig
    return ["model", *(setting.key for setting in declared_with(model))]
