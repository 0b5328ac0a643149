"""Tables of papers to reproduce: conf/paper/<paper>/<table>.yaml says which command makes each cell.

    title: Ranking in the whole catalogue
    source: arXiv 2206.05941, Table 2
    metrics: [recall@10, ndcg@10]
    train: task=sequential                  overrides of every training
    values: {paper: unisrec}                selects the printed numbers in results/papers/*.csv
    rows:
      - {label: SASRec, train: model=sasrec, values: {model: SASRec}}
      - {label: CCDR, values: {model: CCDR}, quoted: The project has no CCDR.}
    columns:
      - {label: Scientific, train: dataset=amazon2018-scientific, values: {dataset: amazon2018-scientific}}

A cell is a row in a column, and under one of the column's prompts if the row is `prompted`. Its command is `train` with
the overrides of table, column and row, then `eval` of that run with the `eval` overrides of its row, column and prompt.
Tables are data, no part of a config.
"""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from llm4rec_cli.config.folders import data_file, options
from llm4rec_cli.config.overrides import PAPER_TABLES, key_typed
from llm4rec_cli.config.reading import read_yaml
from llm4rec_cli.errors import UsageError, did_you_mean, raise_first

SELECTORS = ("paper", "model", "variant", "dataset", "task", "prompt")  # columns of the CSV files of printed numbers
REASONS = {  # why a cell is not run -> the words for it in tables
    "quoted": "quoted, not run",
    "lacks": "cannot be run",
    "absent": "not in the paper's table",
    "skipped": "not at this size",
}
STATED = ("quoted", "lacks", "absent")  # those that a file states
SENTENCE = re.compile(r"[A-Z0-9].{9,}\.", re.DOTALL)
ALL = "*"
REFERENCE = "reference"


class Size(Enum):
    """At which size a table is made."""

    paper = "paper"  # the paper's data and weights
    cpu = "cpu"  # real data, packaged weights, short trainings
    small = "small"  # generated data and packaged weights, within minutes


class Kind(Enum):
    """What the numbers of a table are."""

    runs = "runs"  # metrics of evaluated runs
    data = "data"  # statistics of prepared datasets
    human = "human"  # judgements of people, on texts of runs; the row REFERENCE is the users' own texts


@dataclass(frozen=True, eq=False)
class Entry:
    """A row, a column or a prompt of a table.

    `train` and `start` are overrides by size: a size without an entry has those of `paper`, and one with None is not
    made. A row may be `prompted`, `tuned`, `seeded` and an `ensemble`.
    """

    label: str
    train: Mapping[Size, tuple[str, ...] | None] = field(default_factory=dict)
    start: Mapping[Size, tuple[str, ...] | None] = field(default_factory=dict)  # of the training it starts from, if any
    eval: tuple[str, ...] = ()  # overrides of the evaluation; empty = that of `train`
    values: Mapping[str, str] = field(default_factory=dict)  # column of the printed numbers -> value
    metrics: Mapping[str, str | None] = field(default_factory=dict)  # the paper's name -> ours; empty = the table's
    reason: tuple[str, str] | None = None  # a key of REASONS and a sentence; None = its cells are run
    unsourced: str | None = None  # a sentence that says why the paper's numbers are not known; None = they are
    prompts: tuple[Entry, ...] = ()  # a row's come before its column's, and these before the table's
    prompted: bool = False  # whether there is a cell for each prompt
    ensemble: tuple[str, ...] = ()  # the labels of the rows whose runs are combined
    tuned: bool = True  # whether the table's search is run for it
    seeded: bool = True  # whether it is run with each seed, if its model depends on one; untuned weights do not


@dataclass(frozen=True)
class Special:
    """Cells whose reason or sourcing differs from their row and column, by patterns of labels."""

    row: str
    column: str
    prompt: str
    reason: tuple[str, str] | None
    unsourced: str | None


@dataclass(frozen=True)
class Tuning:
    """The search on validation before a row is trained: every combination of these values, with seed 0."""

    grid: Mapping[str, tuple[Any, ...]]  # setting -> its values
    source: str  # where the grid is from


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell of a table, which has a number for each metric.

    Attributes:
        row, column, prompt: its entries; without a prompt None.
        reason, unsourced: as in `Entry`; that of its exceptions, row, column and prompt which comes first, and before
            all what the paper's table does not have.
    """

    row: Entry
    column: Entry
    prompt: Entry | None
    reason: tuple[str, str] | None
    unsourced: str | None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Column before row before prompt: of overrides with the same key the last counts."""
        return tuple(entry for entry in (self.column, self.row, self.prompt) if entry)

    @property
    def key(self) -> str:
        return " | ".join(entry.label for entry in (self.row, self.column, self.prompt) if entry)


@dataclass(frozen=True)
class Table:
    """A table or figure of a paper."""

    name: str  # `unisrec/main`
    title: str
    source: str  # the paper and the number of the table
    kind: Kind
    seeds: tuple[int, ...]  # the runs of these are averaged
    metrics: Mapping[str, str | None]  # the paper's name of each metric -> ours; None = as identities.yaml names it
    common: Entry  # overrides, values and reasons of all cells
    rows: tuple[Entry, ...]
    columns: tuple[Entry, ...]
    exceptions: tuple[Special, ...]
    tuning: Tuning | None  # None = the paper does not tune, or nothing is known of it
    unmade: Mapping[str, str]  # metric of the paper -> why our runs do not have it
    notes: tuple[str, ...]  # sentences below the table

    def cells(self, rows: str = ALL, columns: str = ALL) -> list[Cell]:
        """Return the cells whose labels match these patterns: shell wildcards, case ignored, commas between several."""
        return [
            self._cell(row, column, prompt)
            for column in self.columns
            if matches(column.label, columns)
            for row in self.rows
            if matches(row.label, rows)
            for prompt in ((row.prompts or column.prompts or self.common.prompts) if row.prompted else (None,))
        ]

    def _cell(self, row: Entry, column: Entry, prompt: Entry | None) -> Cell:
        labels = row.label, column.label, prompt.label if prompt else ""
        special = [e for e in self.exceptions if all(map(matches, labels, (e.row, e.column, e.prompt)))]
        entries: list[Special | Entry] = [*special, row, column, *([prompt] if prompt else []), self.common]
        reasons = [entry.reason for entry in entries if entry.reason]
        reason = next((r for r in reasons if r[0] == "absent"), reasons[0] if reasons else None)
        unsourced = next((entry.unsourced for entry in entries if entry.unsourced), None)
        return Cell(row, column, prompt, reason, unsourced)

    def metrics_of(self, cell: Cell) -> Mapping[str, str | None]:
        """Return the metrics of a cell: from its prompt, else its row, else its column, else the table."""
        entries = [entry for entry in (cell.prompt, cell.row, cell.column) if entry]
        return next((entry.metrics for entry in entries if entry.metrics), self.metrics)

    def values_of(self, cell: Cell) -> dict[str, str]:
        """Return the selectors of a cell's printed numbers."""
        return {key: value for entry in (self.common, *cell.entries) for key, value in entry.values.items()}

    def train_overrides(self, cell: Cell, size: Size) -> tuple[str, ...] | None:
        """Return the overrides of a cell's training at this size; None if it is not made at this size."""
        return _at_size([entry.train for entry in (self.common, *cell.entries)], size)

    def start_overrides(self, cell: Cell, size: Size) -> tuple[str, ...]:
        """Return the overrides of the training whose weights it starts from; empty if from scratch."""
        return _at_size([entry.start for entry in (self.common, *cell.entries)], size) or ()

    def eval_overrides(self, cell: Cell) -> tuple[str, ...]:
        """Return the overrides of the evaluation besides those of the training; empty if it is the training's."""
        return merged(entry.eval for entry in (self.common, *cell.entries))

    def not_made(self, cell: Cell, size: Size) -> tuple[str, str] | None:
        """Return why a cell is not made at this size, as in `Entry.reason`; None if it is.

        What lacks data is made smaller if its row has a command, and its row or column overrides of that size.
        """
        of_row = cell.row.train.get(size) or cell.row.train.get(Size.paper)
        smaller = size is not Size.paper and bool(of_row) and any(entry.train.get(size) for entry in cell.entries)
        if cell.reason and not (cell.reason[0] == "lacks" and smaller):
            return cell.reason
        if cell.row.ensemble or self.train_overrides(cell, size):
            return None
        return "skipped", f"The table has no setting of size '{size.value}' for it."


def matches(label: str, patterns: str) -> bool:
    return any(fnmatch.fnmatch(label.lower(), pattern.strip().lower()) for pattern in patterns.split(","))


def merged(parts: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return overrides without those whose key a later one sets."""
    return tuple({key_typed(override): override for part in parts for override in part}.values())


def _at_size(parts: Sequence[Mapping[Size, tuple[str, ...] | None]], size: Size) -> tuple[str, ...] | None:
    at_size = [part.get(size, part.get(Size.paper, ())) for part in parts]
    return None if None in at_size else merged(part for part in at_size if part)


# --- reading


def names() -> list[str]:
    return options(PAPER_TABLES)


def table(name: str) -> Table:
    """Return a table by name.

    Raises:
        UsageError: there is none, or its file is wrong; the first of its problems.
    """
    if (file := data_file(PAPER_TABLES, name)) is None:
        raise UsageError(f"unknown table '{name}'", did_you_mean(name, names()))
    return read(file, name)


def read(file: Path, name: str) -> Table:
    """Return the table of a file. Raises UsageError with the first of its problems."""
    content = read_yaml(file)
    raise_first(UsageError(f"{file}: {problem.problem}", problem.remedy) for problem in _problems(content))
    tuning = content.get("tuning")
    return Table(
        name=name,
        title=content["title"],
        source=content["source"],
        kind=Kind[content.get("kind", "runs")],
        seeds=tuple(content.get("seeds", (0, 1, 2))),
        metrics=_metrics(content["metrics"]),
        common=_entry({"label": "", **{key: content[key] for key in ENTRY if key in content and key != "metrics"}}),
        rows=tuple(map(_entry, content["rows"])),
        columns=tuple(map(_entry, content["columns"])),
        exceptions=tuple(
            Special(
                row=str(entry.get("row", ALL)),
                column=str(entry.get("column", ALL)),
                prompt=str(entry.get("prompt", ALL)),
                reason=_reason(entry),
                unsourced=entry.get("unsourced"),
            )
            for entry in content.get("except", [])
        ),
        tuning=Tuning({k: tuple(v) for k, v in tuning["grid"].items()}, tuning["source"]) if tuning else None,
        unmade=content.get("unmade", {}),
        notes=tuple(content.get("notes", [])),
    )


def problems(file: Path) -> list[UsageError]:
    """Return the problems of a file's form; what its overrides compose to is checked by `llm4rec validate`."""
    try:
        return list(_problems(read_yaml(file)))
    except UsageError as error:
        return [error]


ENTRY: Mapping[str, type] = {
    **{"train": str, "cpu": str, "small": str, "start": dict, "eval": str, "values": dict, "metrics": list},
    **{"quoted": str, "lacks": str, "absent": str, "unsourced": str},
    **{"prompts": list, "prompted": bool, "ensemble": list, "tuned": bool, "seeded": bool},
}
TABLE: Mapping[str, type] = {
    **{"title": str, "source": str, "kind": str, "seeds": list, "metrics": list, "rows": list, "columns": list},
    **{"except": list, "tuning": dict, "unmade": dict, "notes": list},
    **{key: kind for key, kind in ENTRY.items() if key not in ("prompted", "ensemble", "tuned", "seeded")},
}
EXCEPTION: Mapping[str, type] = dict.fromkeys(("row", "column", "prompt", *STATED, "unsourced"), str)


def _problems(content: Any) -> Iterator[UsageError]:
    if not isinstance(content, dict):
        yield UsageError("the file has no keys", "write title, source, metrics, rows and columns")
        return
    yield from _key_problems("the table", content, TABLE, required=("title", "source", "metrics", "rows", "columns"))
    if content.get("kind", "runs") not in Kind.__members__:
        yield UsageError(f"unknown kind '{content['kind']}'", did_you_mean(str(content["kind"]), Kind.__members__))
    for group, allowed in (("rows", ENTRY), ("columns", ENTRY), ("prompts", ENTRY), ("except", EXCEPTION)):
        entries = content.get(group, [])
        for number, entry in enumerate(entries if isinstance(entries, list) else [], start=1):
            name = (
                f"'{entry['label']}'" if isinstance(entry, dict) and "label" in entry else f"{group}, number {number}"
            )
            required = () if group == "except" else ("label",)
            yield from _key_problems(name, entry, {**allowed, "label": str}, required)
            for prompt in entry.get("prompts", []) if isinstance(entry, dict) else []:
                yield from _key_problems(f"a prompt of {name}", prompt, {**ENTRY, "label": str}, ("label",))
    yield from _label_problems(content)


def _key_problems(name: str, entry: Any, allowed: Mapping[str, type], required: Sequence[str]) -> Iterator[UsageError]:
    if not isinstance(entry, dict):
        yield UsageError(f"{name} has type {type(entry).__name__} instead of keys", "write {label: …, train: …}")
        return
    for key in required:
        if key not in entry:
            yield UsageError(f"{name} has no '{key}'", f"add {key}: …")
    for key, value in entry.items():
        if key not in allowed:
            yield UsageError(f"{name}: unknown key '{key}'", did_you_mean(str(key), allowed))
        elif key == "metrics" and isinstance(value, dict):
            continue
        elif not (_fits(value, allowed[key]) or (value is None and key in ("train", "cpu", "small"))):
            yield UsageError(
                f"{name}: '{key}' has type {type(value).__name__}", f"write a value of type {allowed[key].__name__}"
            )
        elif key in (*STATED, "unsourced") and not SENTENCE.fullmatch(value.strip()):
            yield UsageError(f"{name}: '{key}' is not a sentence: '{value}'", "say why, with a full stop at the end")
        elif key == "values":
            yield from (
                UsageError(f"{name}: no column '{selector}' of printed numbers", did_you_mean(selector, SELECTORS))
                for selector in value
                if selector not in SELECTORS
            )
        elif key == "unmade":
            yield from (
                UsageError(f"{name}: 'unmade' of {metric} is not a sentence: '{text}'", "say why, with a full stop")
                for metric, text in value.items()
                if not SENTENCE.fullmatch(str(text).strip())
            )


def _fits(value: Any, kind: type) -> bool:  # `isinstance` in place would make the type checker take it for an object
    return isinstance(value, kind)


def _label_problems(content: Mapping[str, Any]) -> Iterator[UsageError]:
    labels = {
        group: [str(entry.get("label")) for entry in content.get(group) or [] if isinstance(entry, dict)]
        for group in ("rows", "columns")
    }
    for group, own in labels.items():
        for label in sorted({label for label in own if own.count(label) > 1}):
            yield UsageError(f"two {group} are called '{label}'", "give each a label of its own")
        for label in own:
            if "," in label:
                yield UsageError(f"the label '{label}' has a comma", "leave it out: in --rows a comma separates labels")
    for entry in content.get("rows") or []:
        if not isinstance(entry, dict):
            continue
        for member in entry.get("ensemble", []):
            if member not in labels["rows"]:
                yield UsageError(f"'{entry.get('label')}' combines '{member}', which is not a row", "name other rows")
        columns = [column for column in content.get("columns") or [] if isinstance(column, dict)]
        if entry.get("prompted") and not content.get("prompts") and not entry.get("prompts"):
            yield from (
                UsageError(
                    f"'{entry.get('label')}' is prompted, and column '{c.get('label')}' has no prompts", "add some"
                )
                for c in columns
                if not c.get("prompts")
            )
        if not {*STATED, "train", "ensemble"} & {*entry} and not {*STATED, "train"} & {*content}:
            yield UsageError(f"'{entry.get('label')}' has neither 'train' nor a reason", "add train: …, or quoted: …")
    for entry in content.get("except") or []:
        for key, group in (("row", "rows"), ("column", "columns")):
            if isinstance(entry, dict) and key in entry and not any(matches(v, entry[key]) for v in labels[group]):
                yield UsageError(
                    f"an exception names {key} '{entry[key]}', which does not exist",
                    did_you_mean(entry[key], labels[group]),
                )


def _entry(content: Mapping[str, Any]) -> Entry:
    start = content.get("start", {})
    return Entry(
        label=str(content["label"]),
        train=_by_size(
            {"paper": content.get("train", ""), **{k: content[k] for k in ("cpu", "small") if k in content}}
        ),
        start=_by_size(start),
        eval=_words(content.get("eval", "")),
        values={key: str(value) for key, value in content.get("values", {}).items()},
        metrics=_metrics(content.get("metrics", [])),
        reason=_reason(content),
        unsourced=content.get("unsourced"),
        prompts=tuple(map(_entry, content.get("prompts", []))),
        prompted=content.get("prompted", False),
        ensemble=tuple(content.get("ensemble", [])),
        tuned=content.get("tuned", True),
        seeded=content.get("seeded", True),
    )


def _by_size(content: Mapping[str, str | None]) -> dict[Size, tuple[str, ...] | None]:
    return {Size[size]: None if text is None else _words(text) for size, text in content.items()}


def _words(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def _metrics(content: Any) -> dict[str, str | None]:
    return dict(content) if isinstance(content, dict) else dict.fromkeys(content)


def _reason(content: Mapping[str, Any]) -> tuple[str, str] | None:
    return next(((key, content[key].strip()) for key in STATED if key in content), None)
