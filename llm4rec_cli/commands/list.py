"""`llm4rec list`: options of config groups, prompts, runs and the cache.

llm4rec list                              every option of every config group
llm4rec list models                       with the capabilities of each
llm4rec list prompts                      each prompt with its fields, target and text
llm4rec list prompts p5/rating            the prompts of one file
llm4rec list runs                         every run folder with its status, newest first
llm4rec list runs status=failed,killed dataset=demo --outputs ~/outputs
llm4rec list cache                        prepared datasets, text features and raw files, with size and last use
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.config.overrides import GROUPS
from llm4rec_cli.errors import UsageError, did_you_mean, raise_first
from llm4rec_cli.runs import catalog
from llm4rec_cli.runs.catalog import FILTERS, Run, cache_folder, disk_usage

if TYPE_CHECKING:
    from rich.table import Table

OPTIONS = tuple(f"{group}s" for group in GROUPS)
KINDS = (*OPTIONS, "runs", "cache")
NONSTANDARD_PREFIXES = (  # of labels of nonstandard training or evaluation
    *("temporal-", "transfer", "control-", "subset", "cold-", "few-"),
    *("leaky", "oracle_input", "extracted-", "like-only"),
)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("llm4rec list", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", nargs="?", help=", ".join(KINDS))
    parser.add_argument(
        "filters",
        nargs="*",
        metavar="key=value",
        help=f"of runs: only these; keys: {', '.join(FILTERS)}; of prompts: names of files",
    )
    parser.add_argument("--outputs", default="outputs", help="folder of the runs (default: outputs)")
    parser.add_argument("--cache", help="the cache folder (default: the user's)")
    options = parser.parse_intermixed_args(argv)
    if options.kind is not None and options.kind not in KINDS:
        raise UsageError(f"cannot list '{options.kind}'", did_you_mean(options.kind, KINDS))
    if options.filters and options.kind not in ("runs", "prompts"):
        raise UsageError(
            f"'{options.filters[0]}': only runs and prompts can be filtered",
            "llm4rec list runs key=value, or llm4rec list prompts NAME",
        )

    from llm4rec_cli.reporting.tables import console

    out = console()
    for kind in [options.kind] if options.kind else OPTIONS:
        if kind == "runs":
            outputs = Path(options.outputs).expanduser()
            out.print(runs_table(catalog.filter_runs(catalog.runs(outputs), options.filters), outputs))
        elif kind == "cache":
            for table in _cache_tables(cache_folder(options.cache)):
                out.print(table)
        elif kind == "models":
            out.print(_models_table())
        elif kind == options.kind == "prompts":
            for table in _prompt_tables(options.filters):
                out.print(table)
        else:
            out.print(_options_table(kind.removesuffix("s")))
    return 0


# --- options of config groups


def _options_table(group: str) -> Table:
    from llm4rec_cli.reporting.tables import table

    return table(f"{group}s", [group, "description"], list(descriptions(group).items()))


def descriptions(group: str) -> dict[str, str]:
    """Return the options of a config group, each with the first comment line of its file."""
    from llm4rec_cli.config.compose import conf_dir, options, user_conf_dir

    by_option = {}
    for option in options(group):
        files = [root / group / f"{option}.yaml" for root in (conf_dir(), user_conf_dir()) if root]
        text = next(file for file in files if file.exists()).read_text()
        by_option[option] = next(
            (line[1:].strip() for line in text.splitlines() if line.startswith("# ") and "@package" not in line), ""
        )
    return by_option


def _models_table() -> Table:
    from llm4rec_cli.config.registry import config_class, model_names
    from llm4rec_cli.reporting.tables import table

    rows = []
    for option, description in descriptions("model").items():
        model = config_class(option) if option in model_names() else None
        capabilities = ", ".join(sorted(model.capabilities)) if model else ""
        rows.append([option, capabilities, "floor" if model and model.floor else "", description])
    return table("models", ["model", "capabilities", "", "description"], rows)


def _prompt_tables(names: Sequence[str]) -> Iterator[Table]:
    """Yield one table per prompt file.

    Args:
        names: the files; empty for all.

    Raises:
        UsageError: a file does not exist, or its content is invalid.
    """
    from llm4rec_cli.config.compose import options
    from llm4rec_cli.reporting.tables import table

    readers = {"p5": _p5_rows, "chatgptrec": _chatgptrec_rows, "prompt4nr": _prompt4nr_rows}
    known = [option for option in options("prompt") if option.partition("/")[0] in readers]
    files = [name if "/" in name else f"p5/{name}" for name in names] or known
    for file in files:
        if file not in known:
            raise UsageError(f"there are no prompts '{file}'", did_you_mean(file, known))
    by_file = descriptions("prompt")
    for file in files:
        columns, rows = readers[file.partition("/")[0]](file)
        yield table(f"{file}: {by_file[file]}", columns, rows)


def _p5_rows(file: str) -> tuple[list[str], list[list[str]]]:
    """Return column names, and one row per prompt."""
    from llm4rec_cli.models.p5 import prompts
    from llm4rec_cli.models.p5.families import PromptConfig

    configs = _prompts_in(file, lambda node: {name: _typed(PromptConfig, entry) for name, entry in node.items()})
    rows = []
    for name, config in configs.items():
        prompt = prompts.parse(name, config)
        fields = ", ".join(f"{f.value}*" if f in prompt.oracle_input else f.value for f in prompt.fields)
        labels = ["held out"] * (not prompt.trained) + ["oracle_input"] * bool(prompt.oracle_input)
        rows.append([name, prompt.family.name, ", ".join(labels), fields, config.target, config.source])
    return ["prompt", "family", "", "fields", "target", "source"], rows


def _chatgptrec_rows(file: str) -> tuple[list[str], list[list[str]]]:
    """Return column names, and one row per setting and per part of each task's prompt."""
    from llm4rec_cli.models.chatgptrec.config import TASKS, Prompts

    values = _prompts_in(file, lambda node: vars(_typed(Prompts, node)))
    settings = [["", name, str(value)] for name, value in values.items() if name not in TASKS]
    parts = [[task, part, str(text)] for task in TASKS for part, text in vars(values[task]).items() if text]
    return ["task", "part", "text"], [*settings, *parts]


def _prompt4nr_rows(file: str) -> tuple[list[str], list[list[str]]]:
    """Return column names, and one row for the template.

    Raises:
        UsageError: the template is invalid.
    """
    from llm4rec_cli.models.prompt4nr import templates
    from llm4rec_cli.models.prompt4nr.config import TemplateConfig

    config = TemplateConfig(**_prompts_in(file, lambda node: vars(_typed(TemplateConfig, node))))
    raise_first(templates.problems_of_template(config))
    virtual = [f"{s.field} {s.n_virtual}" for s in templates.segments(config.text) if s.is_virtual]
    answers = f"{config.positive} / {config.negative}"
    columns = ["template", "virtual tokens", "clicked / not", "epochs", "text"]
    return columns, [[config.name, ", ".join(virtual), answers, str(config.epochs), config.text]]


def _typed(kind: Any, node: Any) -> Any:
    """Return a config node as an instance of its dataclass."""
    from omegaconf import OmegaConf

    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), node))


def _prompts_in(file: str, read: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """Return the content of a prompt file and of those that it builds on.

    Raises:
        UsageError: it cannot be composed, or has unknown keys or wrong types.
    """
    from llm4rec_cli.config.compose import COMPOSE_ERRORS, compose_prompt

    model, _, name = file.partition("/")
    try:
        return read(compose_prompt(model, name))
    except COMPOSE_ERRORS as error:
        raise UsageError(
            f"prompts '{file}': {str(error).splitlines()[0]}", f"llm4rec validate prompt/{file}"
        ) from error


# --- runs


def runs_table(runs: Sequence[Run], outputs: Path) -> Table:
    """Return a table with one run per row."""
    from rich.filesize import decimal

    from llm4rec_cli.reporting.tables import table

    rows = [
        [
            run.folder.relative_to(outputs).as_posix(),
            run.state,
            _result(run),
            moment(run.written),
            decimal(disk_usage(run.folder)),
            str(run.status.get("error") or "").partition("\n")[0],
        ]
        for run in runs
    ]
    return table(f"runs under {outputs}", ["run", "status", "result", "time", "size", "error"], rows)


def moment(time: float) -> str:
    """Return the local time to the minute."""
    return datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M")


def _result(run: Run) -> str:
    """Return `ndcg@10 0.1198 · test · full · masked`: the task's selection metric, the protocol and nonstandard labels;
    empty if there are no metrics yet."""
    import yaml

    if not run.metrics:
        return ""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if available
    selection = yaml.load((run.folder / "config.yaml").read_text(), loader)["task"]["selection"]
    value = run.metrics["metrics"].get(selection)
    score = [] if value is None else [f"{selection} {value:.4f}"]
    masked = ["masked"] if run.metrics["mask_history"] else []
    labels = [label for label in run.metrics["labels"] if label.startswith(NONSTANDARD_PREFIXES)]
    return " · ".join([*score, run.metrics["split"], run.metrics["protocol"], *masked, *labels])


# --- the cache


def _cache_tables(cache: Path) -> Iterator[Table]:
    """Yield two tables: the size of each part of the cache, and its entries, the last used first."""
    from rich.filesize import decimal

    from llm4rec_cli.reporting.tables import table

    entries = sorted(catalog.cache_entries(cache), key=lambda entry: (entry.part, -entry.used))
    sizes: dict[str, list[int]] = {}
    for entry in entries:
        sizes.setdefault(entry.part, []).append(entry.bytes)
    totals = [[part, str(len(of_part)), decimal(sum(of_part))] for part, of_part in sizes.items()]
    yield table(f"cache: {cache}", ["part", "entries", "size"], totals)
    rows = [
        [e.part, e.path.name, decimal(e.bytes), moment(e.used), "" if e.state == "whole" else e.state] for e in entries
    ]
    yield table("entries", ["part", "entry", "size", "last used", "state"], rows)
