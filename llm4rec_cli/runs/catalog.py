"""The catalogue of runs: all run folders with their state, finished runs by name, and the entries of the cache."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llm4rec_cli.config.keys import declarations_with
from llm4rec_cli.config.reading import read_yaml
from llm4rec_cli.config.registry import config_class, model_names
from llm4rec_cli.errors import RunError, UsageError, did_you_mean
from llm4rec_cli.runs.identity import plain

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

# What a run folder holds.
STATUS, METRICS, CONFIG, LOCK = "status.json", "metrics.json", "config.yaml", ".lock"
PREDICTIONS, TRAIN_LOG, CHECKPOINTS = "predictions.parquet", "train_log.jsonl", "checkpoints"

FinishedRun = tuple[Path, dict[str, Any]]  # run folder and metrics.json
IMPORT = "import-weights"  # the command, in status.json, of runs that hold weights and no results
NEAREST_RUNS = 5  # named in an error
STATES = ("done", "failed", "running", "killed", "unreadable")
FILTERS = ("model", "dataset", "task", "seed", "status")
TRASH = ".pruned"  # where `prune` moves things before it removes them


# --- finished runs


def finished_metrics(folder: Path) -> dict[str, Any] | None:
    """Return metrics.json of a finished run; None if the folder holds none.

    A torn one, of a machine that lost power, counts as none, with a warning.
    """
    try:
        if json.loads((folder / STATUS).read_text())["status"] != "done":
            return None
        if metrics := _whole_metrics(json.loads((folder / METRICS).read_text())):
            return metrics
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        pass
    log.warning("%s is not readable and left out: llm4rec list runs shows its state", folder)
    return None


def _whole_metrics(content: Any) -> dict[str, Any]:
    """Return the content of metrics.json; empty if it is not that of a run."""
    return content if isinstance(content, dict) and {"model", "metrics"} <= content.keys() else {}


def stored_config(folder: Path) -> dict[str, Any]:
    """Return config.yaml of a run."""
    return dict(read_yaml(folder / CONFIG))


def stored_value(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Return a setting of a run's config; `default` if it is not there.

    A setting that was added later has the default that the run had in effect.
    """
    return value_at(config, key, added_defaults(config["model"]["name"]).get(key, default))


def value_at(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Return the setting with this key in nested dictionaries; `default` if it is not there."""
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return default
        node = node[name]
    return node


@cache
def added_defaults(model: str) -> Mapping[str, Any]:
    """Return key -> default of the settings of a config with this model that were added after runs existed."""
    declared = declarations_with(cast(Any, config_class(model)))
    return {setting.key: plain(setting.field.default) for setting in declared if setting.field.metadata.get("added")}


def read_predictions(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return predictions.parquet of a run, or some columns of it.

    Raises:
        RunError: the file is damaged or missing.
    """
    import pandas as pd

    with _readable(path):
        return pd.read_parquet(path, columns=None if columns is None else list(columns))


def prediction_columns(path: Path) -> set[str]:
    """Return the names of the columns of predictions.parquet.

    Raises:
        RunError: the file is damaged or missing.
    """
    import pyarrow.parquet

    with _readable(path):
        return set(pyarrow.parquet.read_schema(path).names)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise RunError(f"{path} is damaged or missing ({reason})", "type the run's command with force=true") from error


def run_folder(outputs: Path, metrics: dict[str, Any]) -> Path:
    """Return the folder of a run under `outputs`, from its metrics.json."""
    name = f"seed{metrics['seed']}-{metrics['config_hash']}"
    return outputs / metrics["model"] / metrics["dataset"] / metrics["task"] / name


def finished_runs(outputs: Path, imports: bool = False, any_model: bool = False) -> Iterator[FinishedRun]:
    """Yield every finished run under `outputs`, the last to finish first.

    Args:
        imports: whether imported weights, which have no results, are among them.
        any_model: whether runs of models that are not installed are, which are otherwise left out with a warning.
    """
    runs = []
    for path in outputs.glob(f"*/*/*/seed*/{STATUS}"):
        with suppress(FileNotFoundError):  # another process has just restarted it
            metrics = finished_metrics(path.parent)
            if metrics is not None and (imports or read_json(path).get("command") != IMPORT):
                runs.append((path.stat().st_mtime, path.parent, metrics))
    for _, folder, metrics in sorted(runs, key=lambda run: -run[0]):
        if any_model or metrics["model"] in model_names():
            yield folder, metrics
        else:
            log.warning("%s is left out: there is no model '%s' here", folder, metrics["model"])


def depends_on_seed(metrics: Mapping[str, Any]) -> bool:
    """Return whether a run's numbers depend on the seed, as far as its model is known; of a combination, if those of a
    member do.

    Args:
        metrics: its metrics.json.
    """
    if metrics["model"] not in model_names():
        return True
    members = [finished_metrics(Path(folder)) for folder in metrics.get("members", [])]
    known = [member for member in members if member is not None]
    if members and len(known) == len(members):
        return any(map(depends_on_seed, known))
    return config_class(metrics["model"]).seeded


def by_variant(runs: Iterable[FinishedRun]) -> dict[str, dict[int, FinishedRun]]:
    """Return variant -> seed -> run; of several runs of one seed the first."""
    result: dict[str, dict[int, FinishedRun]] = {}
    for folder, metrics in runs:
        result.setdefault(metrics["variant"], {}).setdefault(metrics["seed"], (folder, metrics))
    return {variant: without_copies(by_seed) for variant, by_seed in result.items()}


def without_copies(by_seed: Mapping[int, FinishedRun]) -> dict[int, FinishedRun]:
    """Return the runs by seed, without those that read the same files as a run of a lower seed.

    A file of another system, or one ensemble, evaluated under several seeds is one training and not several. What was
    read from the same files has the same numbers to the last digit.
    """
    kept: dict[int, FinishedRun] = {}
    for seed, (folder, metrics) in sorted(by_seed.items()):
        reads_files = metrics["model"] in model_names() and config_class(metrics["model"]).file_settings
        if reads_files and any(_same_numbers(metrics["metrics"], other["metrics"]) for _, other in kept.values()):
            log.warning("%s is left out: it has the numbers of a lower seed, so that its files are the same", folder)
        else:
            kept[seed] = (folder, metrics)
    return kept


def _same_numbers(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Return whether the metrics that both have are equal; an earlier version may have computed fewer."""
    return all(a[name] == b[name] for name in a.keys() & b.keys())


def resolve_runs(names: Sequence[str], outputs: Path, imports: bool = False) -> list[FinishedRun]:
    """Return the folder and metrics.json of the finished run for each name: its folder, or the end of its path.

    Args:
        imports: whether a run may hold imported weights, which have no results.

    Raises:
        RunError: no finished run has this name.
        UsageError: several do.
    """
    runs = dict(finished_runs(outputs, imports, any_model=True))
    resolved = []
    for name in names:
        folder = Path(name.removeprefix("run=")).expanduser()
        if folder.is_dir():
            metrics = finished_metrics(folder)
            if metrics is None:
                raise RunError(f"{folder} is not a finished run", "llm4rec list runs")
            if metrics.get("imported") and not metrics["metrics"]:
                raise RunError(f"{folder} holds imported weights and no results", f"llm4rec eval run={folder}")
            resolved.append((folder, metrics))
            continue
        matches = [run for run in runs if _ends_with(run, folder)]
        if not matches:
            known = [run.relative_to(outputs).as_posix() for run in runs]
            of_model = [run for run in known if folder.parts[0] in run.split("/")]
            near = difflib.get_close_matches(name, known, n=1) or (of_model or known)[:NEAREST_RUNS]
            remedy = "; ".join(filter(None, [did_you_mean(name, near), "llm4rec list runs shows all"]))
            raise RunError(f"no finished run under {outputs} matches '{name}'", remedy)
        if len(matches) > 1:
            paths = ", ".join(str(run.relative_to(outputs)) for run in sorted(matches))
            raise UsageError(f"'{name}' matches {len(matches)} runs", paths)
        resolved.append((matches[0], runs[matches[0]]))
    return resolved


def _ends_with(run: Path, end: Path) -> bool:
    """Return whether a run's path ends with these parts, of which the last may be abbreviated."""
    *parents, last = end.parts
    return run.name.startswith(last) and list(run.parent.parts[len(run.parent.parts) - len(parents) :]) == parents


# --- all runs


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        folder: <outputs>/<model>/<dataset>/<task>/seed<seed>-<hash>.
        state: one of STATES; a `killed` run says running, but no process holds its lock.
        status: status.json; empty if unreadable.
        metrics: metrics.json of a run that is done, else empty.
        written: when its state last changed, in seconds since 1970.
    """

    folder: Path
    state: str
    status: dict[str, Any]
    metrics: dict[str, Any]
    written: float

    def value(self, key: str) -> str:
        """Return the value that a filter with this key is compared with."""
        model, dataset, task, name = self.folder.parts[-4:]
        seed = name.removeprefix("seed").rpartition("-")[0]
        return {"model": model, "dataset": dataset, "task": task, "seed": seed, "status": self.state}[key]


def runs(outputs: Path) -> list[Run]:
    """Return every run under `outputs`, newest first, recognised by path, name and status.json; symbolic links are not
    followed."""
    folders = [path.parent for path in outputs.glob("*/*/*/seed*/status.json")]
    run_folders = [f for f in folders if re.fullmatch(r"seed-?\d+-\w+", f.name) and not _linked(f, outputs)]
    return sorted(map(read_run, run_folders), key=lambda run: (-run.written, run.folder))


def read_run(folder: Path) -> Run:
    """Return the run in a folder that holds a status.json."""
    status = read_json(folder / STATUS)
    state = str(status.get("status", "unreadable"))
    metrics = _whole_metrics(read_json(folder / METRICS)) if state == "done" else {}
    if state == "running" and not is_locked(folder / ".lock"):
        state = "killed"
    elif state == "done" and not metrics:
        state = "unreadable"
    return Run(folder, state, status, metrics, (folder / STATUS).lstat().st_mtime)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty if the file is missing, truncated or not readable."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def filter_runs(runs: Iterable[Run], filters: Sequence[str]) -> list[Run]:
    """Return the runs that match every filter `key=value[,value…]`.

    Raises:
        UsageError: a key or status is unknown.
    """
    wanted = {}
    for text in filters:
        key, equals, values = text.partition("=")
        if not equals or key not in FILTERS:
            raise UsageError(f"unknown filter '{text}'", did_you_mean(key, FILTERS))
        wanted[key] = values.split(",")
    for state in wanted.get("status", []):
        if state not in STATES:
            raise UsageError(f"unknown status '{state}'", did_you_mean(state, STATES))
    return [run for run in runs if all(run.value(key) in values for key, values in wanted.items())]


# --- the cache


@dataclass(frozen=True)
class CacheEntry:
    """An entry of the cache.

    Attributes:
        path: <cache>/<part>/<name>.
        part: datasets, features, raw, …
        state: `whole`; `being written`; or `left half written` by a killed process.
        bytes: on disk.
        used: when a file of it was last read or written, if the file system records that.
    """

    path: Path
    part: str
    state: str
    bytes: int
    used: float


def outputs_folder(typed: str | None) -> Path:
    """Return the folder of the runs: the typed one, or `outputs`, which need not exist.

    Raises:
        UsageError: the typed one does not exist.
    """
    folder = Path(typed or "outputs").expanduser()
    if typed and not folder.is_dir():
        raise UsageError(f"--outputs {typed}: there is no such folder", "the folder that paths.outputs=PATH named")
    return folder


def cache_folder(path: str | None) -> Path:
    """Return the folder of prepared data, features and the like: `path`, or by default the user's cache folder."""
    if path:
        return Path(path).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm4rec"


def cache_entries(cache: Path) -> Iterator[CacheEntry]:
    """Yield the entries of the cache by part and name, without lock files. Symbolic links are not followed."""
    parts = sorted(p for p in cache.iterdir() if p.is_dir() and not p.is_symlink()) if cache.is_dir() else []
    for part in parts:
        for path in sorted(part.iterdir()) if part.name != TRASH else []:
            if path.suffix != ".lock":
                yield CacheEntry(path, part.name, _entry_state(path), disk_usage(path), _last_use(path))


def _entry_state(path: Path) -> str:
    """Return the state of a cache entry: partial ones are `.<name>.<random>.part`, under the lock `.<name>.lock`."""
    if path.suffix != ".part":
        return "whole"
    name = path.name.removesuffix(".part").rpartition(".")[0]
    return "being written" if is_locked(path.with_name(f"{name}.lock")) else "left half written"


# --- files; symbolic links are not followed


def is_locked(lock: Path) -> bool:
    """Return whether a process holds this lock file."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def disk_usage(path: Path) -> int:
    """Return the bytes of a file, or of all files under a folder."""
    return sum(stat.st_size for stat in _stats(path))


def _last_use(path: Path) -> float:
    return max((max(stat.st_atime, stat.st_mtime) for stat in _stats(path)), default=path.lstat().st_mtime)


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Yield the stat of a file, or of every file under a folder; a running process may remove files meanwhile."""
    is_folder = path.is_dir() and not path.is_symlink()
    files = (Path(root, name) for root, _, names in os.walk(path) for name in names) if is_folder else [path]
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            yield file.lstat()


def _linked(folder: Path, root: Path) -> bool:
    """Return whether the path from `root` to `folder` contains a symbolic link."""
    return any(path.is_symlink() for path in (folder, *folder.parents) if root in path.parents)
