"""Models, readers and metrics that other installed packages offer, by entry points.

    [project.entry-points."llm4rec.models"]
    running_mean = "llm4rec_running_mean"

An entry point has the name of what it offers, and names a module: of a model the package with modules `config` and
`model`. Its configs are in the folder `conf` of that package. Nothing is imported but what an installed package
registers.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import re
import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from llm4rec_cli.errors import UsageError

log = logging.getLogger(__name__)

KINDS = ("models", "readers", "metrics")
MODELS = Path(__file__).parents[1] / "models"
NOT_MODELS = {"baselines", "shared", "config"}  # packages and modules in that folder that are not models
NAME = re.compile("[a-z][a-z0-9_]*")
SLOW = 1.0  # seconds to import the settings of a model


@dataclass(frozen=True)
class Plugin:
    """What an installed package offers.

    Attributes:
        module: the name of its module or package.
        distribution: the name of the installed package, as pip lists it.
        folder: where the module is.
    """

    name: str
    module: str
    distribution: str
    version: str
    folder: Path

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
            remedy = f"repair it, or pip uninstall {self.distribution}"
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
def offers(kind: str, shipped: frozenset[str], part: str = "", needs: tuple[str, ...] = ()) -> Offers:
    """Return what installed packages offer; the first call logs what is wrong.

    Args:
        kind: one of KINDS.
        shipped: names that are taken.
        part: the module of each that is imported, such as `config`; empty for the one that the entry point names.
        needs: what that module must define.
    """
    found = Offers({}, {})
    points = defaultdict[str, list[EntryPoint]](list)
    for point in _points(kind):
        points[point.name].append(point)
    for name, same in sorted(points.items()):
        try:
            plugin = _plugin(kind, same, shipped)
            module = plugin.load(part)
            if lacking := [need for need in needs if not hasattr(module, need)]:
                raise UsageError(f"{plugin} does not define {lacking[0]}", f"define it in {module.__file__}")
        except UsageError as problem:
            found.problems[name] = problem
            log.warning("%s; %s", problem.problem, problem.remedy)
        else:
            found.plugins[name] = plugin
    return found


def packages() -> dict[str, str]:
    """Return the installed packages that offer something, with their versions."""
    return {point.dist.name: point.dist.version for kind in KINDS for point in _points(kind) if point.dist}


def packages_by_folder() -> dict[Path, str]:
    """Return the names of those packages by the folders of what they offer."""
    points = [point for kind in KINDS for point in _points(kind)]
    return {folder: point.dist.name for point in points if point.dist and (folder := _folder(point))}


@cache
def _points(kind: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of a kind; reading those of all installed packages takes about 20 ms."""
    return tuple(metadata.entry_points(group=f"llm4rec.{kind}"))


@cache
def conf_folders() -> tuple[Path, ...]:
    """Return the folders of configs of the packages whose models can be used, or that offer readers."""
    readers = {folder for point in _points("readers") if (folder := _folder(point))}
    models = {plugin.folder for plugin in offered_models().plugins.values()}
    return tuple(sorted(folder / "conf" for folder in readers | models if (folder / "conf").is_dir()))


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
    point, packages = same[0], [point.dist.name if point.dist else "?" for point in same]
    name, package, noun = point.name, packages[0], kind.removesuffix("s")
    uninstall = f"pip uninstall {package}"
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{package} offers a {noun} named '{name}': a name has lower-case letters, digits and _", uninstall
        )
    if name in shipped:
        raise UsageError(f"{package} offers a {noun} named '{name}', which llm4rec has itself", uninstall)
    if len(same) > 1:
        raise UsageError(f"{' and '.join(packages)} offer a {noun} of the same name, '{name}'", uninstall)
    folder = _folder(point)
    if point.attr or folder is None:
        raise UsageError(f"{package} offers the {noun} {name} as '{point.value}': there is no such module", uninstall)
    assert point.dist  # entry_points gives it
    return Plugin(name, point.module, package, point.dist.version, folder)


@cache
def _folder(point: EntryPoint) -> Path | None:
    """Return the folder of an entry point's module, which is not imported; None if there is none."""
    try:
        spec = find_spec(point.module)
    except Exception:  # a package above it cannot be imported
        return None
    return Path(spec.origin).parent if spec and spec.origin else None
