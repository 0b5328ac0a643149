"""What `llm4rec prune` deletes: runs, their checkpoints and cached data, by way of a trash on the same file system."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llm4rec_cli.errors import RunError, UsageError, did_you_mean
from llm4rec_cli.files import locked
from llm4rec_cli.labels import CONTROL
from llm4rec_cli.results.result import CHECKPOINTS, read_status
from llm4rec_cli.results.results import IMPORT
from llm4rec_cli.run import catalog, checkpoints

WEIGHTS_REUSED = ("pretrain", "all")  # tasks whose runs serve to start or evaluate others
UNTIED = f"{CONTROL}shuffle_ties"  # the label of runs on an order that no prepared dataset has
PARTS: tuple[str, ...] = ("datasets", "candidates", "texts", "features", "indexing", "ids", "tokenizers", "tokens")
PARTS += ("backbones", "explanations", "inspected", "raw")


@dataclass(frozen=True)
class Deletion:
    """Files to delete together, or to keep for a reason."""

    paths: list[Path]  # files or folders, all on one file system
    description: str  # as the table shows them
    run: catalog.Run | None = None  # the run that they belong to; None for cached data
    kept: str = ""  # why they are kept; empty if they are to be deleted

    def size(self) -> int:
        return sum(map(catalog.disk_usage, self.paths))


def matching_runs(outputs: Path, filters: Sequence[str], default: Sequence[str], before: float) -> list[catalog.Run]:
    """Return the runs that match the filters and ended before a time; by default only of a status in `default`."""
    status_filters = [text for text in filters if text.startswith("status=")] or [f"status={','.join(default)}"]
    if any("running" in text for text in status_filters):
        raise UsageError("a run in progress cannot be deleted", "stop its process first: its status is `killed` then")
    matches = catalog.filter_runs(catalog.runs(outputs), [*filters, *status_filters])
    return [run for run in matches if run.written < before]


def checkpoints_of(runs: Sequence[catalog.Run], keep_best: bool, task_named: bool) -> Iterator[Deletion]:
    """Yield the checkpoints of each run, also those that are kept.

    Args:
        keep_best: all but the best; none if the best is damaged.
        task_named: the user named the task: without that, runs of WEIGHTS_REUSED keep all.
    """
    for run in runs:
        reused = run.value("task") in WEIGHTS_REUSED or run.status.command == IMPORT
        if reused and not (keep_best or task_named):
            task = run.value("task")
            reason = f"other runs may use its weights: add task={task} to delete them"
            yield Deletion([], run.folder.name, run, reason)
            continue
        root = run.folder / CHECKPOINTS
        folders = [] if root.is_symlink() else [f for f in root.glob("checkpoint-*") if not f.is_symlink()]
        if folders and keep_best:
            try:
                best = checkpoints.selected(root).folder
            except RunError as error:
                yield Deletion([], run.folder.name, run, error.problem)
                continue
            folders.remove(best)
        if folders:
            names = ", ".join(sorted(folder.name for folder in folders))
            yield Deletion(folders, f"{'/'.join(run.folder.parts[-4:])}: {names}", run)


def cached(cache: Path, parts: Sequence[str], outputs: Path | None, before: float) -> Iterator[Deletion]:
    """Yield the cache entries of these PARTS (by default those that can be recomputed) that were last used before a
    time; with `outputs`, only datasets that no run in this folder uses."""
    for part in parts:
        if part not in PARTS:
            raise UsageError(f"the cache has no part '{part}'", did_you_mean(part, PARTS))
    parts = ["datasets"] if outputs else parts or [part for part in PARTS if part != "raw"]
    if outputs and not outputs.is_dir():
        raise UsageError(f"{outputs} does not exist, so that every dataset would be unused", "--outputs FOLDER of runs")
    used = _dataset_pattern(catalog.runs(outputs)) if outputs else ""
    for entry in catalog.cache_entries(cache):
        if entry.part not in parts or entry.used >= before or entry.state == "being written":
            continue
        if not re.fullmatch(used, entry.path.name):
            yield Deletion([entry.path], f"{entry.part}/{entry.path.name}")


def _dataset_pattern(runs: Sequence[catalog.Run]) -> str:
    """Return a pattern for the dataset folders that these runs may read.

    An unfinished run may read any of its name. So may one whose control changes the fingerprint of what it reads.
    """
    from llm4rec_cli.data.store import FINGERPRINT_DIGITS as DIGITS

    any_of_name = {run.value("dataset") for run in runs if not run.result or UNTIED in run.result.labels}
    named = {f"{run.value('dataset')}-{run.result.dataset_fingerprint[:DIGITS]}" for run in runs if run.result}
    return "|".join([*map(re.escape, named), *(f"{re.escape(name)}-[0-9a-f]{{{DIGITS}}}" for name in any_of_name)])


def delete(deletions: Sequence[Deletion], root: Path) -> list[str]:
    """Delete files under a folder; return for each deletion why its files are kept, or an empty text."""
    trash = root / catalog.TRASH
    with locked(root / f"{trash.name}.lock", trash):  # one prune at a time
        _empty(trash)
        reasons = [_trash(deletion, trash) for deletion in deletions]
        _empty(trash)
        trash.rmdir()
    return reasons


def _trash(deletion: Deletion, trash: Path) -> str:
    """Move the files into the trash; return why they are kept, or an empty string."""
    run = deletion.run
    try:
        if run is None:
            _move(deletion.paths, trash)
            return ""
        if not run.folder.is_dir():
            return "already deleted"
        with locked(run.folder / ".lock", run.folder, wait=False):
            if read_status(run.folder) != run.status:
                return "changed in the meantime"
            _move(deletion.paths, trash)
            return ""
    except BlockingIOError:
        return "in use by a process"
    except FileNotFoundError:
        return "already deleted"
    except PermissionError:
        return "permission denied"


def _move(paths: Sequence[Path], trash: Path) -> None:
    """Move by renaming, which is atomic: other processes see a folder complete or not at all."""
    folder = Path(tempfile.mkdtemp(dir=trash))
    for path in paths:
        path.rename(folder / path.name)


def _empty(trash: Path) -> None:
    """Delete the content of the trash, which a prune that was killed may have left."""
    trash.mkdir(exist_ok=True)
    for folder in trash.iterdir():
        shutil.rmtree(folder)
