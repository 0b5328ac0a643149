"""Match published numbers with finished runs.

`papers/*.csv` holds the numbers printed in papers, one per row, with sources. `papers/identities.yaml` records the
method, weights, item ids, loss and metric definition behind each row. A run records the same facts. A row matches a run
if dataset, task, metric, split, candidates, masking and method agree. Facts that are allowed to differ are shown with
the number as differences, and so is each deviation that the run lists. A number with a difference is never reported as
inside our interval.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from llm4rec_cli.config.registry import model_names
from llm4rec_cli.errors import DataError
from llm4rec_cli.labels import IMPORTED, NO_PAPER
from llm4rec_cli.results.describe import column_protocols
from llm4rec_cli.results.draws import protocol_without_draw
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.variants import Variant

FOLDER = files("llm4rec_cli.results") / "papers"
LIKES = "like_results.csv"  # on few datasets by many: a method's own numbers, and related work of the others
REPRODUCED = ("paper_results.csv", "openp5_results.csv", "semantic_ids_results.csv", LIKES)
RELATED = ("related_results.csv", LIKES)
NAMES = {
    "unisrec": "UniSRec",
    "p5": "P5",
    "chatgptrec": "ChatGPTRec",
    "prompt4nr": "Prompt4NR",
    "openp5": "OpenP5",
    "tiger": "TIGER",
    "grid": "GRID",
    "xiaolongtaoo": "XiaoLongtaoo/TIGER",
    "rpg": "RPG",
    "rpg-issue-3": "issue 3 of RPG's code",
    "rpg-issue-9": "issue 9 of RPG's code",
    "llm-recsys-id": "LLM-RecSys-ID",
    "tallrec": "TALLRec",
    "collm": "CoLLM",
    "binllm": "BinLLM",
    "thinkrec": "ThinkRec",
    "graphlora": "GraphLoRA",
    "related": "related work",
}
UNITS = {"fraction": 1.0, "percent": 0.01, "stars": 1.0, "count": 1.0}  # value of the paper's unit in ours
COLUMNS = (
    "columns: paper, model, variant, dataset, task, prompt, metric, value, unit (fraction, percent, stars or count), "
    "split, candidates, mask_history, source, verified"
)
NOT_RECORDED = "not recorded"
NOT_READ = "the value was not read in its source"
# Our datasets that equal a published one but are built from other files, or are a part of it (label `subset`).
SAME_DATA = {
    **{f"amazon2014-{name}-reviews": f"amazon2014-{name}" for name in ("beauty", "sports", "toys")},
    **{f"amazon2018-{n}-raw": f"amazon2018-{n}" for n in ("scientific", "pantry", "instruments", "arts", "office")},
    "ml-100k-official": "ml-100k",
    "mind-small-5k": "mind-small",
}
MASKED = {  # `mask_history` in the files of printed numbers -> in words
    "yes": "masked",
    "no": "not masked",
    "zeroed": "scores of seen items set to 0",
    "unknown": "unknown",
    "na": "na",
}
# Overrides of the dataset that no paper can be compared with.
OTHER_DATA = re.compile(r"[+~]*dataset\.(?!raw_dir=|seed=|text=|split=|control=).*")


class SplitOfPaper(NamedTuple):
    """Our split rule for a paper's `split`, and whether the paper evaluated a sample of its test examples."""

    rule: str
    sampled: bool


SPLITS = {
    "leave_one_out": SplitOfPaper("leave_one_out", False),
    "leave_one_out_subset": SplitOfPaper("leave_one_out", True),
    "p5_reviews": SplitOfPaper("p5_reviews", False),
    "p5_reviews_subset": SplitOfPaper("p5_reviews", True),
    "p5_reviews_first816": SplitOfPaper("p5_reviews", True),
    "mind": SplitOfPaper("mind", False),
    "given": SplitOfPaper("given", False),
}


@dataclass(frozen=True)
class Identity:
    """An entry of identities.yaml: facts that must agree, facts to compare, and the metrics' names in our runs."""

    equal: Mapping[str, str]
    compare: Mapping[str, str]
    metrics: Mapping[str, str]


@dataclass(frozen=True)
class Printed:
    """A number printed in a paper.

    Attributes:
        model, variant, prompt: the method, in the paper's words.
        dataset, task: our names; P5's review preference is a separate task.
        mask_history: `yes`, `no`, `zeroed` (scores of seen items set to 0), `unknown`, or `na` unless the whole
            catalogue is ranked.
    """

    paper: str  # the document that prints it
    model: str
    variant: str
    prompt: str
    dataset: str
    task: str
    metric: str  # our name; recall is hr, which is equal with one target
    value: float  # in our unit
    split: SplitOfPaper | None  # None for a split that we do not have
    candidates: str  # `full`, `uniform-100`, `impression`, or `na` if nothing is ranked
    mask_history: str
    source: str  # where it is printed
    verified: bool  # whether it was checked there
    identity: Identity | None  # None if none of our runs uses this method

    @property
    def owner(self) -> str:
        """The method and its paper: `P5-S (T5-small, prompt 2-3), P5`."""
        prompt = [f"prompt {self.prompt}"] if self.prompt else []
        details = ", ".join(filter(None, [self.variant.replace("; ", ", "), *prompt]))
        paper = NAMES.get(self.paper, self.paper)
        return f"{self.model} ({details}), {paper}" if details else f"{self.model}, {paper}"


@dataclass(frozen=True)
class Comparison:
    """A printed number next to a variant of ours."""

    metric: str  # the variant's name for it
    printed: Printed
    inside: bool | None  # whether the number lies in our interval; None if we have none, or something differs
    differences: Sequence[str]  # descriptions of what differs; empty if nothing does


# --- the printed numbers


@cache
def printed(own: Path | None = None) -> tuple[Printed, ...]:
    """Return the numbers of the reproduced papers, in file order, without quotations of verified numbers.

    The rows of a user's `own` CSV file with the same columns follow; DataError if it cannot be read.
    """
    rows = [row for name in REPRODUCED for row in _rows(FOLDER / name)] + ([*_rows(own)] if own else [])
    verified = {_quotable(row) for row in rows if row.verified}
    return tuple(row for row in rows if row.verified or _quotable(row) not in verified)


def select(metric: str, values: Mapping[str, str]) -> list[Printed]:
    """Return the printed numbers of a metric, by the paper's name of it, whose attributes have these values."""

    def name(row: Printed) -> str:
        own = metric.replace("recall@", "hr@")
        return row.identity.metrics.get(own, own) if row.identity else own

    return [
        row
        for row in printed()
        if row.metric == name(row) and all(getattr(row, key) == value for key, value in values.items())
    ]


@cache
def related() -> tuple[Printed, ...]:
    """Return published numbers of other methods on the same data, which no run of ours reproduces."""
    return tuple(replace(row, identity=None) for name in RELATED for row in _rows(FOLDER / name))


def _quotable(row: Printed) -> tuple[Any, ...]:
    """Return a key that a number shares with its quotation in another paper."""
    return row.model, row.variant, row.prompt, row.dataset, row.task, row.metric, row.value


def _rows(path: Any) -> Iterator[Printed]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                yield _printed(row)
        except KeyError as error:
            raise DataError(f"{path}:{reader.line_num}: no column or unit {error}", COLUMNS) from error
        except (TypeError, ValueError) as error:  # a short row has no value at all
            raise DataError(f"{path}:{reader.line_num}: the value is not a number ({error})", COLUMNS) from error


def _printed(row: dict[str, str]) -> Printed:
    identity = next(
        (
            identity
            for rows, identity in _identities()
            if all(row[key] in (value if isinstance(value, list) else [value]) for key, value in rows.items())
        ),
        None,
    )
    if identity is None and row["model"] in model_names():  # a user's file may name our models
        identity = Identity({"method": row["model"]}, {}, {})
    metric = row["metric"].replace("recall@", "hr@")
    return Printed(
        **{key: row[key] for key in ("paper", "model", "variant", "prompt", "dataset", "task", "source")},
        **{key: row[key] for key in ("candidates", "mask_history")},
        metric=identity.metrics.get(metric, metric) if identity else metric,
        value=round(float(row["value"]) * UNITS[row["unit"]], 10),
        split=SPLITS.get(row["split"]),
        verified=row["verified"] == "yes",
        identity=identity,
    )


@cache
def _identities() -> tuple[tuple[Mapping[str, object], Identity], ...]:
    entries = yaml.safe_load((FOLDER / "identities.yaml").read_text(encoding="utf-8"))
    return tuple(
        (entry["rows"], Identity(entry["equal"], entry.get("compare", {}), entry.get("metrics", {})))
        for entry in entries
    )


# --- the join


def comparisons(variant: Variant, own: Path | None = None) -> list[Comparison]:
    """Return the comparisons of a variant with published numbers; empty if `excluded` gives reasons."""
    return [] if excluded(variant, own) else _joined(variant, own)


def excluded(variant: Variant, own: Path | None = None) -> list[str]:
    """Return the labels and dataset overrides that rule out a comparison with papers that otherwise match."""
    overrides = dict.fromkeys(o for run in variant.runs for o in run.overrides if OTHER_DATA.fullmatch(o))
    reasons = [label for label in variant.labels if label in NO_PAPER] + list(overrides)
    return reasons if reasons and _joined(variant, own) else []


def not_compared(row: Printed, variant: Variant) -> list[str]:
    """Return why a printed number is not compared with a variant; empty if it is, or if `excluded` says why."""
    if row.identity is None:
        return ["which of our methods is the paper's is not recorded"]
    run, method = variant.first_run, facts(variant.first_run)
    of_method = {key: (method.get(key, NOT_RECORDED), value) for key, value in row.identity.equal.items()}
    of_prompt = {"prompt": (method.get("prompt", ""), row.prompt)} if row.prompt else {}
    return [*_other_question(row, run), *_differences(of_method | of_prompt).values()]


def related_to(variant: Variant) -> list[Printed]:
    """Return related work on the same dataset, task, split and candidates as a variant, which it does not reproduce."""
    names, run = _metric_names(variant), variant.first_run
    own = {replace(compared.printed, identity=None) for compared in _joined(variant, None)}
    return [row for row in related() if row.metric in names and row not in own and not _other_question(row, run)]


def facts(run: Result) -> dict[str, str]:
    """Return the facts about a run's method: its model, and the sources of its weights and explanations."""
    trained_run, model = run.trained_run, run.settings.model_config
    return {
        **run.paper_method,
        **(model.paper_method(run.task) if model else {}),
        "pre-trained on": _source_of_weights(run),
        "trained for": trained_run.split("/")[-2] if trained_run else run.task,
        "labelled rows": str(run.settings.get("task.shots") or "all"),
        "explanations": "extracted from reviews" if "extracted-explanations" in run.labels else "of Sentires",
    }


def _source_of_weights(run: Result) -> str:
    """Return the dataset of the pre-training of a run's weights, with the settings that change its data; of imported
    weights it may be unknown."""
    if source := run.init_from:
        changes = [override for override in source.overrides or () if OTHER_DATA.fullmatch(override)]
        return " ".join([source.dataset, *changes])
    if not run.imported:
        return "nothing"
    imported_for = str(run.trained_run).split("/")[-3]
    return "unknown" if imported_for == run.dataset else imported_for


def _joined(variant: Variant, own: Path | None) -> list[Comparison]:
    run, names = variant.first_run, _metric_names(variant)
    method = facts(run)
    rows = [
        row
        for row in printed(own)
        if row.dataset == _data_of_paper(run)
        and row.metric in names
        and row.identity
        and all(method.get(key) == value for key, value in row.identity.equal.items())
        and not _other_question(row, run)
    ]
    if any(row.prompt == method.get("prompt") for row in rows):
        rows = [row for row in rows if row.prompt in ("", method["prompt"])]
    order = {name: i for i, name in enumerate(run.metrics)}
    rows.sort(key=lambda row: order[names[row.metric]])
    return [_compared(row, names[row.metric], variant, method) for row in rows]


def _metric_names(variant: Variant) -> dict[str, str]:
    """Return metric name in the CSV files -> name in the variant; recall is hr, which is equal with one target."""
    return {
        name.replace("recall@", "hr@"): name for name in reversed([*variant.first_run.metrics]) if variant.values(name)
    }


def _data_of_paper(run: Result) -> str:
    return SAME_DATA.get(run.dataset, run.dataset)


def _other_question(row: Printed, run: Result) -> list[str]:
    """Return how dataset, task, split and candidates differ, and whether the masking contradicts ours."""
    ranked = run.protocol not in column_protocols()
    rule = run.split_rule
    if ranked and rule == "p5_reviews":
        rule = "leave_one_out"  # P5 splits reviews at random and rankings by time
    pairs = {
        "data": (_data_of_paper(run), row.dataset),
        "task": (run.paper_method.get("task", run.task), row.task),
        "targets": (run.split, "test"),
        "split": (rule, row.split.rule if row.split else "another"),
        "candidates": (protocol_without_draw(run.protocol) if ranked else "na", row.candidates),
    }
    differences = _differences(pairs)
    masks = {"na"}
    if run.protocol == "full":
        masks = {"yes", "zeroed", "unknown"} if run.mask_history else {"no", "unknown"}
    if "candidates" not in differences and row.mask_history not in masks:
        differences |= _differences({"history": (_masked(run), MASKED[row.mask_history])})
    return list(differences.values())


def _differences(pairs: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Return name -> `name: ours x, the paper's y`, of each pair of ours and the paper's that differ."""
    return {
        name: f"{name}: ours {ours}, the paper's {theirs}" for name, (ours, theirs) in pairs.items() if ours != theirs
    }


def _masked(run: Result) -> str:
    masked = run.mask_history
    return MASKED[("yes" if masked else "no") if isinstance(masked, bool) else masked]


def _compared(row: Printed, metric: str, variant: Variant, method: Mapping[str, str]) -> Comparison:
    assert row.identity is not None, row
    compared = {
        key: (method.get(key, NOT_RECORDED), value)
        for key, value in row.identity.compare.items()
        if key != "explanations" or variant.first_run.task == "explanation"
    }
    if row.mask_history != "na":
        compared["history"] = _masked(variant.first_run), MASKED[row.mask_history]
    differences = list(_differences(compared).values())
    if IMPORTED in variant.labels:
        differences.append("weights: ours imported, the paper's its own training")
    if row.prompt and method.get("prompt") not in (None, row.prompt):
        differences.append(f"prompt: ours {method['prompt']}, the paper's {row.prompt}")
    samples = {"ours": "subset" in variant.labels, "the paper's": bool(row.split and row.split.sampled)}
    if any(samples.values()):
        owners = " and ".join(owner for owner, sampled in samples.items() if sampled)
        differences.append(f"examples: a sample is {owners}")
    if not row.verified:
        differences.append(NOT_READ)
    differences += variant.deviations
    ends = variant.intervals.get(metric)
    inside = None if ends is None or differences else ends[0] <= row.value <= ends[1]
    return Comparison(metric, row, inside, differences)
