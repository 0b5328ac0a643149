"""Checks of the installation and of this machine."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.filesize import decimal

from llm4rec_cli import arithmetic, processes
from llm4rec_cli.config import commands, plugins, questions
from llm4rec_cli.errors import Llm4RecError
from llm4rec_cli.evaluation import metrics
from llm4rec_cli.paths import cache_folder
from llm4rec_cli.text.weights import locate_causal, locate_weights

OK, NOTE, WRONG = "ok", "note", "wrong"  # a note: something works but slowly, or not for long
LITTLE_MEMORY, LITTLE_DISK, NO_DISK = 4 * 2**30, 5e9, 5e8  # bytes


@dataclass(frozen=True)
class Finding:
    name: str
    state: str
    says: str  # one line of text
    remedy: str = ""  # empty if the state is OK


def examine(outputs: Path, cache: str | None) -> Iterator[Finding]:
    """Yield every finding. An exception in a check is a finding too: a broken machine may break it."""
    checks = {"packages": _packages, "plugins": _plugins, "torch": _machine, "weights": _weights}
    for name, check in (checks | {"folders": lambda: _folders(outputs, cache)}).items():
        try:
            yield from (replace(each, remedy="") if each.state == OK else each for each in check())
        except Exception as error:
            remedy = f"pip install {error.name}" if isinstance(error, ImportError) else "install into a fresh .venv"
            yield Finding(name, WRONG, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", remedy)


def _packages() -> Iterator[Finding]:
    """Check Python and the packages against the ranges that our metadata declares."""
    needed, version = metadata.metadata("llm4rec")["Requires-Python"], platform.python_version()
    state = OK if SpecifierSet(needed).contains(version) else WRONG
    yield Finding("python", state, f"{version} (needs {needed}), {sys.executable}", "make a .venv with that one")
    fitting = [f"llm4rec {metadata.version('llm4rec')}"]
    for requirement in map(Requirement, metadata.requires("llm4rec") or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = next((each.version for each in metadata.distributions(name=requirement.name)), "")
        if version and requirement.specifier.contains(version, prereleases=True):
            fitting.append(f"{requirement.name} {version}")
        else:
            says = f"version {version} is outside {requirement.specifier}" if version else "is not installed"
            yield Finding(requirement.name, WRONG, says, f"pip install '{requirement}'")
    yield Finding("packages", OK, ", ".join(fitting))


def _plugins() -> Iterator[Finding]:
    from llm4rec_cli.data import readers

    for offered in (plugins.offered_models, questions.offered, readers.offered, metrics.offered, commands.offered):
        yield from (Finding("plugin", OK, str(each)) for each in offered().plugins.values() if not each.is_ours)
        yield from (Finding("plugin", WRONG, each.problem, each.remedy) for each in offered().problems.values())


def _machine() -> Iterator[Finding]:
    import torch

    total, free = processes.memory()
    state, remedy = OK if free >= LITTLE_MEMORY else NOTE, "set a smaller trainer.batch_size and eval_batch_size"
    yield Finding("memory", state, f"{decimal(free)} of {decimal(total)} free", remedy)
    device, threads, cores = arithmetic.resolve_device("auto"), torch.get_num_threads(), processes.cores()
    card = f": {torch.cuda.get_device_name()}" if device == "cuda" else ""
    yield Finding("torch", OK, f"{torch.__version__}, device=auto means {device}{card}")
    state, remedy = OK if threads <= cores else NOTE, f"export OMP_NUM_THREADS={max(1, int(cores))}"
    yield Finding("threads", state, f"{threads}, for {cores:g} of {os.cpu_count()} cores", remedy)


def _weights() -> Iterator[Finding]:
    found = {"encoder": lambda: locate_weights("minilm")[0], "chat model": lambda: locate_causal("smollm2").path}
    for name, folder in found.items():
        try:
            yield Finding(name, OK, f"{folder()}, verified")
        except Llm4RecError as missing:
            yield Finding(name, WRONG if name == "encoder" else NOTE, missing.problem, missing.remedy)


def _folders(outputs: Path, cache: str | None) -> Iterator[Finding]:
    """Check that folders are writable, or can be created, how much disk is free, and that locks exclude others."""
    for name, folder in (("outputs", outputs), ("cache", cache_folder(cache).absolute())):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        is_writable, free = os.access(existing, os.W_OK), shutil.disk_usage(existing).free
        state = WRONG if free < NO_DISK or not is_writable else NOTE if free < LITTLE_DISK else OK
        says = f"{folder}, {decimal(free)} free{'' if is_writable else ', not writable'}"
        yield Finding(name, state, says, f"remove folders that you no longer need, or paths.{name}=PATH")
        if name == "outputs" and is_writable:
            state, says = (OK, "work") if _locks_hold(existing) else (WRONG, "do not work")
            yield Finding("locks", state, f"{says} in {existing}", "paths.outputs=PATH on a local disk")


def _locks_hold(folder: Path) -> bool:
    """Return whether a lock excludes a second holder."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".llm4rec-doctor-") as first, Path(first.name).open() as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # a BlockingIOError of the second; another where the file system has no locks
            return isinstance(error, BlockingIOError)
        return False
