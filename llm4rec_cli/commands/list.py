"""`llm4rec list`: what there is.

llm4rec list                              every option of every config group
llm4rec list models                       with what each can be asked
llm4rec list prompts                      each prompt: its fields, its answer, its text
llm4rec list prompts p5/rating            those of one file
llm4rec list runs                         every run folder and its state, newest first
llm4rec list runs status=failed,killed dataset=demo --outputs ~/outputs
llm4rec list cache                        prepared datasets, text features and raw files, with size and last use
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, ItemsView, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.config.overrides import GROUPS
from llm4rec_cli.errors import UsageError, did_you_mean
from llm4rec_cli.runs import catalog
from llm4rec_cli.runs.catalog import FILTERS, Run, bytes_in, cache_folder

if TYPE_CHECKING:
    from rich.table import Table

OPTIONS = tuple(f"{group}s" for group in GROUPS)
KINDS = (*OPTIONS, "runs", "cache")
UNUSUAL = (  # labels of runs that were asked or trained otherwise
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
        help=f"only such runs; keys: {', '.join(FILTERS)}; of prompts: names of files",
    )
    parser.add_argument("--outputs", default="outputs", help="where runs were written (default: outputs)")
    parser.add_argument("--cache", help="the cache folder (default: the user's)")
    options = parser.parse_intermixed_args(argv)
    if options.kind is not None and options.kind not in KINDS:
        raise UsageError(f"nothing to list called '{options.kind}'", did_you_mean(options.kind, KINDS))
    if options.filters and options.kind not in ("runs", "prompts"):
        raise UsageError(
            f"'{options.filters[0]}': only runs are filtered, and prompts",
            "llm4rec list runs key=value, llm4rec list prompts NAME",
        )

    from llm4rec_cli.reporting.tables import console

    out = console()
    for kind in [options.kind] if options.kind else OPTIONS:
        if kind == "runs":
            outputs = Path(options.outputs).expanduser()
            out.print(runs_table(catalog.selected(catalog.runs(outputs), options.filters), outputs))
        elif kind == "cache":
            for shown in _cache(cache_folder(options.cache)):
                out.print(shown)
        elif kind == "models":
            out.print(_models())
        elif kind == options.kind == "prompts":
            for shown in _prompts(options.filters):
                out.print(shown)
        else:
            out.print(_options(kind.removesuffix("s")))
    return 0


# --- options of config groups


def _options(group: str) -> Table:
    from llm4rec_cli.reporting.tables import table

    return table(f"{group}s", [group, "what it is"], list(described(group).items()))


def described(group: str) -> dict[str, str]:
    """Each option of a config group, with the first comment line of its file."""
    from llm4rec_cli.config.compose import conf_dir, options, user_conf_dir

    found = {}
    for name in options(group):
        files = [root / group / f"{name}.yaml" for root in (conf_dir(), user_conf_dir()) if root]
        text = next(file for file in files if file.exists()).read_text()
        found[name] = next(
            (line[1:].strip() for line in text.splitlines() if line.startswith("# ") and "@package" not in line), ""
        )
    return found


def _models() -> Table:
    from llm4rec_cli.config.registry import config_class, model_names
    from llm4rec_cli.reporting.tables import table

    rows = []
    for option, what in described("model").items():
        kind = config_class(option) if option in model_names() else None
        can = ", ".join(sorted(kind.capabilities)) if kind else ""
        rows.append([option, can, "floor" if kind and kind.floor else "", what])
    return table("models", ["model", "can", "", "what it is"], rows)


def _prompts(names: Sequence[str]) -> Iterator[Table]:
    """A table a file of prompts.

    Args:
        names: of the files; all where there is none.

    Raises:
        UsageError: there is no such file, or what it holds cannot be read.
    """
    from llm4rec_cli.config.compose import options
    from llm4rec_cli.reporting.tables import table

    rows = {"p5": _p5_rows, "chatgptrec": _chatgptrec_rows, "prompt4nr": _prompt4nr_rows}
    files = [option for option in options("prompt") if option.partition("/")[0] in rows]
    chosen = [name if "/" in name else f"p5/{name}" for name in names] or files
    for name in chosen:
        if name not in files:
            raise UsageError(f"there are no prompts '{name}'", did_you_mean(name, files))
    what = described("prompt")
    for file in chosen:
        columns, shown = rows[file.partition("/")[0]](file)
        yield table(f"{file}: {what[file]}", columns, shown)


def _p5_rows(file: str) -> tuple[list[str], list[list[str]]]:
    """Columns, and a row a prompt."""
    from llm4rec_cli.models.p5 import prompts
    from llm4rec_cli.models.p5.families import PromptConfig

    rows = []
    for name, prompt in _prompts_in(file, lambda found: {n: _typed(PromptConfig, one) for n, one in found.items()}):
        read = prompts.parse(name, prompt)
        fields = ", ".join(f"{f.value}*" if f in read.oracle_input else f.value for f in read.fields)
        marks = ["held out"] * (not read.trained) + ["oracle_input"] * bool(read.oracle_input)
        rows.append([name, read.family.name, ", ".join(marks), fields, prompt.target, prompt.source])
    return ["prompt", "family", "", "fields", "target", "source"], rows


def _chatgptrec_rows(file: str) -> tuple[list[str], list[list[str]]]:
    """Columns, and a row a part of each task's prompt."""
    from llm4rec_cli.models.chatgptrec.config import TASKS, Prompts

    found = dict(_prompts_in(file, lambda read: vars(_typed(Prompts, read))))
    settings = [["", name, str(value)] for name, value in found.items() if name not in TASKS]
    parts = [[task, part, str(text)] for task in TASKS for part, text in vars(found[task]).items() if text]
    return ["task", "part", "text"], [*settings, *parts]


def _prompt4nr_rows(file: str) -> tuple[list[str], list[list[str]]]:
    """Columns, and the one template.

    Raises:
        UsageError: something is wrong with it.
    """
    from llm4rec_cli.models.prompt4nr import templates
    from llm4rec_cli.models.prompt4nr.config import TemplateConfig

    found = TemplateConfig(**dict(_prompts_in(file, lambda read: vars(_typed(TemplateConfig, read)))))
    for fault in templates.problems_of_template(found):
        raise fault
    virtual = [f"{s.field} {s.n_virtual}" for s in templates.segments(found.text) if s.is_virtual]
    answers = f"{found.positive} / {found.negative}"
    columns = ["template", "virtual tokens", "clicked / not", "epochs", "text"]
    return columns, [[found.name, ", ".join(virtual), answers, str(found.epochs), found.text]]


def _typed(kind: Any, node: Any) -> Any:
    """A config node as an instance of its dataclass."""
    from omegaconf import OmegaConf

    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), node))


def _prompts_in(file: str, read: Callable[[Any], dict[str, Any]]) -> ItemsView[str, Any]:
    """What an option of prompts holds, with what it builds on.

    Raises:
        UsageError: it cannot be composed or read.
    """
    from llm4rec_cli.config.compose import COMPOSE_ERRORS, compose_prompt

    model, _, name = file.partition("/")
    try:
        return read(compose_prompt(model, name)).items()
    except COMPOSE_ERRORS as error:
        raise UsageError(
            f"prompts '{file}': {str(error).splitlines()[0]}", f"llm4rec validate prompt/{file}"
        ) from error


# --- runs


def runs_table(found: Sequence[Run], outputs: Path) -> Table:
    """One run a row."""
    from rich.filesize import decimal

    from llm4rec_cli.reporting.tables import table

    rows = [
        [
            run.folder.relative_to(outputs).as_posix(),
            run.state,
            _result(run),
            moment(run.written),
            decimal(bytes_in(run.folder)),
            str(run.status.get("error") or "").partition("\n")[0],
        ]
        for run in found
    ]
    return table(f"runs under {outputs}", ["run", "status", "result", "when", "size", "error"], rows)


def moment(time: float) -> str:
    """Local time to the minute."""
    return datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M")


def _result(run: Run) -> str:
    """`ndcg@10 0.1198 · test · full · masked`: the metric that the task selects by, and what was asked otherwise than
    usual; empty where there is none yet."""
    import yaml

    if not run.metrics:
        return ""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built
    selection = yaml.load((run.folder / "config.yaml").read_text(), loader)["task"]["selection"]
    value = run.metrics["metrics"].get(selection)
    scored = [] if value is None else [f"{selection} {value:.4f}"]
    masked = ["masked"] if run.metrics["mask_history"] else []
    unusual = [label for label in run.metrics["labels"] if label.startswith(UNUSUAL)]
    return " · ".join([*scored, run.metrics["split"], run.metrics["protocol"], *masked, *unusual])


# --- the cache


def _cache(cache: Path) -> Iterator[Table]:
    """Two tables: the parts, and what is in them, the latest used first."""
    from rich.filesize import decimal

    from llm4rec_cli.reporting.tables import table

    entries = sorted(catalog.cache_entries(cache), key=lambda entry: (entry.part, -entry.used))
    sizes: dict[str, list[int]] = {}
    for entry in entries:
        sizes.setdefault(entry.part, []).append(entry.bytes)
    rows = [[part, str(len(found)), decimal(sum(found))] for part, found in sizes.items()]
    yield table(f"cache: {cache}", ["part", "entries", "size"], rows)
    yield table(
        "what is in it",
        ["part", "entry", "size", "last used", ""],
        [
            [e.part, e.path.name, decimal(e.bytes), moment(e.used), "" if e.state == "whole" else e.state]
            for e in entries
        ],
    )
