"""Models, tasks, readers, metrics and commands that installed packages offer, by entry points.

    [project.entry-points."llm4rec.models"]
    running_mean = "llm4rec_running_mean"

An entry point has the name of what it offers, and names a module: of a model the package with modules `config` and
`model`. Configs are in the folder `conf` of the package at the top: `a/conf` of `a.models.b`. Nothing is imported but
what an installed package registers. `llm4rec_studies` and `llm4rec_zoo`, installed with this package, enter by the same
door; where the folder of one is deleted, what it offers is absent.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import re
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.metadata import Distribution, EntryPoint
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from llm4rec_cli.errors import UsageError

log = logging.getLogger(__name__)

KINDS = ("models", "tasks", "readers", "metrics", "commands")
OURS = "llm4rec"  # the distribution of this package, of llm4rec_studies and of llm4rec_zoo
MODELS = Path(__file__).parents[1] / "models"
NOT_MODELS = {"baselines", "shared", "config"}  # packages and modules in that folder that are not models
NAME = re.compile("[a-z][a-z0-9_]*")
NAME_OF_COMMAND = re.compile("[a-z][a-z0-9-]*")
SLOW = 1.0  # seconds to import the settings of a model


@dataclass(frozen=True)
class Plugin:
    """What an installed package offers.

    Attributes:
        module: the name of its module or package.
        distribution: the name of the installed package, as pip lists it.
        source: the file of the module, or of its package.
    """

    name: str
    module: str
    distribution: str
    version: str
    source: Path

    @property
    def folder(self) -> Path:
        return self.source.parent

    @property
    def is_ours(self) -> bool:
        return self.distribution == OURS

    def __str__(self) -> str:
        return f"{self.name} of {self.distribution} {self.version}"

    def load(self, part: str = "") -> ModuleType:
        """Import the module, or a part of it such as `config`.

        Raises:
            UsageError: it raises an error, of any kind.
        """
        start = time.perf_counter()
        try:
            module = importlib.import_module(f"{self.module}.{part}" if part else self.module)
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            remedy = f"repair it, or {_without(self.distribution)}"
            raise UsageError(f"{self} cannot be imported ({reason})", remedy) from error
        if part == "config" and (seconds := time.perf_counter() - start) > SLOW:
            log.warning("importing the settings of %s took %.1f s: every command waits for it", self, seconds)
        return module


@dataclass(frozen=True)
class Offers:
    """The plugins of a kind by name, and what is wrong with others: name -> error."""

    plugins: dict[str, Plugin]
    problems: dict[str, UsageError]


@cache
def offers(
    kind: str,
    shipped: frozenset[str],
    part: str | None = "",
    needs: tuple[str, ...] = (),
    wrong: Callable[[ModuleType], str | None] | None = None,
) -> Offers:
    """Return what installed packages offer; the first call logs what is wrong.

    Args:
        kind: one of KINDS.
        shipped: names that are taken.
        part: the module of each that is imported, such as `config`; empty for the one that the entry point names; None
            if none is imported, so that only names and places are checked.
        needs: what that module must define.
        wrong: returns what else is wrong with it.
    """
    found = Offers({}, {})
    points = defaultdict[str, list[EntryPoint]](list)
    for point in _points(kind):
        points[point.name].append(point)
    for name, same in sorted(points.items()):
        try:
            plugin = _plugin(kind, same, shipped)
            if part is not None:
                module = plugin.load(part)
                if lacking := [need for need in needs if not hasattr(module, need)]:
                    raise UsageError(f"{plugin} does not define {lacking[0]}", f"define it in {module.__file__}")
                if wrong and (problem := wrong(module)):
                    raise UsageError(f"{plugin}: {problem}", f"correct it in {module.__file__}")
        except UsageError as error:
            found.problems[name] = error
            log.warning("%s; %s", error.problem, error.remedy)
        else:
            found.plugins[name] = plugin
    return found


def packages() -> dict[str, str]:
    """Return the other installed packages that offer something, with their versions."""
    dists = [point.dist for kind in KINDS for point in _points(kind)]
    return {name: version for dist in dists for name, version in [_name_and_version(dist)] if name != OURS}


def packages_by_source() -> dict[Path, str]:
    """Return the names of packages that offer something by their folders, or files if they have one module alone."""
    points = [point for kind in KINDS for point in _points(kind)]
    tops = {(source, _name_and_version(point.dist)[0]) for point in points if (source := _top(point))}
    return {source.parent if source.name == "__init__.py" else source: name for source, name in tops}


@cache
def _points(kind: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of a kind."""
    points = _installed().select(group=f"llm4rec.{kind}")
    present = tuple(point for point in points if _name_and_version(point.dist)[0] != OURS or _top(point))
    for point in present:  # what a package logs is shown and kept as what this one logs
        logging.getLogger(point.module.partition(".")[0]).parent = logging.getLogger("llm4rec_cli")
    return present


@cache
def _installed() -> Any:
    """Return all entry points: one file of each installed package is read, which takes about 20 ms."""
    return metadata.entry_points()


@cache
def _name_and_version(dist: Distribution | None) -> tuple[str, str]:
    """Return what a package is called by pip, and its version: a file that takes a millisecond to read."""
    assert dist  # entry_points gives it
    return dist.name, dist.version


def _top(point: EntryPoint) -> Path | None:
    """Return the file of the package at the top of what an entry point names; None if it is absent."""
    return _source(point.module.partition(".")[0])


@cache
def conf_folders() -> tuple[Path, ...]:
    """Return the folders of configs of packages that offer something; if only models, of those that can be used."""
    modules = [point.module for kind in KINDS if kind != "models" for point in _points(kind)]
    modules += [plugin.module for plugin in offered_models().plugins.values()]
    packages = {source for module in modules if (source := _source(module.partition(".")[0]))}
    folders = {source.parent / "conf" for source in packages if source.name == "__init__.py"}
    return tuple(sorted(filter(Path.is_dir, folders)))


def offered_models() -> Offers:
    """Return the models of installed packages."""
    return offers("models", shipped_models(), part="config")


@cache
def shipped_models() -> frozenset[str]:
    methods = [module.name for module in pkgutil.iter_modules([str(MODELS)]) if module.ispkg]
    return frozenset({*methods, *baselines()} - NOT_MODELS)


@cache
def baselines() -> tuple[str, ...]:
    return tuple(module.name for module in pkgutil.iter_modules([str(MODELS / "baselines")]))


def _plugin(kind: str, same: list[EntryPoint], shipped: Collection[str]) -> Plugin:
    """Return the plugin of the entry points with one name.

    Raises:
        UsageError: it cannot be used.
    """
    point, packages = same[0], [_name_and_version(point.dist)[0] for point in same]
    name, package, noun = point.name, packages[0], kind.removesuffix("s")
    without = _without(package)
    form, characters = (NAME_OF_COMMAND, "-") if kind == "commands" else (NAME, "_")
    if not form.fullmatch(name):
        problem = f"{package} offers a {noun} named '{name}': a name has lower-case letters, digits and {characters}"
        raise UsageError(problem, without)
    if name in shipped:
        raise UsageError(f"{package} offers a {noun} named '{name}', which llm4rec has itself", without)
    if len(same) > 1:
        raise UsageError(f"{' and '.join(packages)} offer a {noun} of the same name, '{name}'", without)
    source = _source(point.module)
    if point.attr or source is None:
        raise UsageError(f"{package} offers the {noun} {name} as '{point.value}': there is no such module", without)
    return Plugin(name, point.module, *_name_and_version(point.dist), source)


def _without(package: str) -> str:
    """Return the remedy for what a package offers: to go without it. A part of llm4rec itself is installed again."""
    return "install llm4rec again" if package == OURS else f"pip uninstall {package}"


@cache
def _source(module: str) -> Path | None:
    """Return the file of a module, or of its package; None if there is none. Neither it nor a package above it is
    imported, which for `a.b` importlib's `find_spec` does."""
    top, *parts = module.split(".")
    try:
        spec = find_spec(top)
    except ValueError:  # a module without a spec, such as `__main__`
        return None
    if spec is None or not parts:
        return Path(spec.origin) if spec and spec.origin else None
    places = [Path(folder, *parts) for folder in spec.submodule_search_locations or ()]
    files = [file for place in places for file in (place / "__init__.py", place.with_suffix(".py"))]
    return next(filter(Path.is_file, files), None)
