"""`llm4rec prune`: delete runs and cached data that are no longer wanted. Shows what would go, then asks.

llm4rec prune runs                                        runs that failed or were killed
llm4rec prune runs status=done model=sasrec --older-than 30d
llm4rec prune runs --checkpoints --keep-best dataset=demo  finished runs keep their numbers and their best weights
llm4rec prune cache                                       prepared datasets and text features: both are made anew
llm4rec prune cache --older-than 30d features
llm4rec prune cache --unused                              datasets that no run under --outputs was made with
llm4rec prune runs status=failed --yes                    without asking, as scripts need it

A run that a process works on is never touched, and neither is what a process is writing into the cache. Who reads the
cache is not known: a command that is just reading what goes may fail, and has only to be given again.
Raw files may have been put there by hand: they go only where `raw` is named. Symbolic links are never followed.
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

from llm4rec_cli.errors import RunError, UsageError, did_you_mean
from llm4rec_cli.files import locked
from llm4rec_cli.runs import catalog
from llm4rec_cli.runs.catalog import cache_folder

NEEDED_AFTER = ("pretrain", "all")  # tasks whose runs are nothing without their weights
PARTS = ("datasets", "candidates", "features", "indexing", "tokenizers", "backbones", "explanations", "raw")
AGES = {"h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Doomed:
    """What is to go.

    Attributes:
        paths: files or folders, all on one file system.
        said: in words.
        run: the run that they are, or belong to; None for cached data.
    """

    paths: list[Path]
    said: str
    run: catalog.Run | None = None

    def bytes(self) -> int:
        return sum(map(catalog.disk_usage, self.paths))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "llm4rec prune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("runs", "cache"))
    parser.add_argument("which", nargs="*", help=f"runs: {'=, '.join(catalog.FILTERS)}=; cache: {', '.join(PARTS)}")
    parser.add_argument("--older-than", metavar="AGE", help="12h, 30d or 8w since a run ended or a thing was last used")
    parser.add_argument("--checkpoints", action="store_true", help="runs: only the weights of finished ones")
    parser.add_argument("--keep-best", action="store_true", help="with --checkpoints: all but the best")
    parser.add_argument("--unused", action="store_true", help="cache: only datasets that no run was made with")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    parser.add_argument("--outputs", default="outputs", help="where runs were written (default: outputs)")
    parser.add_argument("--cache", help="the cache folder (default: the user's)")
    options = parser.parse_intermixed_args(argv)
    _refuse_what_does_not_go_together(options)
    before = time.time() - _seconds(options.older_than) if options.older_than else float("inf")
    outputs = Path(options.outputs).expanduser()
    root = outputs if options.what == "runs" else cache_folder(options.cache)
    if options.what == "cache":
        doomed = list(_cached(root, options.which, outputs if options.unused else None, before))
    elif options.checkpoints:
        named = any(which.startswith("task=") for which in options.which)
        doomed = list(_checkpoints(_runs(outputs, options.which, ["done"], before), options.keep_best, named))
    else:
        doomed = [
            Doomed([run.folder], f"{run.folder.relative_to(outputs)} ({run.state})", run)
            for run in _runs(outputs, options.which, ["failed", "killed"], before)
        ]
        done = [] if doomed else _runs(outputs, options.which, ["done"], before)
        if done and not any(f.startswith("status=") for f in options.which):
            print(f"{len(done)} finished runs match, none that failed or was killed: finished ones go with status=done")
            return 0
    return _delete(doomed, root, options.yes)


def _refuse_what_does_not_go_together(options: argparse.Namespace) -> None:
    for flag, kind in (("checkpoints", "runs"), ("keep_best", "runs"), ("unused", "cache")):
        if getattr(options, flag) and options.what != kind:
            raise UsageError(f"--{flag.replace('_', '-')} is about {kind}", f"llm4rec prune {kind} …")
    if options.keep_best and not options.checkpoints:
        raise UsageError("--keep-best says which checkpoints stay", "llm4rec prune runs --checkpoints --keep-best")
    if options.unused and set(options.which) - {"datasets"}:
        raise UsageError("only of datasets is it known which run used them", "--older-than 30d goes by last use")


def _seconds(age: str) -> float:
    found = re.fullmatch(r"(\d+)([hdw])", age)
    if found is None:
        raise UsageError(f"'{age}' is no age", "hours, days or weeks: --older-than 12h, 30d, 8w")
    return int(found[1]) * AGES[found[2]]


# --- what goes


def _runs(outputs: Path, filters: Sequence[str], default: Sequence[str], before: float) -> list[catalog.Run]:
    """The runs that meet the filters and have ended before; of status `default` where no filter says which."""
    asked = [f for f in filters if f.startswith("status=")] or [f"status={','.join(default)}"]
    if any("running" in status for status in asked):
        raise UsageError("a run that a process works on is not deleted", "stop the process first: then it is `killed`")
    found = catalog.filter_runs(catalog.runs(outputs), [*filters, *asked])
    return [run for run in found if run.written < before]


def _checkpoints(runs: Sequence[catalog.Run], keep_best: bool, pretrained: bool) -> Iterator[Doomed]:
    """Of each run its checkpoints; where the best stays and is not whole, none.

    Args:
        pretrained: also of pre-training, which is nothing without its weights.
    """
    from llm4rec_cli.training import checkpoints

    for run in runs:
        if (task := run.value("task")) in NEEDED_AFTER and not (keep_best or pretrained):
            print(f"stays: {run.folder.name}, whose weights other runs use: task={task} names it", file=sys.stderr)
            continue
        root = run.folder / "checkpoints"
        found = [] if root.is_symlink() else [f for f in root.glob("checkpoint-*") if not f.is_symlink()]
        if found and keep_best:
            try:
                best = checkpoints.selected(root).folder
            except RunError as error:
                print(f"stays: {error.problem}", file=sys.stderr)
                continue
            found.remove(best)
        if found:
            names = ", ".join(sorted(folder.name for folder in found))
            yield Doomed(found, f"{'/'.join(run.folder.parts[-4:])}: {names}", run)


def _cached(cache: Path, parts: Sequence[str], outputs: Path | None, before: float) -> Iterator[Doomed]:
    """Entries of the cache that were last used before.

    Args:
        parts: of PARTS; by default those that can be made anew.
        outputs: if given, only datasets that no run there was made with.
    """
    for part in parts:
        if part not in PARTS:
            raise UsageError(f"no part of the cache is called '{part}'", did_you_mean(part, PARTS))
    parts = ["datasets"] if outputs else parts or [part for part in PARTS if part != "raw"]
    used = _datasets_of(catalog.runs(outputs)) if outputs else ""
    for entry in catalog.cache_entries(cache):
        if entry.part not in parts or entry.used >= before or entry.state == "being written":
            continue
        if not re.fullmatch(used, entry.path.name):
            yield Doomed([entry.path], f"{entry.part}/{entry.path.name}")


def _datasets_of(runs: Sequence[catalog.Run]) -> str:
    """A pattern of the dataset folders that these runs may read again; of one that is not done, all of its name."""
    finished = {f"{run.value('dataset')}-{run.metrics['dataset_fingerprint'][:12]}" for run in runs if run.metrics}
    unfinished = {run.value("dataset") for run in runs if not run.metrics}
    return "|".join([*map(re.escape, finished), *(f"{re.escape(name)}-[0-9a-f]{{12}}" for name in unfinished)])


# --- how it goes


def _delete(doomed: Sequence[Doomed], root: Path, yes: bool) -> int:
    """Shows, asks, deletes.

    Raises:
        UsageError: nobody can be asked.
    """
    from rich.filesize import decimal

    from llm4rec_cli.reporting.tables import console, table

    if not doomed:
        print("nothing to delete")
        return 0
    sizes = [one.bytes() for one in doomed]
    rows = [[one.said, decimal(size)] for one, size in zip(doomed, sizes, strict=True)]
    console().print(table(f"to be deleted under {root}", ["what", "frees"], [*rows, ["together", decimal(sum(sizes))]]))
    if not yes and not sys.stdin.isatty():
        raise UsageError("nothing was deleted: there is no terminal to ask on", "give --yes as well")
    if not yes and not _confirmed():
        print("nothing was deleted")
        return 0
    trash = root / catalog.TRASH
    freed = 0
    with locked(root / f"{trash.name}.lock", trash):  # one prune at a time
        _empty(trash)
        for one, size in zip(doomed, sizes, strict=True):
            if reason := _stays(one, trash):
                print(f"stays, {reason}: {one.said}", file=sys.stderr)
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


def _stays(one: Doomed, trash: Path) -> str:
    """Puts it into the trash; otherwise says why it stays."""
    try:
        if one.run is None:
            _move(one.paths, trash)
            return ""
        if not one.run.folder.is_dir():
            return "as it has gone already"
        with locked(one.run.folder / ".lock", one.run.folder, wait=False):
            if catalog.read_json(one.run.folder / "status.json") != one.run.status:
                return "as it has changed meanwhile"
            _move(one.paths, trash)
            return ""
    except BlockingIOError:
        return "as a process works on it"
    except FileNotFoundError:
        return "or has gone already"
    except PermissionError:
        return "as it belongs to somebody else"


def _move(paths: Sequence[Path], trash: Path) -> None:
    """By renaming: whoever looks sees a thing whole or not at all."""
    aside = Path(tempfile.mkdtemp(dir=trash))
    for path in paths:
        path.rename(aside / path.name)


def _empty(trash: Path) -> None:
    """Removes what was put aside, now or by a prune that was killed."""
    trash.mkdir(exist_ok=True)
    for aside in trash.iterdir():
        shutil.rmtree(aside)
