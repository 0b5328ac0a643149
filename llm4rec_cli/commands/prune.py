"""`llm4rec prune`: list runs and cached data that are no longer needed, ask, and delete them.

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
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from llm4rec_cli.commands import command_parser
from llm4rec_cli.errors import UsageError, raise_first
from llm4rec_cli.paths import cache_folder
from llm4rec_cli.run import pruning
from llm4rec_cli.run.catalog import FILTERS, outputs_folder
from llm4rec_cli.run.pruning import PARTS, Deletion, delete, matching_runs

AGES = {"h": 3600, "d": 86400, "w": 7 * 86400}


def main(argv: list[str]) -> int:
    parser = command_parser("prune", __doc__)
    parser.add_argument("what", choices=("runs", "cache"))
    parser.add_argument("which", nargs="*", help=f"runs: {'=, '.join(FILTERS)}=; cache: {', '.join(PARTS)}")
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
        deletions = list(pruning.cached(root, options.which, outputs if options.unused else None, before))
    elif options.checkpoints:
        task_named = any(which.startswith("task=") for which in options.which)
        done = matching_runs(outputs, options.which, ["done"], before)
        deletions = list(pruning.checkpoints_of(done, options.keep_best, task_named))
    else:
        deletions = [
            Deletion([run.folder], f"{run.folder.relative_to(outputs)} ({run.state})", run)
            for run in matching_runs(outputs, options.which, ["failed", "killed"], before)
        ]
        done = [] if deletions else matching_runs(outputs, options.which, ["done"], before)
        if done and not any(text.startswith("status=") for text in options.which):
            print(f"no failed or killed run matches, but {len(done)} finished: add status=done to delete finished runs")
            return 0
    for deletion in deletions:
        if deletion.kept:
            print(f"kept: {deletion.description}: {deletion.kept}", file=sys.stderr)
    return _delete([deletion for deletion in deletions if not deletion.kept], root, options.yes)


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
        raise UsageError(f"cannot read the age '{age}'", "hours, days or weeks: --older-than 12h, 30d, 8w")
    return int(match[1]) * AGES[match[2]]


def _delete(deletions: Sequence[Deletion], root: Path, yes: bool) -> int:
    """List the deletions, ask for confirmation and delete.

    Raises:
        UsageError: no terminal to ask on.
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
    reasons, freed = delete(deletions, root), 0
    for deletion, size, reason in zip(deletions, sizes, reasons, strict=True):
        if reason:
            print(f"kept: {deletion.description}: {reason}", file=sys.stderr)
        else:
            freed += size
    print(f"freed {decimal(freed)}")
    return 0


def _confirmed() -> bool:
    from rich.prompt import Confirm

    from llm4rec_cli.progress import console

    try:
        return Confirm.ask("Delete these?", console=console, default=False)
    except EOFError:
        return False
