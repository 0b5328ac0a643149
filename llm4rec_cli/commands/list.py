"""`llm4rec list`: options of config groups, prompts, runs and the cache.

llm4rec list                              the names of all options, families of them by number
llm4rec list --all                        each name
llm4rec list models                       with the tasks of each; --wide has the complete descriptions
llm4rec list prompts                      each prompt with its fields, target and text
llm4rec list prompts p5/rating            the prompts of one file
llm4rec list runs                         every run folder with its status and size, newest first
llm4rec list runs status=failed,killed dataset=demo --outputs ~/outputs
llm4rec list papers                       every table of the papers, with what was reproduced
llm4rec list cache                        prepared datasets, text features and raw files, with size and last use

Options are sorted by use: your own first, then defaults, datasets without a download before the others, and methods of
papers before the project's own, baselines and floors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.commands import command_parser
from llm4rec_cli.config.commands import second_words
from llm4rec_cli.config.overrides import GROUPS, typed_besides_path
from llm4rec_cli.errors import UsageError, did_you_mean
from llm4rec_cli.evaluation.metrics import headline_metrics
from llm4rec_cli.labels import UNUSUAL
from llm4rec_cli.paths import cache_folder
from llm4rec_cli.results.results import IMPORT
from llm4rec_cli.run import catalog
from llm4rec_cli.run.catalog import FILTERS, Run, disk_usage, outputs_folder

if TYPE_CHECKING:
    from llm4rec_cli.results.tables import Content

OPTIONS = tuple(f"{group}s" for group in GROUPS)
KINDS = (*OPTIONS, "runs", "cache")


def main(argv: list[str]) -> int:
    parser = command_parser("list", __doc__)
    parser.add_argument("kind", nargs="?", help=", ".join(KINDS))
    parser.add_argument(
        "filters",
        nargs="*",
        metavar="key=value",
        help=f"of runs: only these; keys: {', '.join(FILTERS)}; of prompts: names",
    )
    parser.add_argument("--all", action="store_true", help="name each option of a family, such as amazon2023-…")
    parser.add_argument("--outputs", help="folder of the runs (default: outputs)")
    parser.add_argument("--cache", help="the cache folder (default: the user's)")
    options = parser.parse_intermixed_args(argv)
    if options.kind is not None and options.kind not in KINDS:
        raise UsageError(f"cannot list '{options.kind}'", did_you_mean(options.kind, (*KINDS, *second_words("list"))))
    if options.filters and options.kind not in ("runs", "prompts"):
        raise UsageError(
            f"'{options.filters[0]}': only runs and prompts can be filtered",
            "llm4rec list runs key=value, or llm4rec list prompts NAME",
        )

    from llm4rec_cli.results.tables import show

    if options.kind is None:
        show(_overview(options.all))
    elif options.kind == "runs":
        outputs = outputs_folder(options.outputs)
        runs = [*catalog.runs(outputs), *catalog.recorded_runs(outputs)]
        show(runs_table(catalog.filter_runs(runs, options.filters), outputs))
    elif options.kind == "cache":
        show(*_cache_tables(cache_folder(options.cache)))
    else:
        from llm4rec_cli.run.config_options import tables

        show(*tables(options.kind.removesuffix("s"), options.filters))
    return 0


def _overview(everything: bool) -> Content:
    """Return the names of all options, one row per group; of families only their number unless everything is wanted."""
    from llm4rec_cli.config.folders import families
    from llm4rec_cli.results.tables import Content
    from llm4rec_cli.run.config_options import sorted_by_use

    names = {kind: sorted_by_use(kind.removesuffix("s")) for kind in OPTIONS}
    rows = [[kind, ", ".join(of_kind if everything else families(of_kind))] for kind, of_kind in names.items()]
    notes = [f"llm4rec list {'|'.join([*KINDS, *second_words('list')])} says more about each"]
    return Content("options, as in model=unisrec dataset=demo", ["group", "options"], rows, notes)


# --- runs


def runs_table(runs: Sequence[Run], outputs: Path) -> Content:
    """Return a table with one run per row."""
    from rich.filesize import decimal

    from llm4rec_cli.results.tables import Content

    rows = [
        [
            run.folder.relative_to(outputs).as_posix(),
            run.state,
            decimal(disk_usage(run.folder)) if run.folder.exists() else "recorded",
            " ".join(typed_besides_path(run.result.overrides if run.result else run.status.overrides)),
            _result(run),
            moment(run.written),
            str(run.status.error or "").partition("\n")[0],
        ]
        for run in runs
    ]
    columns = ["run", "status", "size", "typed", "result", "time", "error"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Content(f"runs under {outputs}", columns, rows, spare=["time", "typed", "result"], whole=["run"])


def moment(time: float) -> str:
    """Return the local time to the minute."""
    return datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M")


def _result(run: Run) -> str:
    """Return `ndcg@10 0.1198 · test · full · masked`: the headline metric, the protocol and unusual labels;
    empty if there are no metrics yet."""
    result = run.result
    if result is None:
        return ""
    if run.status.command == IMPORT and result.imported:
        return f"weights imported from {result.imported.file}"
    first = headline_metrics(result.protocol)
    metric = next((name for name in (*first, *result.metrics) if name in result.metrics), "")
    score = [f"{metric} {result.metrics[metric]:.4f}"] if metric else []
    masked = [] if result.mask_history is False else ["masked" if result.mask_history is True else result.mask_history]
    labels = [label for label in result.labels if label in {*UNUSUAL, "subset"}]
    return " · ".join([*score, result.split, result.protocol, *masked, *labels])


# --- the cache


def _cache_tables(cache: Path) -> Iterator[Content]:
    """Yield two tables: the size of each part of the cache, and its entries, the last used first."""
    from rich.filesize import decimal

    from llm4rec_cli.results.tables import Content

    entries = sorted(catalog.cache_entries(cache), key=lambda entry: (entry.part, -entry.used))
    sizes: dict[str, list[int]] = {}
    for entry in entries:
        sizes.setdefault(entry.part, []).append(entry.bytes)
    totals = [[part, str(len(of_part)), decimal(sum(of_part))] for part, of_part in sizes.items()]
    yield Content(f"cache: {cache}", ["part", "entries", "size"], totals)
    rows = [[entry.part, entry.path.name, decimal(entry.bytes), moment(entry.used)] for entry in entries]
    yield Content("entries", ["part", "entry", "size", "last used"], rows)
