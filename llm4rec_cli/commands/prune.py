"""`llm4rec prune`: delete runs and cached data that are no longer needed. Lists them first, then asks.

llm4rec prune runs                                        failed or killed runs
llm4rec prune runs status=done model=sasrec --older-than 30d
llm4rec prune runs --checkpoints --keep-best dataset=demo  finished runs: all but the best weights
llm4rec prune cache                                       prepared datasets, text features: recomputed when needed
llm4rec prune cache --older-than 30d features
llm4rec prune cache --unused                              datasets that no run under --outputs uses
llm4rec prune runs status=failed --yes                    without asking, for scripts

A run in progress is never deleted, and neither is a cache entry that a process is writing. Readers of the cache are not
tracked: a command that is reading a deleted entry may fail; run it again.
Raw files may have been put there by hand: they are deleted only if `raw` is named. Symbolic links are never followed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llm4rec_cli.commands import command_parser
from llm4rec_cli.errors import RunError, UsageError, did_you_mean, raise_first
from llm4rec_cli.files import locked
from llm4rec_cli.labels import CONTROL
from llm4rec_cli.results.result import CHECKPOINTS, read_status
from llm4rec_cli.results.results import IMPORT
from llm4rec_cli.run import catalog
from llm4rec_cli.run.catalog import cache_folder, outputs_folder

WEIGHTS_REUSED = ("pretrain", "all")  # tasks whose runs serve to start or evaluate others
UNTIED = f"{CONTROL}shuffle_ties"  # the label of runs on an order that no prepared dataset has
PARTS = ("datasets", "candidates", "features", "indexing", "tokenizers", "backbones", "explanations", "raw")
AGES = {"h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Deletion:
    """Files to delete together.

    Attributes:
        paths: files or folders, all on one file system.
        description: as the table shows them.
        run: the run that they belong to; None for cached data.
    """

    paths: list[Path]
    description: str
    run: catalog.Run | None = None

    def size(self) -> int:
        """Return the size in bytes."""
        return sum(map(catalog.disk_usage, self.paths))


def main(argv: list[str]) -> int:
    parser = command_parser("prune", __doc__)
    parser.add_argument("what", choices=("runs", "cache"))
    parser.add_argument("which", nargs="*", help=f"runs: {'=, '.join(catalog.FILTERS)}=; cache: {', '.join(PARTS)}")
    parser.add_argument("--older-than", metavar="AGE", help="12h, 30d or 8w since a run ended or an entry was used")
    parser.add_argument("--checkpoints", action="store_true", help="runs: delete only the weights of finished runs")
    parser.add_argument("--keep-best", action="store_true", help="with --checkpoints: keep the best")
    parser.add_argument("--unused", action="store_true", help="cache: delete only datasets that no run uses")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    parser.add_argument("--outputs", help="the outputs folder (default: outputs)")
    parser.add_argument("--cache", help="the cache folder (default: the user's)")
    options = parser.parse_intermixed_args(argv)
    raise_first(_problems(options))
    before = time.time() - _seconds(options.older_than) if options.older_than else float("inf")
    outputs = outputs_folder(options.outputs)
    root = outputs if options.what == "runs" else cache_folder(options.cache)
    if options.what == "cache":
        deletions = list(_cached(root, options.which, outputs if options.unused else None, before))
    elif options.checkpoints:
        task_named = any(which.startswith("task=") for which in options.which)
        deletions = list(_checkpoints(_runs(outputs, options.which, ["done"], before), options.keep_best, task_named))
    else:
        deletions = [
            Deletion([run.folder], f"{run.folder.relative_to(outputs)} ({run.state})", run)
            for run in _runs(outputs, options.which, ["failed", "killed"], before)
        ]
        done = [] if deletions else _runs(outputs, options.which, ["done"], before)
        if done and not any(text.startswith("status=") for text in options.which):
            print(f"no failed or killed run matches, but {len(done)} finished: add status=done to delete finished runs")
            return 0
    return _delete(deletions, root, options.yes)


def _problems(options: argparse.Namespace) -> Iterator[UsageError]:
    for flag, what in (("checkpoints", "runs"), ("keep_best", "runs"), ("unused", "cache")):
        if getattr(options, flag) and options.what != what:
            yield UsageError(f"--{flag.replace('_', '-')} applies only to {what}", f"llm4rec prune {what} …")
    if options.keep_best and not options.checkpoints:
        yield UsageError("--keep-best needs --checkpoints", "llm4rec prune runs --checkpoints --keep-best")
    if options.unused and set(options.which) - {"datasets"}:
        yield UsageError("--unused works only for datasets", "--older-than 30d selects other entries by last use")


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+)([hdw])", age)
    if match is None:
        raise UsageError(f"'{age}' is not an age", "hours, days or weeks: --older-than 12h, 30d, 8w")
    return int(match[1]) * AGES[match[2]]


# --- select


def _runs(outputs: Path, filters: Sequence[str], default: Sequence[str], before: float) -> list[catalog.Run]:
    """Return the runs that match the filters and ended before a time; by default only of a status in `default`."""
    status_filters = [text for text in filters if text.startswith("status=")] or [f"status={','.join(default)}"]
    if any("running" in text for text in status_filters):
        raise UsageError("a run in progress cannot be deleted", "stop its process first: its status is `killed` then")
    matches = catalog.filter_runs(catalog.runs(outputs), [*filters, *status_filters])
    return [run for run in matches if run.written < before]


def _checkpoints(runs: Sequence[catalog.Run], keep_best: bool, task_named: bool) -> Iterator[Deletion]:
    """Yield the checkpoints of each run.

    Args:
        keep_best: all but the best; none if the best is damaged.
        task_named: the user named the task: without that, runs of WEIGHTS_REUSED keep all.
    """
    from llm4rec_cli.run import checkpoints

    for run in runs:
        reused = run.value("task") in WEIGHTS_REUSED or run.status.command == IMPORT
        if reused and not (keep_best or task_named):
            task = run.value("task")
            reason = f"other runs may use its weights: add task={task} to delete them"
            print(f"kept: {run.folder.name}: {reason}", file=sys.stderr)
            continue
        root = run.folder / CHECKPOINTS
        folders = [] if root.is_symlink() else [f for f in root.glob("checkpoint-*") if not f.is_symlink()]
        if folders and keep_best:
            try:
                best = checkpoints.selected(root).folder
            except RunError as error:
                print(f"kept: {run.folder.name}: {error.problem}", file=sys.stderr)
                continue
            folders.remove(best)
        if folders:
            names = ", ".join(sorted(folder.name for folder in folders))
            yield Deletion(folders, f"{'/'.join(run.folder.parts[-4:])}: {names}", run)


def _cached(cache: Path, parts: Sequence[str], outputs: Path | None, before: float) -> Iterator[Deletion]:
    """Yield the cache entries that were last used before a time.

    Args:
        parts: of PARTS; by default those that can be recomputed.
        outputs: select only datasets that no run in this folder uses.
    """
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

    An unfinished run may read any of its name; so may one whose control changes the fingerprint of what it reads.
    """
    from llm4rec_cli.data.store import FINGERPRINT_DIGITS as DIGITS

    any_of_name = {run.value("dataset") for run in runs if not run.result or UNTIED in run.result.labels}
    named = {f"{run.value('dataset')}-{run.result.dataset_fingerprint[:DIGITS]}" for run in runs if run.result}
    return "|".join([*map(re.escape, named), *(f"{re.escape(name)}-[0-9a-f]{{{DIGITS}}}" for name in any_of_name)])


# --- delete


def _delete(deletions: Sequence[Deletion], root: Path, yes: bool) -> int:
    """List the deletions, ask for confirmation and delete.

    Raises:
        UsageError: there is no terminal to ask on.
    """
    from rich.filesize import decimal

    from llm4rec_cli.results.tables import Content, show

    if not deletions:
        print("nothing to delete")
        return 0
    sizes = [deletion.size() for deletion in deletions]
    rows = [[deletion.description, decimal(size)] for deletion, size in zip(deletions, sizes, strict=True)]
    rows.append(["total", decimal(sum(sizes))])
    show(Content(f"to delete under {root}", ["files", "size"], rows, whole=["files"]))
    if not yes and not sys.stdin.isatty():
        raise UsageError("nothing was deleted: there is no terminal to confirm on", "add --yes")
    if not yes and not _confirmed():
        print("nothing was deleted")
        return 0
    trash = root / catalog.TRASH
    freed = 0
    with locked(root / f"{trash.name}.lock", trash):  # one prune at a time
        _empty(trash)
        for deletion, size in zip(deletions, sizes, strict=True):
            if reason := _trash(deletion, trash):
                print(f"kept: {deletion.description}: {reason}", file=sys.stderr)
            else:
                freed += size
        _empty(trash)
        trash.rmdir()
    print(f"freed {decimal(freed)}")
    return 0


def _confirmed() -> bool:
    from rich.prompt import Confirm

    from llm4rec_cli.progress import console

    try:
        return Confirm.ask("Delete these?", console=console, default=False)
    except EOFError:
        return False


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
