"""Results as pandas DataFrames: numbers, where tables have words."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from llm4rec_cli.evaluation.metrics import table_metrics
from llm4rec_cli.results.describe import shown_as
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.variants import Group, Variant

QUESTION = ("dataset", "task", "split", "protocol", "seed")


def evaluations_frame(runs: Sequence[Result], metrics: Sequence[str] | None) -> pd.DataFrame:
    """Return one row per evaluated model, with the columns that `llm4rec_cli.api.train` describes.

    Args:
        metrics: None = those that commands print.
    """
    if metrics is None:
        usual = dict.fromkeys(name for run in runs for name in table_metrics(run.protocol))
        metrics = [name for name in usual if any(name in run.metrics for run in runs)]
    return pd.DataFrame(
        [
            {"model": shown_as(run)}
            | {name: run.metrics.get(name) for name in metrics}
            | {key: getattr(run, key) for key in QUESTION}
            | {"n": run.n_examples, "labels": " ".join(run.labels)}
            | {f"{name} {end}": value for name in metrics for end, value in _ends(run.intervals.get(name))}
            | {"folder": str(run.folder)}
            for run in runs
        ]
    ).dropna(axis="columns", how="all")


def report_frame(groups: Iterable[Group]) -> pd.DataFrame:
    """Return one row per variant, with the columns that `llm4rec_cli.api.report` describes."""
    groups = list(groups)
    metrics = list(dict.fromkeys(name for group in groups for name in group.metrics))
    rows = [_variant_row(variant, group, metrics) for group in groups for variant in group.members]
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def _variant_row(variant: Variant, group: Group, metrics: Sequence[str]) -> Mapping[str, object]:
    values = {name: variant.values(name) if name in group.metrics else [] for name in metrics}
    heading = dict(
        zip(("dataset", "task", "protocol", "model", "variant"), (*variant.heading, *variant.name), strict=True)
    )
    return (
        heading
        | {"n": len(variant.runs)}
        | {name: statistics.fmean(numbers) if numbers else None for name, numbers in values.items()}
        | {"labels": " ".join(variant.labels)}
        | {f"{name} sd": statistics.stdev(numbers) for name, numbers in values.items() if len(numbers) > 1}
        | {f"{name} {end}": value for name in group.metrics for end, value in _ends(variant.intervals.get(name))}
        | {"folders": [str(drawn.folder) for run in variant.runs for drawn in run.of_draws]}
    )


def _ends(interval: Sequence[float] | None) -> Iterable[tuple[str, float]]:
    return zip(("low", "high"), interval, strict=True) if interval is not None else ()
