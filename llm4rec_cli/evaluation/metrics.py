"""The table of all metrics: what each scores, its direction, how runs are paired by it, and where it is shown.

To add a metric, add a row here and the function that computes it, in the module of its kind. A metric of an installed
package is a module with `METRIC`, such a row of kind `ranking`, and `gain(rank)`, what a target at each rank is worth;
a task of an installed package has metrics of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from llm4rec_cli.config import questions
from llm4rec_cli.config.plugins import Offers, offers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Gain = Callable[[NDArray[np.integer[Any]]], NDArray[np.floating[Any]]]  # (k,) ranks from 1 -> (k,) values


class Kind(StrEnum):
    """What a metric of ours scores."""

    ranking = "ranking"  # a target among candidates
    impression = "impression"  # the list that a user was shown
    rating = "rating"
    text = "text"
    loss = "loss"


class Metric(NamedTuple):
    """One metric, or one per cutoff.

    Attributes:
        name: `hr` of `hr@10`.
        kind: what it scores: a `Kind`, or the question of an installed package.
        lower: whether lower is better.
        cutoffs: the cutoffs in tables; empty for a metric without cutoffs.
        shown: whether tables show it by default.
        for_all: whether every model of the task has it, so that checkpoints can be selected by it.
        paired_as: for a metric of the whole corpus, the mean over examples that replaces it in paired comparisons.
        may_be_missing: whether some examples may lack it.
        headline: whether its interval is reported first.
    """

    name: str
    kind: str
    lower: bool = False
    cutoffs: tuple[int, ...] = ()
    shown: bool = True
    for_all: bool = True
    paired_as: str | None = None
    may_be_missing: bool = False
    headline: bool = False


PAPER_TEXT = ("bleu2", "bleu4", "rouge1", "rouge2", "rougeL")  # as P5 computes them: `paper_text`
METRICS = (
    Metric("hr", Kind.ranking, cutoffs=(1, 5, 10, 50)),
    Metric("recall", Kind.ranking, cutoffs=(1, 5, 10, 50), shown=False),  # the same with one target
    Metric("ndcg", Kind.ranking, cutoffs=(10, 50), headline=True),
    Metric("mrr", Kind.ranking),
    Metric("auc", Kind.ranking, shown=False),
    Metric("auc", Kind.impression, headline=True),
    Metric("mrr", Kind.impression),
    Metric("ndcg", Kind.impression, cutoffs=(5, 10)),
    Metric("rmse", Kind.rating, lower=True, paired_as="mse", headline=True),
    Metric("mae", Kind.rating, lower=True),
    Metric("like_accuracy", Kind.rating),
    Metric("mse", Kind.rating, lower=True, shown=False),
    Metric("said/rmse", Kind.rating, lower=True, for_all=False),
    Metric("said/mae", Kind.rating, lower=True, for_all=False),
    Metric("said/coverage", Kind.rating, for_all=False),
    Metric("said_paper/rmse", Kind.rating, lower=True, shown=False, for_all=False),  # as P5 computes it
    Metric("said_paper/mae", Kind.rating, lower=True, shown=False, for_all=False),
    Metric("said_paper/coverage", Kind.rating, shown=False, for_all=False),
    Metric("loss", Kind.loss, lower=True),
    Metric("bleu2", Kind.text, paired_as="rouge1"),
    Metric("bleu4", Kind.text, paired_as="rouge1"),
    Metric("rouge1", Kind.text, headline=True),
    Metric("rouge2", Kind.text),
    Metric("rougeL", Kind.text),
    Metric("fits_user", Kind.text, for_all=False, may_be_missing=True),
    Metric("fits_item", Kind.text, for_all=False, may_be_missing=True),
    Metric("fits_user/coverage", Kind.text, shown=False, for_all=False),
    Metric("fits_item/coverage", Kind.text, shown=False, for_all=False),
    Metric("feature_match", Kind.text, for_all=False, may_be_missing=True),
    Metric("sentiment", Kind.text, for_all=False, paired_as="rouge1"),
    *(Metric(f"paper/{name}", Kind.text, shown=False, for_all=False) for name in PAPER_TEXT),
    Metric("distinct1", Kind.text, paired_as="rouge1"),
    Metric("distinct2", Kind.text, paired_as="rouge1"),
    Metric("unique_sentences", Kind.text, paired_as="rouge1"),
)
# Of a chat model's answers: the share of each kind of answer, and metrics over the valid ones alone.
FAULTS = ("answers/repaired", "answers/invalid", "listed/hallucinated", "listed/duplicate")
ANSWERS = (*FAULTS, "valid/hr@10", "valid/rouge1")
OF_TABLES = ("milliseconds",)  # numbers in papers' tables that a run does not report as metrics; lower is better


def offered() -> Offers:
    """Return the metrics of installed packages."""
    return offers("metrics", frozenset(metric.name for metric in METRICS), needs=("METRIC", "gain"))


@cache
def offered_gains() -> dict[Metric, Gain]:
    """Return the ranking metrics of installed packages, and what a target at each rank is worth."""
    modules = {name: plugin.load() for name, plugin in offered().plugins.items()}
    return {m.METRIC._replace(name=name, kind=Kind.ranking): m.gain for name, m in modules.items()}


@cache
def metrics() -> tuple[Metric, ...]:
    """Return all metrics, of ours and of installed packages."""
    of_tasks = (
        metric._replace(kind=question)
        for question, module in questions.offered_modules().items()
        for metric in module.METRICS
    )
    return (*METRICS, *of_tasks, *offered_gains())


def own_tables() -> tuple[str, ...]:
    """Return the kinds that are named as their protocol, and whose tables show no other metrics."""
    return (Kind.impression, *questions.offered().plugins)


def direction(name: str) -> int:
    """Return -1 for a metric that is better when lower, of all examples or of a group, otherwise 1."""
    ours = {metric.name for metric in METRICS}
    of_packages = {metric.name for metric in metrics() if metric.lower} - ours
    lower = {*(metric.name for metric in METRICS if metric.lower), *of_packages, *FAULTS, *OF_TABLES}
    return -1 if name in lower or name.rpartition("/")[2] in lower else 1


def lower_is_better(names: Iterable[str]) -> list[str]:
    """Return the metrics that are better when lower."""
    return [name for name in names if direction(name) < 0]


def selectable(kind: str, cutoffs: Collection[int]) -> set[str]:
    """Return the metrics of this kind that every model has, for model selection."""
    names = {name for metric in metrics() if metric.kind == kind and metric.for_all for name in _named(metric, cutoffs)}
    return names - {"ndcg@1"} if kind == Kind.ranking else names  # with one target it equals hr@1


def of_protocol(protocol: str) -> list[Metric]:
    """Return the metrics of runs with this protocol, or, for most, of all protocols that share their tables."""
    own = own_tables()
    return [metric for metric in metrics() if (metric.kind == protocol if protocol in own else metric.kind not in own)]


def table_metrics(protocol: str) -> tuple[str, ...]:
    """Return the metrics that tables of runs with this protocol show by default, in order."""
    rows = [metric for metric in of_protocol(protocol) if metric.shown]
    if protocol in own_tables():
        return tuple(name for metric in rows for name in _named(metric, metric.cutoffs))
    by_cutoff = sorted((k, i, metric.name) for i, metric in enumerate(rows) for k in metric.cutoffs)
    return (
        *(f"{name}@{k}" for k, _, name in by_cutoff),
        *(metric.name for metric in rows if not metric.cutoffs),
        *ANSWERS,
    )


def headline_metrics(protocol: str) -> list[str]:
    """Return the metrics whose interval is reported first, where available, of runs with this protocol."""
    rows = [metric for metric in of_protocol(protocol) if metric.headline]
    return [name for metric in rows for name in _named(metric, metric.cutoffs[:1])]


def paired_metric(name: str) -> str | None:
    """Return the mean over examples that replaces a corpus metric in paired comparisons; None for other metrics."""
    return next((metric.paired_as for metric in metrics() if metric.name == name), None)


def may_be_missing(name: str) -> bool:
    """Return whether some examples may lack the metric."""
    return any(metric.may_be_missing and metric.name == name for metric in metrics())


def _named(metric: Metric, cutoffs: Collection[int]) -> list[str]:
    return [f"{metric.name}@{k}" for k in cutoffs] if metric.cutoffs else [metric.name]
