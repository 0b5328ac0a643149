"""The available models, read from the folder `models/`, and their config classes.

A method is a package `models/NAME/` with modules `config` and `model`. A floor or small baseline is a module
`models/baselines/NAME.py`, with its config class in `models/baselines/config.py`. The config class of `bpr_mf` is
`BprMfConfig`, in any case.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import cast

from llm4rec_cli.config.schema import ModelConfig
from llm4rec_cli.errors import UsageError, did_you_mean

MODELS = Path(__file__).parents[1] / "models"
NOT_MODELS = {"baselines", "shared", "config"}  # packages and modules in that folder that are not models


@cache
def model_names() -> tuple[str, ...]:
    methods = [module.name for module in pkgutil.iter_modules([str(MODELS)]) if module.ispkg]
    return tuple(sorted({*methods, *_baselines()} - NOT_MODELS))


@cache
def _baselines() -> tuple[str, ...]:
    return tuple(module.name for module in pkgutil.iter_modules([str(MODELS / "baselines")]))


def model_module(name: str) -> str:
    """Return the name of the module that builds a model; importing it imports torch."""
    package = "llm4rec_cli.models"
    return f"{package}.baselines.{name}" if name in _baselines() else f"{package}.{name}.model"


def source_files(name: str) -> list[Path]:
    """Return the files of a model's package, or the module of a floor or small baseline, without what models share."""
    return [MODELS / "baselines" / f"{name}.py"] if name in _baselines() else sorted((MODELS / name).rglob("*.py"))


@cache
def config_class(name: str) -> type[ModelConfig]:
    """Return the config class of a model, without importing torch.

    Raises:
        UsageError: the model does not exist.
    """
    if name not in model_names():
        if (MODELS / name).is_dir() and name not in NOT_MODELS:
            raise UsageError(
                f"the folder {MODELS / name} is not a package", f"add an empty {MODELS / name}/__init__.py"
            )
        raise UsageError(f"unknown model '{name}'", did_you_mean(name, model_names()))
    package = "baselines" if name in _baselines() else name
    module = importlib.import_module(f"llm4rec_cli.models.{package}.config")
    class_name = f"{name.replace('_', '')}config"
    classes = [value for key, value in vars(module).items() if key.lower() == class_name]
    if len(classes) != 1:
        raise UsageError(
            f"{module.__file__} has no class of the settings of {name}",
            f"name it {name.title().replace('_', '')}Config",
        )
    return cast(type[ModelConfig], classes[0])


def models_with(capability: str) -> list[str]:
    return [name for name in model_names() if capability in config_class(name).traits.capabilities]
