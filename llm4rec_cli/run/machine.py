"""Checks of the installation and of this machine."""

from __future__ import annotations

import fcntl
import importlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rich.filesize import decimal

from llm4rec_cli import __version__, processes
from llm4rec_cli.errors import Llm4RecError
from llm4rec_cli.paths import cache_folder
from llm4rec_cli.run import catalog

OK, NOTE, WRONG = "ok", "note", "wrong"
LITTLE_MEMORY = 4 * 2**30
LITTLE_DISK, NO_DISK = 5e9, 5e8  # bytes


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    state: str  # `ok`; `note`, something works but slowly or not for long; or `wrong`
    says: str  # one line of text
    remedy: str = ""  # what to do about it; may be empty


def examine(outputs: Path, cache: str | None) -> Iterator[Finding]:
    """Yield every finding. An exception in a check is a finding too: a broken machine may break it."""
    checks = {
        "python": _python,
        "llm4rec": _llm4rec,
        "packages": _packages,
        "machine": _machine,
        "torch": _torch,
        "training": _training,
        "arithmetic": _arithmetic,
        "encoder": _encoder,
        "chat model": _chat_model,
        "hub": _hub,
        "outputs": lambda: _outputs(outputs),
        "cache": lambda: _cache(cache),
    }
    for name, check in checks.items():
        try:
            yield from check()
        except ImportError as error:
            yield Finding(name, WRONG, f"{type(error).__name__}: {_first_line(error)}", f"pip install {error.name}")
        except Llm4RecError as error:
            yield Finding(name, WRONG, error.problem, error.remedy)
        except Exception as error:
            yield Finding(name, WRONG, f"{type(error).__name__}: {_first_line(error)}", "install into a fresh .venv")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _finding(name: str, is_ok: bool, says: str, remedy: str, otherwise: str = WRONG) -> Finding:
    return Finding(name, OK, says) if is_ok else Finding(name, otherwise, says, remedy)


# --- what is installed


def _python() -> Iterator[Finding]:
    from packaging.specifiers import SpecifierSet

    needed = metadata.metadata("llm4rec")["Requires-Python"]
    fits = SpecifierSet(needed).contains(platform.python_version())
    fact = f"{platform.python_version()} (needs {needed}), {sys.executable}"
    yield _finding("python", fits, fact, f"make a .venv with Python {needed}")


def _llm4rec() -> Iterator[Finding]:
    """Check the version, the commit of a checkout and the configs."""
    from llm4rec_cli.config.folders import conf_dir

    checkout = Path(__file__).parents[2]
    commit = ""
    if (checkout / ".git").exists() and shutil.which("git"):
        describe = ["git", "-C", str(checkout), "describe", "--always", "--dirty=, with uncommitted changes"]
        commit = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    fact = f"{__version__}, {f'commit {commit}, ' if commit else ''}configs in {conf_dir()}"
    has_configs = (conf_dir() / "config.yaml").exists()
    says = fact if has_configs else f"{fact}, which has none"
    yield _finding("llm4rec", has_configs, says, "pip install --force-reinstall llm4rec")


def _packages() -> Iterator[Finding]:
    """Check package versions against the ranges that our metadata declares."""
    from packaging.requirements import Requirement

    fitting = []
    for requirement in map(Requirement, metadata.requires("llm4rec") or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Finding(requirement.name, WRONG, "is not installed", f"pip install '{requirement}'")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            fitting.append(f"{requirement.name} {version}")
        else:
            fact = f"version {version} is outside {requirement.specifier}"
            yield Finding(requirement.name, WRONG, fact, f"pip install '{requirement}'")
    yield Finding("packages", OK, f"{len(fitting)} have a supported version: {', '.join(fitting)}")
    yield from _plugins()


def _plugins() -> Iterator[Finding]:
    """Check what other packages offer."""
    from llm4rec_cli.config import commands, plugins, questions
    from llm4rec_cli.data import readers
    from llm4rec_cli.evaluation import metrics

    others = (questions.offered(), readers.offered(), metrics.offered(), commands.offered())
    for offers in (plugins.offered_models(), *others):
        for plugin in offers.plugins.values():
            if not plugin.is_ours:
                yield Finding("plugin", OK, str(plugin))
        for problem in offers.problems.values():
            yield Finding("plugin", WRONG, problem.problem, problem.remedy)


# --- the machine


def _machine() -> Iterator[Finding]:
    yield Finding("platform", OK, platform.platform())
    yield Finding("cores", OK, f"{_cores():g} of {os.cpu_count()} available")
    total, available = processes.memory()
    fact = f"{decimal(available)} of {decimal(total)} free"
    remedy = "set a smaller trainer.batch_size and trainer.eval_batch_size"
    yield _finding("memory", available >= LITTLE_MEMORY, fact, remedy, NOTE)


def _cores() -> float:
    """Return the cores this process may use, by its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = processes.container_limit("cpu.max").partition(" ")
    return min(cores, int(quota) / int(period)) if quota.isdigit() else cores


# --- torch


def _torch() -> Iterator[Finding]:
    import torch

    from llm4rec_cli.arithmetic import resolve_device

    builds = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    built_for = next((f"{name} {version}" for name, version in builds.items() if version), "CPU")
    yield Finding("torch", OK, f"{torch.__version__}, built for {built_for}")
    device = resolve_device("auto")
    fact = f"device=auto means {device}"
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        fact += f": {torch.cuda.get_device_name()}, {decimal(free)} of {decimal(total)} free"
    yield Finding("device", OK, fact)
    threads, variable = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS", "not set")
    too_many = threads > _cores()
    fact = f"{threads} (OMP_NUM_THREADS: {variable}){', more than the available cores' if too_many else ''}"
    yield _finding("threads", not too_many, fact, f"export OMP_NUM_THREADS={max(1, int(_cores()))}", NOTE)


def _training() -> Iterator[Finding]:
    """Check that everything training needs can be imported."""
    importlib.import_module("llm4rec_cli.run.fit")
    yield Finding("training", OK, f"transformers {metadata.version('transformers')} can be imported")


def _arithmetic() -> Iterator[Finding]:
    """Show which precision `precision: auto` means for each kind of work, on the device that `auto` means."""
    import torch

    from llm4rec_cli import arithmetic
    from llm4rec_cli.arithmetic import resolve_device
    from llm4rec_cli.config.schema import Work

    device = resolve_device("auto")
    capability = f" ({torch.backends.cpu.get_cpu_capability()})" if device == "cpu" else ""
    for work in Work:
        seconds = arithmetic.probe(work, device)
        times = ", ".join(f"{name} {1000 * value:.1f} ms" for name, value in seconds.items())
        fact = f"{device}{capability}, {work.name}: {times}: auto means {arithmetic.faster(seconds).name}"
        yield Finding("arithmetic", OK, fact)


def _encoder() -> Iterator[Finding]:
    from llm4rec_cli.text.weights import locate_weights

    folder, weights = locate_weights("minilm")
    yield Finding("encoder", OK, f"minilm in {folder}, sha256 {weights[:12]}… verified")


def _chat_model() -> Iterator[Finding]:
    from llm4rec_cli.errors import UsageError
    from llm4rec_cli.llm.weights import locate

    try:
        weights = locate("smollm2")
    except UsageError as missing:  # needed only for the packaged chat model
        yield Finding("chat model", NOTE, missing.problem, missing.remedy)
        return
    yield Finding("chat model", OK, f"smollm2 in {weights.path}, verified")


def _hub() -> Iterator[Finding]:
    from huggingface_hub import constants

    offline = "HF_HUB_OFFLINE is set: only models downloaded before can be used"
    yield Finding("hub", OK, offline if constants.HF_HUB_OFFLINE else "models can be downloaded")


# --- outputs and cache


def _outputs(outputs: Path) -> Iterator[Finding]:
    yield from _writable("outputs", outputs)
    folder = _existing(outputs)
    if not os.access(folder, os.W_OK):
        return
    hold = _locks_hold(folder)
    says = f"work in {folder}" if hold else f"do not work in {folder}: two processes may write to one run folder"
    yield _finding("locks", hold, says, "set paths.outputs=PATH on a local disk, or never start a run twice")


def _cache(folder: str | None) -> Iterator[Finding]:
    cache = cache_folder(folder).absolute()
    yield from _writable("cache", cache)
    sizes: dict[str, int] = {}
    n_partial = 0
    for entry in catalog.cache_entries(cache):
        sizes[entry.part] = sizes.get(entry.part, 0) + entry.bytes
        n_partial += entry.state == "left half written"
    for part, size in sizes.items():
        yield Finding(f"  {part}", OK, decimal(size))
    if n_partial:
        yield Finding("cache", NOTE, f"{n_partial} partial entries, left by killed processes", "llm4rec prune cache")


def _writable(name: str, folder: Path) -> Iterator[Finding]:
    """Check that a folder is writable, or can be created, and how much disk space is free."""
    existing = _existing(folder)
    free = shutil.disk_usage(existing).free
    fact = f"{folder}{'' if folder.exists() else ' (does not exist yet)'}, {decimal(free)} free"
    if os.access(existing, os.W_OK):
        little = WRONG if free < NO_DISK else NOTE
        yield _finding(name, free >= LITTLE_DISK, fact, f"llm4rec prune, or paths.{name}=PATH", little)
    else:
        yield Finding(name, WRONG, f"{existing} is not writable", f"paths.{name}=PATH")


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest ancestor that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _locks_hold(folder: Path) -> bool:
    """Return whether a lock excludes a second holder."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".llm4rec-doctor-") as first, Path(first.name).open() as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # the file system has no locks
            return False
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
