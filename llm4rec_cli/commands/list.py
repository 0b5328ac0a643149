"""`llm4rec list`: options of config groups, prompts, runs and the cache.

llm4rec list                              the names of all options
llm4rec list models                       with the tasks of each; --wide has the complete descriptions
llm4rec list prompts                      each prompt with its fields, target and text
llm4rec list prompts p5/rating            the prompts of one file
llm4rec list runs                         every run folder with its status, newest first
llm4rec list runs status=failed,killed dataset=demo --outputs ~/outputs
llm4rec list papers                       every table of the papers, with what was reproduced; list papers p5
llm4rec list cache                        prepared datasets, text features and raw files, with size and last use

Options are sorted by use: your own first, then defaults, datasets without a download before the others, and methods of
papers before the project's own, baselines and floors.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from llm4rec_cli.commands import command_parser
from llm4rec_cli.config.overrides import GROUPS
from llm4rec_cli.config.schema import Candidates, PromptTable, Question, TaskConfig
from llm4rec_cli.errors import UsageError, did_you_mean
from llm4rec_cli.evaluation.metrics import headline_metrics
from llm4rec_cli.labels import UNUSUAL
from llm4rec_cli.results.results import IMPORT
from llm4rec_cli.runs import catalog
from llm4rec_cli.runs.catalog import FILTERS, Run, cache_folder, disk_usage, outputs_folder

if TYPE_CHECKING:
    from llm4rec_cli.results.tables import Content

OPTIONS = tuple(f"{group}s" for group in GROUPS)
KINDS = (*OPTIONS, "runs", "papers", "cache")
RAW_FILES = ("generated", "downloaded", "by hand")


def main(argv: list[str]) -> int:
    parser = command_parser("list", __doc__)
    parser.add_argument("kind", nargs="?", help=", ".join(KINDS))
    parser.add_argument(
        "filters",
        nargs="*",
        metavar="key=value",
        help=f"of runs: only these; keys: {', '.join(FILTERS)}; of prompts and papers: names",
    )
    parser.add_argument("--outputs", help="folder of the runs (default: outputs)")
    parser.add_argument("--cache", help="the cache folder (default: the user's)")
    options = parser.parse_intermixed_args(argv)
    if options.kind is not None and options.kind not in KINDS:
        raise UsageError(f"cannot list '{options.kind}'", did_you_mean(options.kind, KINDS))
    if options.filters and options.kind not in ("runs", "prompts", "papers"):
        raise UsageError(
            f"'{options.filters[0]}': only runs, prompts and papers can be filtered",
            "llm4rec list runs key=value, llm4rec list prompts NAME, or llm4rec list papers NAME",
        )

    from llm4rec_cli.results.tables import show

    if options.kind is None:
        show(_overview())
    elif options.kind == "runs":
        outputs = outputs_folder(options.outputs)
        runs = [*catalog.runs(outputs), *catalog.recorded_runs(outputs)]
        show(runs_table(catalog.filter_runs(runs, options.filters), outputs))
    elif options.kind == "papers":
        from llm4rec_cli.results.tables import is_wide
        from llm4rec_cli.studies.reproduction import states

        show(states(outputs_folder(options.outputs), ",".join(options.filters) or "*", titles=is_wide()))
    elif options.kind == "cache":
        show(*_cache_tables(cache_folder(options.cache)))
    elif options.kind == "models":
        show(_models_table())
    elif options.kind == "datasets":
        show(_datasets_table())
    elif options.kind == "prompts":
        show(*_prompt_tables(options.filters))
    else:
        show(_options_table(options.kind.removesuffix("s")))
    return 0


# --- options of config groups


def _overview() -> Content:
    """Return the names of all options, one row per group."""
    from llm4rec_cli.results.tables import Content

    rows = [[kind, ", ".join(_sorted_by_use(kind.removesuffix("s")))] for kind in OPTIONS]
    notes = [f"llm4rec list {'|'.join(KINDS)} says more about each"]
    return Content("options, as in model=unisrec dataset=demo", ["group", "options"], rows, notes)


def _options_table(group: str) -> Content:
    return _described(group, {group: _sorted_by_use(group)})


def _described(group: str, columns: dict[str, list[str]]) -> Content:
    """Return a table of options whose last column describes them: in one sentence, or completely under `--wide`.

    Args:
        columns: heading -> cells, the first with the options.
    """
    from llm4rec_cli.results.tables import Content, is_wide

    in_full = descriptions(group)
    options, *_ = columns.values()
    texts = [in_full[option] if is_wide() else first_sentence(in_full[option]) for option in options]
    rows = list(zip(*columns.values(), texts, strict=True))
    shortened = any(text != in_full[option].removesuffix(".") for option, text in zip(options, texts, strict=True))
    notes = ["complete descriptions: --wide"] if shortened else []
    return Content(f"{group}s", [*columns, "description"], rows, notes)


def first_sentence(text: str) -> str:
    """Return the text up to the first full stop or question mark that a capital letter or a number follows."""
    return re.split(r"(?<=[.?]) (?=[A-Z\d])", text)[0].removesuffix(".")


def _sorted_by_use(group: str) -> list[str]:
    """Return the options of a group: a user's own, then by `_use`, then the default, then by name."""
    from llm4rec_cli.config.compose import conf_dir

    defaults = yaml.safe_load((conf_dir() / "config.yaml").read_text())["defaults"]
    default = next((d[group] for d in defaults if isinstance(d, dict) and group in d), None)
    return sorted(descriptions(group), key=lambda option: (_use(group, option), option != default, option))


def _use(group: str, option: str) -> int:
    """Return the place of an option's kind in its group; -1 for a user's own option."""
    from llm4rec_cli.config.compose import conf_dir
    from llm4rec_cli.config.schema import ModelKind

    if not (conf_dir() / group / f"{option}.yaml").exists():
        return -1
    if group == "model":
        return [*ModelKind.__members__].index(_model_kind(option))
    if group == "dataset":
        return RAW_FILES.index(_raw_files(option))
    if group == "task":
        return list(Question).index(_task(option).question)
    return int(group == "experiment" and "demo" not in option)


def _model_kind(option: str) -> str:
    from llm4rec_cli.config.registry import config_class, model_names

    if option not in model_names():  # a user's own YAML of a shipped model
        option = str(_content("model", option).get("name", option))
    return config_class(option).traits.kind.name


def _raw_files(dataset: str) -> str:
    """Return how a dataset's raw files are obtained, as one of RAW_FILES."""
    content = _content("dataset", dataset)
    return RAW_FILES[0 if content.get("generator") else 1 if content.get("download") else 2]


def _task(option: str) -> TaskConfig:
    content = _content("task", option)
    candidates = Candidates[content.get("candidates", Candidates.full.name)]
    return TaskConfig(name=content["name"], question=Question[content["question"]], candidates=candidates)


def _content(group: str, option: str) -> dict[str, Any]:
    """Return the keys of an option's YAML and of those of its group that it builds on; composing them would be slow."""
    content = yaml.safe_load(_file(group, option).read_text(encoding="utf-8")) or {}
    merged: dict[str, Any] = {}
    for parent in content.pop("defaults", []):
        if isinstance(parent, str) and not parent.startswith("_"):
            merged |= _content(group, parent)
    return merged | content


def _file(group: str, option: str) -> Path:
    """Return the YAML of an option; of two with one name the shipped one, which is composed."""
    from llm4rec_cli.config.compose import conf_dir, user_conf_dir

    files = [root / group / f"{option}.yaml" for root in (conf_dir(), user_conf_dir()) if root]
    return next(file for file in files if file.exists())


def descriptions(group: str) -> dict[str, str]:
    """Return the options of a config group, each with the first comment line of its file."""
    from llm4rec_cli.config.compose import options

    by_option = {}
    for option in options(group):
        lines = _file(group, option).read_text(encoding="utf-8").splitlines()
        by_option[option] = next(
            (line[1:].strip() for line in lines if line.startswith("# ") and "@package" not in line), ""
        )
    return by_option


def _models_table() -> Content:
    from llm4rec_cli.config.registry import config_class, model_names
    from llm4rec_cli.runs.rules import needed_capability

    needed = {task: needed_capability(_task(task)) for task in _sorted_by_use("task")}
    options = _sorted_by_use("model")
    tasks = []
    for option in options:
        can = config_class(option).traits.capabilities if option in model_names() else ()
        tasks.append(", ".join(task for task, capability in needed.items() if capability in can))
    return _described("model", {"model": options, "kind": [_model_kind(o) for o in options], "tasks": tasks})


def _datasets_table() -> Content:
    options = _sorted_by_use("dataset")
    return _described("dataset", {"dataset": options, "raw files": [_raw_files(option) for option in options]})


def _prompt_tables(names: Sequence[str]) -> Iterator[Content]:
    """Yield one table per prompt file.

    Args:
        names: the files, also without their model (`rating`); empty for all.

    Raises:
        UsageError: a file does not exist, or its content is invalid.
    """
    from llm4rec_cli.config.compose import options
    from llm4rec_cli.config.registry import config_class, model_names
    from llm4rec_cli.results.tables import Content

    with_prompts = [name for name in model_names() if "prompts" in config_class(name).__dataclass_fields__]
    known = [option for option in options("prompt") if option.partition("/")[0] in with_prompts]
    files = [file for file in known if not names or {file, file.partition("/")[2]} & {*names}]
    for name in names:
        if not any(name in (file, file.partition("/")[2]) for file in files):
            raise UsageError(
                f"there are no prompts '{name}'",
                did_you_mean(name, [*known, *(file.partition("/")[2] for file in known)]),
            )
    by_file = descriptions("prompt")
    for file in files:
        table = _prompts_in(file)
        yield Content(f"{file}: {by_file[file]}", table.columns, table.rows)


def _prompts_in(file: str) -> PromptTable:
    """Return the prompts of a file and of those that it builds on.

    Raises:
        UsageError: it cannot be composed, has unknown keys or wrong types, or a prompt is invalid.
    """
    from llm4rec_cli.config.compose import COMPOSE_ERRORS, compose_prompt

    model, _, name = file.partition("/")
    prompts: Any = importlib.import_module(f"llm4rec_cli.models.{model}.prompts")
    try:
        table: PromptTable = prompts.prompt_table(compose_prompt(model, name))
        return table
    except COMPOSE_ERRORS as error:
        raise UsageError(
            f"prompts '{file}': {str(error).splitlines()[0]}", f"llm4rec validate prompt/{file}"
        ) from error


# --- runs


def runs_table(runs: Sequence[Run], outputs: Path) -> Content:
    """Return a table with one run per row."""
    from rich.filesize import decimal

    from llm4rec_cli.results.tables import Content

    rows = [
        [
            run.folder.relative_to(outputs).as_posix(),
            run.state,
            _result(run),
            moment(run.written),
            decimal(disk_usage(run.folder)) if run.folder.exists() else "recorded",
            str(run.status.error or "").partition("\n")[0],
        ]
        for run in runs
    ]
    columns = ["run", "status", "result", "time", "size", "error"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Content(f"runs under {outputs}", columns, rows, spare=["size", "time"], whole=["run"])


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
    first = headline_metrics(of_impressions=result.protocol == "impression")
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
    rows = [
        [e.part, e.path.name, decimal(e.bytes), moment(e.used), "" if e.state == "whole" else e.state] for e in entries
    ]
    yield Content("entries", ["part", "entry", "size", "last used", "state"], rows)
