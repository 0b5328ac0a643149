"""Record which settings of a config the package's own code reads while it runs."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

import llm4rec_cli
from llm4rec_cli.config import schema
from llm4rec_cli.config.registry import config_class, model_names

PACKAGE = Path(llm4rec_cli.__file__).parent
PACKAGES = [PACKAGE, *(PACKAGE.with_name(name) for name in ("llm4rec_studies", "llm4rec_zoo"))]
# Files that declare settings, check their ranges or walk over all of them: a read there does not use the setting.
DECLARING = {
    *PACKAGE.glob("config/*.py"),
    PACKAGE / "commands/validate.py",
    PACKAGE / "models/chatgptrec/prompt_schema.py",
    *(file for package in PACKAGES for file in package.rglob("config.py")),
}

Leaf = tuple[
    str, str
]  # names of a dataclass and its field; for a field that models share, of the base that declares it


def leaves() -> set[Leaf]:
    """Return every setting that a config may hold."""
    models = {config_class(name) for name in model_names()}
    held = [node for node in nodes() if node in models or not issubclass(node, schema.ModelConfig)]
    return {_leaf(node, field.name) for node in held for field in fields(node)}


def _leaf(node: Any, name: str) -> Leaf:
    declaring = next(base for base in node.__mro__ if name in inspect.get_annotations(base))
    return (node if declaring is schema.ModelConfig else declaring).__name__, name


def nodes() -> list[Any]:
    """Return the dataclasses of the schema and of the models' configs."""
    modules = [schema, *(sys.modules[config_class(name).__module__] for name in model_names())]
    used = {value.__module__: None for module in modules for value in vars(module).values() if is_dataclass(value)}
    classes = [value for name in used for value in vars(sys.modules[name]).values() if is_dataclass(value)]
    return [node for node in dict.fromkeys(classes) if isinstance(node, type) and node is not schema.Traits]


@contextmanager
def recorded() -> Iterator[set[Leaf]]:
    """Yield the set of settings read within the block, from composed configs or from dataclass objects.

    Only reads by the package's own code count: not those of OmegaConf and dataclasses to print, hash, copy or compare.
    """
    leaves_read: set[Leaf] = set()

    def recording(node_class: Any, original: Any) -> Any:
        def read(self: Any, key: str) -> Any:
            node = node_class(self)
            is_setting = is_dataclass(node) and key in node.__dataclass_fields__
            if is_setting and _uses_settings(sys._getframe(1).f_code.co_filename):
                leaves_read.add(_leaf(node, key))
            return original(self, key)

        return read

    with pytest.MonkeyPatch.context() as patch:
        for method in ("__getattr__", "__getitem__"):
            read = recording(lambda node: node.__dict__["_metadata"].object_type, getattr(DictConfig, method))
            patch.setattr(DictConfig, method, read)
        for node in nodes():
            patch.setattr(node, "__getattribute__", recording(type, object.__getattribute__))
        yield leaves_read


@cache
def _uses_settings(file: str) -> bool:
    """Return whether a file of the package reads settings to use them; cached, as a command reads thousands."""
    path = Path(file)
    return any(package in path.parents for package in PACKAGES) and path not in DECLARING
