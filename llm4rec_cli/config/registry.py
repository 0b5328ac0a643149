"""The models there are: the packages of `models/`, found by listing the folder, and the config class of each."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from llm4rec_cli.config.schema import ModelConfig
from llm4rec_cli.errors import UsageError, did_you_mean

MODELS = Path(__file__).parents[1] / "models"


@cache
def model_names() -> tuple[str, ...]:
    """Every model, in the order of the alphabet."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules([str(MODELS)]) if m.ispkg))


@cache
def config_class(name: str) -> type[ModelConfig]:
    """The config class of a model, without importing torch.

    Raises:
        UsageError: no such model.
    """
    if name not in model_names():
        raise UsageError(f"unknown model '{name}'", did_you_mean(name, model_names()))
    module = importlib.import_module(f"llm4rec_cli.models.{name}.config")
    (found,) = (
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, ModelConfig) and c.__module__ == module.__name__
    )
    return found
