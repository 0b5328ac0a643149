"""The available commands, of the folder `commands/` and of installed packages.

A module has `main(arguments) -> exit code`, or `run(composed)` for a command that takes overrides; one with `parser()`
has options besides, and is called as `run(composed, options)`. Its docstring is the help: "`llm4rec NAME`: what it
does", a blank line, then what `--help` ends with. `inspect_data.py` is the command `inspect data`. Other packages offer
commands by entry points: `plugins`.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType

from llm4rec_cli.config.plugins import OURS, Offers, Plugin, offers
from llm4rec_cli.errors import UsageError

FOLDER = Path(__file__).parents[1] / "commands"
FIRST = ("train", "eval", "prepare", "recommend", "report")  # in lists of commands; the others follow by name


@dataclass(frozen=True)
class Command:
    """A command. What is said about it is read from its file, which is imported when it is called.

    Attributes:
        name: as its file and entry point have it: `inspect-data`.
        plugin: what an installed package offers; None for a command of ours.
    """

    name: str
    source: Path
    plugin: Plugin | None = None

    @cached_property
    def _module(self) -> ast.Module:
        try:
            return ast.parse(self.source.read_bytes())
        except (OSError, SyntaxError, ValueError):  # which importing it will say
            return ast.Module([], [])

    @cached_property
    def _help(self) -> re.Match[str]:
        """The parts of its docstring: what is typed, what it does, and the rest."""
        page = ast.get_docstring(self._module) or ""
        match = re.match(r"(?:`llm4rec ([^`]+)`: )?(.*?)\.?(?:\n\n(.*))?$", page, re.DOTALL)
        assert match  # every part may be empty
        return match

    @property
    def typed(self) -> str:
        """The words that are typed for it, such as `inspect data`."""
        words = self.name.replace("-", " ")
        return words if f"{self._help[1]} ".startswith(f"{words} ") else self.name

    @property
    def summary(self) -> str:
        return " ".join(self._help[2].split()) or f"({self.source.name} has no docstring)"

    @property
    def examples(self) -> str:
        """The rest of its docstring."""
        return self._help[3] or ""

    @property
    def takes_overrides(self) -> bool:
        return self.defines("run") and not self.defines("main")

    @property
    def has_options(self) -> bool:
        """Whether it has options besides overrides."""
        return self.defines("parser")

    def defines(self, function: str) -> bool:
        """Return whether its module has such a function."""
        return any(isinstance(node, ast.FunctionDef) and node.name == function for node in self._module.body)

    @property
    def is_ours(self) -> bool:
        return self.plugin is None or self.plugin.is_ours

    @property
    def package(self) -> str:
        """The installed package that it comes from, or the part of llm4rec."""
        if self.plugin is None:
            return OURS
        return self.plugin.module.partition(".")[0] if self.plugin.is_ours else self.plugin.distribution

    def load(self) -> ModuleType:
        """Import its module.

        Raises:
            UsageError: the package that offers it is broken.
        """
        if self.plugin is None:
            return importlib.import_module(f"llm4rec_cli.commands.{self.source.stem}")
        module = self.plugin.load()
        if not self.defines("main") and not self.defines("run"):
            raise UsageError(f"{self.plugin} defines neither main nor run", f"define one in {self.source}")
        return module


@cache
def _shipped() -> frozenset[str]:
    return frozenset(module.name.replace("_", "-") for module in pkgutil.iter_modules([str(FOLDER)]))


def offered() -> Offers:
    """Return the commands of installed packages, which are not imported."""
    return offers("commands", _shipped(), part=None)


def commands() -> dict[str, Command]:
    """Return all commands by name, those of this package first."""
    ours = {name: Command(name, FOLDER / f"{name.replace('-', '_')}.py") for name in _shipped()}
    order = sorted(ours, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    others = {name: Command(name, plugin.source, plugin) for name, plugin in offered().plugins.items()}
    return {**{name: ours[name] for name in order}, **others}


def beginning_with(first: str) -> list[Command]:
    """Return the commands whose first word this is."""
    named = [command for name, command in commands().items() if f"{name}-".startswith(f"{first}-")]
    return [command for command in named if command.typed.split()[0] == first]


def second_words(first: str) -> list[str]:
    """Return what may follow the first word of commands of two words: `data`, `ids`, … of `inspect`."""
    return [command.typed.split()[1] for command in beginning_with(first) if command.typed != first]
