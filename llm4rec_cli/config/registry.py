"""The available models, of the folder `models/` and of installed packages, and their config classes.

A method is a package `models/NAME/` with modules `config` and `model`. A floor or small baseline is a module
`models/baselines/NAME.py`, with its config class in `models/baselines/config.py`. The config class of `item_knn` is
`ItemKnnConfig`, in any case. Other packages offer models by entry points: `plugins`.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import cast

from llm4rec_cli.config.plugins import MODELS, NOT_MODELS, Plugin, baselines, offered_models, shipped_models
from llm4rec_cli.config.schema import ModelConfig
from llm4rec_cli.errors import UsageError, did_you_mean


@cache
def model_names() -> tuple[str, ...]:
    return tuple(sorted({*shipped_models(), *offered_models().plugins}))


def plugin_of(name: str) -> Plugin | None:
    """Return the installed package that offers a model; None for a model of ours."""
    return offered_models().plugins.get(name)


def load_module(name: str, part: str) -> ModuleType:
    """Import a module of a model: `config`, `model` (with torch) or `published`."""
    if plugin := plugin_of(name):
        return plugin.load(part)
    package = "llm4rec_cli.models"
    if name in baselines():
        return importlib.import_module(f"{package}.baselines.{name if part == 'model' else part}")
    return importlib.import_module(f"{package}.{name}.{part}")


def source_files(name: str) -> dict[str, Path]:
    """Return the files of a model's package, or the module of a floor or small baseline, without what models share, by
    their path below the folder of packages."""
    if name in baselines():
        return {f"baselines/{name}.py": MODELS / "baselines" / f"{name}.py"}
    folder = plugin.folder if (plugin := plugin_of(name)) else MODELS / name
    return {str(file.relative_to(folder.parent)): file for file in sorted(folder.rglob("*.py"))}


@cache
def config_class(name: str) -> type[ModelConfig]:
    """Return the config class of a model, without importing torch.

    Raises:
        UsageError: the model does not exist.
    """
    if name not in model_names():
        raise no_model(name)
    module = load_module(name, "config")
    class_name = f"{name.replace('_', '')}config"
    classes = [value for key, value in vars(module).items() if key.lower() == class_name]
    if len(classes) != 1:
        raise UsageError(
            f"{module.__file__} has no class of the settings of {name}",
            f"name it {name.title().replace('_', '')}Config",
        )
    return cast(type[ModelConfig], classes[0])


def no_model(name: str) -> UsageError:
    """Return why there is no such model."""
    if problem := offered_models().problems.get(name):
        return problem
    if (MODELS / name).is_dir() and name not in NOT_MODELS:
        return UsageError(f"the folder {MODELS / name} is not a package", f"add an empty {MODELS / name}/__init__.py")
    return UsageError(f"unknown model '{name}'", did_you_mean(name, model_names()))


def models_with(capability: str) -> list[str]:
    return [name for name in model_names() if capability in config_class(name).traits.capabilities]
