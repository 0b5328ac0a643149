"""Score the stored predictions of finished runs per example, for intervals over users and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from llm4rec_cli.evaluation.bootstrap import FloatArray, MetricsOfSums
from llm4rec_cli.evaluation.crossed import metric_intervals
from llm4rec_cli.results.result import Result

if TYPE_CHECKING:
    import pandas as pd


EXAMPLE = ("impression_id", "user_id", "target")  # columns that identify an example, where present
N = "n"  # column of example counts


@dataclass(frozen=True)
class ScoredAnswers:
    examples: pd.DataFrame  # (n,) rows that identify the examples
    columns: Mapping[str, FloatArray]  # name -> (n,) values; metrics are functions of their sums over examples
    metrics: MetricsOfSums


def interval_over_seeds(runs: Sequence[Sequence[Result]], names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval, over users and seeds, of each metric's mean over the runs of one variant.

    It covers the metrics that can be computed from the stored predictions; empty if a run has none or their examples
    differ.

    Args:
        runs: for each seed one run per draw of the candidates: a user counts by the mean over draws.
    """
    scored, columns = [], []
    for of_seed in runs:
        by_draw = [score_answers(run, names) for run in of_seed]
        present = [answers for answers in by_draw if answers is not None]
        scored += present
        if len(present) < len(by_draw) or any(not answers.examples.equals(scored[0].examples) for answers in present):
            return {}
        names_of_columns = present[0].columns
        columns.append(
            {name: np.mean([answers.columns[name] for answers in present], axis=0) for name in names_of_columns}
        )
    user = scored[0].examples["user_id"].to_numpy()
    intervals = metric_intervals(columns, scored[0].metrics, user)
    return {name: intervals[name] for name in names if name in intervals}


def score_answers(run: Result, names: Sequence[str]) -> ScoredAnswers | None:
    """Score a run's stored predictions, in an order that is the same for every seed; None without predictions."""
    if not run.columns:
        return None
    predictions = run.answers()
    example = [name for name in EXAMPLE if name in predictions]
    predictions = predictions.sort_values(example, kind="stable", ignore_index=True)
    columns, metrics = _scores({str(name): column.to_numpy() for name, column in predictions.items()}, names)
    return ScoredAnswers(predictions[example], columns, metrics) if columns else None


def values_per_example(answers: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    """Return (n,) values of the metrics that are means over examples, from the columns of stored answers; of `names`
    the cutoffs are computed."""
    from llm4rec_cli.evaluation.ranking import ranking_metrics
    from llm4rec_cli.evaluation.rating import rating_values
    from llm4rec_cli.evaluation.text import FITS, text_values

    if "n_better" in answers:
        cutoffs = sorted({int(cutoff) for name in names if (cutoff := name.partition("@")[2]).isdigit()})
        return ranking_metrics(answers["n_better"], answers["n_tied"], answers["n_candidates"], cutoffs)
    if "rating" in answers:
        return rating_values(answers["rating"], answers["prediction"])
    if "reference" in answers:
        values = text_values(answers["prediction"], answers["reference"], answers.get("feature"))
        return values | {name: answers[name] for name in FITS if name in answers}  # need other users' texts: stored
    return answers  # impressions and likes store their metrics


def _scores(answers: Mapping[str, Any], names: Sequence[str]) -> tuple[Mapping[str, FloatArray], MetricsOfSums]:
    """Return the columns to sum and the function from sums to metrics; no columns if there is nothing to score."""
    from llm4rec_cli.evaluation.paper_text import paper_columns
    from llm4rec_cli.evaluation.rating import rating_columns, rating_metrics
    from llm4rec_cli.evaluation.text import bleu_counts, text_columns, text_metrics

    if "rating" in answers:
        parsed = (answers.get(name) for name in ("said", "said_paper"))
        return rating_columns(answers["rating"], answers["prediction"], *parsed), rating_metrics
    values = values_per_example(answers, names)
    if "reference" in answers:
        texts, references = answers["prediction"], answers["reference"]
        return text_columns(values, bleu_counts(texts, references) | paper_columns(texts, references)), text_metrics
    selected = {name: values[name] for name in names if name in values}
    return (selected | {N: np.ones(len(next(iter(selected.values()))))} if selected else {}), _means


def _means(sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {name: total / sums[N] for name, total in sums.items() if name != N}
