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
import contextlib
import fcntl
import json
import os
import re
from collections.abc import Callable, ItemsView, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.config.overrides import GROUPS
from llm4rec_cli.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

OPTIONS = tuple(f"{group}s" for group in GROUPS)
KINDS = (*OPTIONS, "runs", "cache")
STATES = ("done", "failed", "running", "killed", "unreadable")
FILTERS = ("model", "dataset", "task", "seed", "status")
UNUSUAL = (  # labels of runs that were asked or trained otherwise
    *("temporal-", "transfer", "control-", "subset", "cold-", "few-"),
    *("leaky", "oracle_input", "extracted-", "like-only"),
)
TRASH = ".pruned"  # where `prune` puts things aside before it removes them


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
            out.print(runs_table(selected(runs(outputs), options.filters), outputs))
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
    from llm4rec_cli.models.p5.config import PromptConfig

    rows = []
    for name, prompt in _prompts_in(file, lambda found: {n: _typed(PromptConfig, one) for n, one in found.items()}):
        read = prompts.read(name, prompt)
        fields = ", ".join(f"{f.value}*" if f in read.oracle_input else f.value for f in read.fields)
        marks = ["held out"] * (not read.trained) + ["oracle_input"] * bool(read.oracle_input)
        rows.append([name, read.family.name, ", ".join(marks), fields, prompt.target, prompt.source])
    return ["prompt", "family", "", "fields", "target", "source"], rows


def _chatgptrec_rows(file: str) -> tuple[list[str], list[list[str]]]:
    """Columns, and a row a part of each task's prompt."""
    from llm4rec_cli.models.chatgptrec.config import ASKED, Prompts

    found = dict(_prompts_in(file, lambda read: vars(_typed(Prompts, read))))
    settings = [["", name, str(value)] for name, value in found.items() if name not in ASKED]
    parts = [[task, part, str(text)] for task in ASKED for part, text in vars(found[task]).items() if text]
    return ["task", "part", "text"], [*settings, *parts]


def _prompt4nr_rows(file: str) -> tuple[list[str], list[list[str]]]:
    """Columns, and the one template.

    Raises:
        UsageError: something is wrong with it.
    """
    from llm4rec_cli.models.prompt4nr import templates
    from llm4rec_cli.models.prompt4nr.config import TemplateConfig

    found = TemplateConfig(**dict(_prompts_in(file, lambda read: vars(_typed(TemplateConfig, read)))))
    for fault in templates.faults_in(found):
        raise fault
    virtual = [f"{s.field} {s.virtual}" for s in templates.segments(found.text) if s.is_virtual]
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
    from llm4rec_cli.config.compose import NOT_COMPOSED, compose_prompt

    model, _, name = file.partition("/")
    try:
        return read(compose_prompt(model, name)).items()
    except NOT_COMPOSED as error:
        raise UsageError(
            f"prompts '{file}': {str(error).splitlines()[0]}", f"llm4rec validate prompt/{file}"
        ) from error


# --- runs


@dataclass(frozen=True)
class Run:
    """A run folder as it lies there.

    Attributes:
        folder: <outputs>/<model>/<dataset>/<task>/seed<seed>-<hash>.
        state: one of STATES; `killed` says running, but nobody holds its lock.
        status: status.json; empty where it is unreadable.
        metrics: metrics.json of a run that is done; otherwise empty.
        written: when its state last changed, in seconds since 1970.
    """

    folder: Path
    state: str
    status: dict[str, Any]
    metrics: dict[str, Any]
    written: float

    def fact(self, key: str) -> str:
        """What a filter's key is compared with."""
        model, dataset, task, name = self.folder.parts[-4:]
        seed = name.removeprefix("seed").rpartition("-")[0]
        return {"model": model, "dataset": dataset, "task": task, "seed": seed, "status": self.state}[key]


def runs(outputs: Path) -> list[Run]:
    """Every run under `outputs`, newest first. A folder counts by its place, its name and its status.json; no symbolic
    link is followed."""
    folders = [path.parent for path in outputs.glob("*/*/*/seed*/status.json")]
    own = [f for f in folders if re.fullmatch(r"seed-?\d+-\w+", f.name) and not _linked(f, outputs)]
    return sorted(map(run_in, own), key=lambda run: (-run.written, run.folder))


def run_in(folder: Path) -> Run:
    """The run in a folder that holds a status.json."""
    status = json_in(folder / "status.json")
    state = str(status.get("status", "unreadable"))
    metrics = json_in(folder / "metrics.json") if state == "done" else {}
    if state == "running" and not held(folder / ".lock"):
        state = "killed"
    elif state == "done" and not metrics:
        state = "unreadable"
    return Run(folder, state, status, metrics, (folder / "status.json").lstat().st_mtime)


def json_in(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; empty where it is torn, not ours to read, or not there."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def selected(found: Iterable[Run], filters: Sequence[str]) -> list[Run]:
    """The runs that meet every `key=value[,value…]`.

    Raises:
        UsageError: an unknown key, or a state of no name.
    """
    wanted = {}
    for text in filters:
        key, equals, values = text.partition("=")
        if not equals or key not in FILTERS:
            raise UsageError(f"unknown filter '{text}'", did_you_mean(key, FILTERS))
        wanted[key] = values.split(",")
    for state in wanted.get("status", []):
        if state not in STATES:
            raise UsageError(f"no run's status is '{state}'", did_you_mean(state, STATES))
    return [run for run in found if all(run.fact(key) in values for key, values in wanted.items())]


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


@dataclass(frozen=True)
class Entry:
    """One thing kept in the cache.

    Attributes:
        path: <cache>/<part>/<name>.
        part: datasets, features, raw, …
        state: `whole`; `being written`; or `left half written` by a process that was killed.
        bytes: on disk.
        used: when a file of it was last read or written, as far as the file system keeps that.
    """

    path: Path
    part: str
    state: str
    bytes: int
    used: float


def cache_folder(given: str | None) -> Path:
    """The cache that a command line names, or the user's."""
    from llm4rec_cli.runs import spec

    return spec.cache_folder(given and str(Path(given).expanduser()))


def cache_entries(cache: Path) -> Iterator[Entry]:
    """What lies in the cache, by part and name, without lock files. No symbolic link is followed."""
    parts = sorted(p for p in cache.iterdir() if p.is_dir() and not p.is_symlink()) if cache.is_dir() else []
    for part in parts:
        for path in sorted(part.iterdir()) if part.name != TRASH else []:
            if path.suffix != ".lock":
                yield Entry(path, part.name, _writing(path), bytes_in(path), _last_use(path))


def _cache(cache: Path) -> Iterator[Table]:
    """Two tables: the parts, and what is in them, the latest used first."""
    from rich.filesize import decimal

    from llm4rec_cli.reporting.tables import table

    entries = sorted(cache_entries(cache), key=lambda entry: (entry.part, -entry.used))
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


def _writing(path: Path) -> str:
    """State of a cache entry: half-written ones are `.<name>.<random>.part`, under the lock `.<name>.lock`."""
    if path.suffix != ".part":
        return "whole"
    name = path.name.removesuffix(".part").rpartition(".")[0]
    return "being written" if held(path.with_name(f"{name}.lock")) else "left half written"


# --- files, however they are reached: links are never followed


def held(lock: Path) -> bool:
    """Whether some process holds this lock file."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def bytes_in(path: Path) -> int:
    """Of a file, or of all files under a folder."""
    return sum(facts.st_size for facts in _facts(path))


def moment(time: float) -> str:
    """Local time to the minute."""
    return datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M")


def _last_use(path: Path) -> float:
    return max((max(facts.st_atime, facts.st_mtime) for facts in _facts(path)), default=path.lstat().st_mtime)


def _facts(path: Path) -> Iterator[os.stat_result]:
    """Of a file, or of every file under a folder; a run at work may take one away meanwhile."""
    folder = path.is_dir() and not path.is_symlink()
    files = (Path(at, name) for at, _, names in os.walk(path) for name in names) if folder else [path]
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            yield file.lstat()


def _linked(folder: Path, root: Path) -> bool:
    """Whether a symbolic link stands between `root` and `folder`."""
    return any(path.is_symlink() for path in (folder, *folder.parents) if root in path.parents)
