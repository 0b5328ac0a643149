"""Every metric there is, one row each: what it scores, which way is better, what it is a mean of, and how it is shown.

A new metric is a row here and the function that computes it, in the module of its kind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    """What a metric scores."""

    ranking = "ranking"  # of a target among candidates
    impression = "impression"  # of what a user was shown
    rating = "rating"
    text = "text"
    loss = "loss"


class Metric(NamedTuple):
    """One metric, or one for each cutoff.

    Attributes:
        name: `hr` of `hr@10`.
        kind: what it scores.
        lower: whether lower is better.
        cutoffs: those that tables show; none for a metric without.
        shown: whether tables show it unasked.
        for_all: whether every model of the task has it, so that one can select by it.
        pairs_as: of a metric of all answers together, the mean over examples that stands for it where runs are paired.
        of_some: whether examples may lack it.
        leads: whether its interval is said first, where it is there.
    """

    name: str
    kind: Kind
    lower: bool = False
    cutoffs: tuple[int, ...] = ()
    shown: bool = True
    for_all: bool = True
    pairs_as: str | None = None
    of_some: bool = False
    leads: bool = False


METRICS = (
    Metric("hr", Kind.ranking, cutoffs=(1, 5, 10, 50)),
    Metric("recall", Kind.ranking, cutoffs=(1, 5, 10, 50), shown=False),  # of one target the same
    Metric("ndcg", Kind.ranking, cutoffs=(10, 50), leads=True),
    Metric("mrr", Kind.ranking),
    Metric("auc", Kind.ranking, shown=False),
    Metric("auc", Kind.impression, leads=True),
    Metric("mrr", Kind.impression),
    Metric("ndcg", Kind.impression, cutoffs=(5, 10)),
    Metric("rmse", Kind.rating, lower=True, pairs_as="mse", leads=True),
    Metric("mae", Kind.rating, lower=True),
    Metric("like_accuracy", Kind.rating),
    Metric("mse", Kind.rating, lower=True, shown=False),
    Metric("said/rmse", Kind.rating, lower=True, for_all=False),
    Metric("said/mae", Kind.rating, lower=True, for_all=False),
    Metric("said/coverage", Kind.rating, for_all=False),
    Metric("loss", Kind.loss, lower=True),
    Metric("bleu2", Kind.text, pairs_as="rouge1"),
    Metric("bleu4", Kind.text, pairs_as="rouge1"),
    Metric("rouge1", Kind.text, leads=True),
    Metric("rouge2", Kind.text),
    Metric("rougeL", Kind.text),
    Metric("feature_match", Kind.text, for_all=False, of_some=True),
    Metric("distinct1", Kind.text),
    Metric("distinct2", Kind.text),
    Metric("unique_sentences", Kind.text),
)
# Of what a chat model answered: the share of answers of each kind, and metrics over the valid ones alone.
ANSWERS = (
    *("answers/repaired", "answers/invalid", "listed/hallucinated", "listed/duplicate"),
    *("valid/hr@10", "valid/rouge1"),
)


def direction(name: str) -> int:
    """-1 for a metric that is better when lower, otherwise 1: times this, all are better when higher."""
    return -1 if any(metric.lower and metric.name == name for metric in METRICS) else 1


def lower_is_better(names: Iterable[str]) -> list[str]:
    """Those of these metrics of which that is so."""
    return [name for name in names if direction(name) < 0]


def selectable(kind: Kind, cutoffs: Collection[int]) -> set[str]:
    """The metrics that every model has of such answers."""
    found = {name for metric in METRICS if metric.kind is kind and metric.for_all for name in _named(metric, cutoffs)}
    return found - {"ndcg@1"} if kind is Kind.ranking else found  # of one target it is hr@1


def table_metrics(of_impressions: bool) -> tuple[str, ...]:
    """The metrics that tables show unasked, in their order: of what users were shown, or of all other questions."""
    rows = [metric for metric in METRICS if metric.shown and (metric.kind is Kind.impression) == of_impressions]
    if of_impressions:
        return tuple(name for metric in rows for name in _named(metric, metric.cutoffs))
    cut = sorted((k, i, metric.name) for i, metric in enumerate(rows) for k in metric.cutoffs)
    return (*(f"{name}@{k}" for k, _, name in cut), *(metric.name for metric in rows if not metric.cutoffs), *ANSWERS)


def headline_metrics(of_impressions: bool) -> list[str]:
    """The metrics whose interval is said first, if they are there."""
    rows = [metric for metric in METRICS if metric.leads and (metric.kind is Kind.impression) == of_impressions]
    return [name for metric in rows for name in _named(metric, metric.cutoffs[:1])]


def paired_metric(name: str) -> str | None:
    """What stands for a metric of all answers together where runs are paired example by example; None for others."""
    return next((metric.pairs_as for metric in METRICS if metric.name == name), None)


def may_be_missing(name: str) -> bool:
    """Whether examples may lack the metric."""
    return any(metric.of_some and metric.name == name for metric in METRICS)


def _named(metric: Metric, cutoffs: Collection[int]) -> list[str]:
    return [f"{metric.name}@{k}" for k in cutoffs] if metric.cutoffs else [metric.name]
