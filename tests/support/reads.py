"""Who reads which setting: the leaves of configs that the package's own code asks for while it runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

import llm4rec_cli
from llm4rec_cli.config import schema
from llm4rec_cli.config.registry import config_class, model_names

PACKAGE = Path(llm4rec_cli.__file__).parent
# Where settings are declared, bounded, or looked at all alike: asking there is no use of a setting.
DECLARING = {
    *PACKAGE.glob("config/*.py"),
    PACKAGE / "commands/validate.py",
    *PACKAGE.glob("models/*/config.py"),
}

Leaf = tuple[str, str]  # a dataclass and its field


def leaves() -> set[Leaf]:
    """Every setting that a config may hold."""
    return {(node.__name__, field.name) for node in nodes() if node is not schema.ModelConfig for field in fields(node)}


def nodes() -> list[Any]:
    """The dataclasses of the schema and those that models declare."""
    modules = [schema, *(sys.modules[config_class(name).__module__] for name in model_names())]
    found = [c for module in modules for c in vars(module).values() if is_dataclass(c)]
    return [node for node in dict.fromkeys(found) if isinstance(node, type)]


@contextmanager
def recorded() -> Iterator[set[Leaf]]:
    """Notes each read, while the block lasts, of an attribute or item of a config node, composed or made an object.

    A read counts by the code that asks: the package's own, and not what OmegaConf and dataclasses do by themselves to
    print, hash, copy or compare.
    """
    found: set[Leaf] = set()

    def noting(kind_of: Any, original: Any) -> Any:
        def ask(self: Any, key: str) -> Any:
            kind = kind_of(self)
            if is_dataclass(kind):
                asking = Path(sys._getframe(1).f_code.co_filename)
                if PACKAGE in asking.parents and asking not in DECLARING:
                    found.add((kind.__name__, key))
            return original(self, key)

        return ask

    with pytest.MonkeyPatch.context() as patch:
        for method in ("__getattr__", "__getitem__"):
            own = noting(lambda node: node.__dict__["_metadata"].object_type, getattr(DictConfig, method))
            patch.setattr(DictConfig, method, own)
        for node in nodes():
            patch.setattr(node, "__getattribute__", noting(type, object.__getattribute__))
        yield found
