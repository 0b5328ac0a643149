"""The papers' numbers beside ours: only where both answer the same question.

`papers/` holds what the papers print, one number a row, with where it stands; its columns `split`, `candidates` and
`mask_history` say how it was measured. A number joins a variant of ours of the same dataset, task, metric, split,
candidates and mask. What is short of that, but worth showing, bears a mark.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from llm4rec_cli.reporting.pairing import Run, config_of
from llm4rec_cli.reporting.runs import ASKED_COLUMNS, shown_as
from llm4rec_cli.reporting.variants import Variant

FILES = ("paper_results.csv", "openp5_results.csv")
NAMES = {
    "unisrec": "UniSRec",
    "p5": "P5",
    "chatgptrec": "ChatGPTRec",
    "prompt4nr": "Prompt4NR",
    "openp5": "OpenP5",
    "tiger": "TIGER",
    "llm-recsys-id": "LLM-RecSys-ID",
}
MARKS = {
    "?": "whether the paper leaves items of the history out of its ranking is unknown",
    "u": "unverified: no source confirms this value",
    "s": "over a sample of the test examples: ours, the paper's, or both",
    "p": "the paper asked with another prompt",
}
UNITS = {"fraction": 1.0, "percent": 0.01, "stars": 1.0}  # what one of the paper's is in ours
# Ours that are made from other files to be the same data, or are a part of it (label `subset`).
SAME_DATA = {
    **{f"amazon2014-{name}-reviews": f"amazon2014-{name}" for name in ("beauty", "sports", "toys")},
    **{f"amazon2018-{n}-raw": f"amazon2018-{n}" for n in ("scientific", "pantry", "instruments", "arts", "office")},
    "ml-100k-official": "ml-100k",
    "mind-small-5k": "mind-small",
}


class Division(NamedTuple):
    """Our split_rule that a paper's `split` is, and whether the paper asked about a sample of its test part."""

    rule: str
    sampled: bool


DIVISIONS = {
    "leave_one_out": Division("leave_one_out", False),
    "leave_one_out_subset": Division("leave_one_out", True),
    "p5_reviews": Division("p5_reviews", False),
    "p5_reviews_subset": Division("p5_reviews", True),
    "p5_reviews_first816": Division("p5_reviews", True),
    "mind": Division("mind", False),
}


class Method(NamedTuple):
    """One method in the papers' words and in ours.

    Attributes:
        theirs, variant: the columns `model` and `variant`; the second a pattern.
        ours, shown: our model, and a pattern of what tables call it. An ablation is none of the paper's method.
    """

    theirs: str
    variant: str
    ours: str
    shown: str


METHODS = (
    Method("SASRec", "", "sasrec", "sasrec"),
    Method("BPR-MF", "", "bpr_mf", "bpr_mf"),
    Method("MF", "", "mf", "mf"),
    Method("MLP", "", "mlp", "mlp"),
    Method("UniSRec", r"inductive \(text\)", "unisrec", "unisrec(, pre-trained)?(, frozen encoder)?"),
    Method("UniSRec", r"transductive \(text\+ID\)", "unisrec", r"unisrec \+ ids(, pre-trained)?(, frozen encoder)?"),
    Method("P5-S", "T5-small.*", "p5", "p5 (?!t5-base).*"),
    Method("P5-B", "T5-base.*", "p5", "p5 (?!t5-small).*"),
    *(
        Method(theirs, f"(T5; )?{index} ids", "p5", f"p5 .*, {index} ids")
        for theirs in ("OpenP5", "P5-small", "P5")
        for index in ("sequential", "random", "collaborative")
    ),
    Method("ChatGPT", "zero-shot", "chatgptrec", r"chatgptrec \w+, zero-shot"),
    Method("ChatGPT", "few-shot", "chatgptrec", r"chatgptrec \w+, [1-9]\d*-shot"),
    Method("Prompt4NR", ".*", "prompt4nr", "prompt4nr [^,]*"),
)
# Ours that answer another question than any paper: by a label, or by what was typed of the data.
APART = re.compile("synthetic|cold-items|few-users|transfer|temporal-split|like-only|llm-tokens|control-.*")
OTHER_DATA = re.compile(r"\+?dataset\.(?!raw_dir=|seed=|text=|split=|control=).*")


@dataclass(frozen=True)
class Printed:
    """A number that a paper prints.

    Attributes:
        paper: the document that prints it.
        model, variant, prompt: whose it is, in the paper's words.
        dataset, task: as ours are called.
        metric: likewise; of one target recall is hr.
        value: in our unit.
        division: how test examples were chosen; None for a way that ours has no counterpart of.
        candidates: `full`, `uniform-100`, `impression`, or `na` where nothing is ranked.
        mask_history: `yes`, `no`, `unknown`, or `na` where not the whole catalogue is ranked.
        source: where it can be read.
        verified: whether it was read there.
    """

    paper: str
    model: str
    variant: str
    prompt: str
    dataset: str
    task: str
    metric: str
    value: float
    division: Division | None
    candidates: str
    mask_history: str
    source: str
    verified: bool

    @property
    def whose(self) -> str:
        """`P5-S (T5-small, prompt 2-3), P5`"""
        prompt = [f"prompt {self.prompt}"] if self.prompt else []
        details = ", ".join(filter(None, [self.variant.replace("; ", ", "), *prompt]))
        return f"{self.model} ({details}), {NAMES[self.paper]}" if details else f"{self.model}, {NAMES[self.paper]}"


@dataclass(frozen=True)
class Beside:
    """A paper's number beside a variant of ours.

    Attributes:
        metric: as the variant calls it.
        printed: the paper's.
        inside: whether it lies in our interval; None where we have none.
        marks: of MARKS, in their order.
    """

    metric: str
    printed: Printed
    inside: bool | None
    marks: str


@cache
def printed() -> tuple[Printed, ...]:
    """All numbers, in the order of the files; what one paper is said to quote of another stands once, where it is
    verified."""
    rows = [row for name in FILES for row in _rows(name)]
    found = [_printed(row) for row in rows]
    verified = {_number(one) for one in found if one.verified}
    return tuple(one for one in found if one.verified or _number(one) not in verified)


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (files("llm4rec_cli.reporting") / "papers" / name).open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _printed(row: dict[str, str]) -> Printed:
    return Printed(
        **{key: row[key] for key in ("paper", "model", "variant", "prompt", "dataset", "task", "source")},
        **{key: row[key] for key in ("candidates", "mask_history")},
        metric=_metric(row["metric"]),
        value=round(float(row["value"]) * UNITS[row["unit"]], 10),
        division=DIVISIONS.get(row["split"]),
        verified=row["verified"] == "yes",
    )


def _number(one: Printed) -> tuple[Any, ...]:
    """What tells a number from another one, whoever quotes it."""
    return one.model, one.variant, one.prompt, one.dataset, one.task, one.metric, one.value


def _metric(name: str) -> str:
    return name.replace("recall@", "hr@")


def beside(variant: Variant) -> list[Beside]:
    """The papers' numbers of the same method that answer the same question as ours; none where `apart` says why."""
    return [] if apart(variant) else _joined(variant)


def apart(variant: Variant) -> list[str]:
    """Why a variant stands beside no paper's number that it would have: labels, and what was typed of the data."""
    typed = dict.fromkeys(o for _, run in variant.runs for o in run["overrides"] if OTHER_DATA.fullmatch(o))
    return [label for label in variant.labels if APART.fullmatch(label)] + list(typed) if _joined(variant) else []


def _joined(variant: Variant) -> list[Beside]:
    run = variant.one
    names = {_metric(name): name for name in reversed(run["metrics"]) if variant.values(name)}
    found = [one for one in printed() if one.metric in names and _same_method(one, run) and _same_question(one, run)]
    prompt = _prompt(variant.runs[0])
    if any(one.prompt == prompt for one in found):
        found = [one for one in found if one.prompt in ("", prompt)]
    order = {name: i for i, name in enumerate(run["metrics"])}
    return [
        Beside(name, one, _inside(one, variant.intervals.get(name)), _marks(one, variant, prompt))
        for name, one in sorted(((names[one.metric], one) for one in found), key=lambda of: order[of[0]])
    ]


def _same_method(one: Printed, run: dict[str, Any]) -> bool:
    return any(
        (method.theirs, method.ours) == (one.model, run["model"])
        and re.fullmatch(method.variant, one.variant)
        and re.fullmatch(method.shown, shown_as(run))
        for method in METHODS
    )


def _same_question(one: Printed, run: dict[str, Any]) -> bool:
    """Whether dataset, task, split, candidates and mask agree; a mask may be unknown."""
    ranked = run["protocol"] not in ASKED_COLUMNS
    rule = run.get("split_rule", "leave_one_out")
    if ranked and rule == "p5_reviews":
        rule = "leave_one_out"  # as P5: the reviews at random, rankings by order
    masks = {"yes" if run["mask_history"] else "no", "unknown"} if run["protocol"] == "full" else {"na"}
    return (
        one.dataset == SAME_DATA.get(run["dataset"], run["dataset"])
        and one.task == run["task"]
        and run["split"] == "test"
        and one.division is not None
        and one.division.rule == rule
        and one.candidates == (run["protocol"] if ranked else "na")
        and one.mask_history in masks
    )


def _prompt(run: Run) -> str | None:
    """The prompt that P5 was asked with, by the paper's numbers; None of other models, and where none is told."""
    folder, metrics = run
    asked = config_of(folder).get("model", {}).get("ask", {})
    return asked.get(metrics["task"]) if metrics["model"] == "p5" else None


def _inside(one: Printed, interval: tuple[float, float] | None) -> bool | None:
    return None if interval is None else interval[0] <= one.value <= interval[1]


def _marks(one: Printed, variant: Variant, prompt: str | None) -> str:
    numbered = re.fullmatch(r"\d+-\d+", one.prompt) is not None
    sampled = one.division is not None and one.division.sampled
    marked = {
        "?": one.mask_history == "unknown",
        "u": not one.verified,
        "s": sampled or "subset" in variant.labels,
        "p": numbered and prompt is not None and one.prompt != prompt,
    }
    return "".join(mark for mark in MARKS if marked[mark])
