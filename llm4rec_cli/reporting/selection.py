"""Select finished runs and metrics by what a user types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.errors import RunError, UsageError, did_you_mean, raise_first
from llm4rec_cli.reporting.draws import protocol_without_draw
from llm4rec_cli.runs.catalog import FinishedRun

if TYPE_CHECKING:
    from llm4rec_cli.reporting.variants import Group

FILTERS = ("model", "dataset", "task", "split", "protocol", "seed", "experiment", "variant", "labels")


def select_groups(
    root: Path, filters: Sequence[str], metrics: Sequence[str] | None, draws: bool = False
) -> list[Group]:
    """Return the finished runs that match all filters, averaged over seeds and grouped into tables.

    Args:
        root: folder of the runs.
        filters: `key=value[,value…]`, with a key of FILTERS.
        metrics: the metrics to show; None = the default ones.
        draws: whether runs are also averaged over draws of candidates.

    Raises:
        RunError: no run matches.
        UsageError: a filter or a metric is unknown.
    """
    from llm4rec_cli.reporting.variants import groups, variants

    runs = _runs(root, dict(_filter(text) for text in filters), draws)
    raise_first(problems_of_metrics(metrics, [run for _, run in runs]))
    return groups(variants(runs), metrics)


def problems_of_metrics(names: Sequence[str] | None, runs: Sequence[dict[str, Any]]) -> Iterator[UsageError]:
    """Yield a problem for each metric that no run has.

    Args:
        names: None = no metric was named.
        runs: metrics.json of each.
    """
    available = {name for run in runs for name in run["metrics"]}
    for name in names or ():
        if name not in available:
            yield UsageError(f"no run has the metric '{name}'", did_you_mean(name, available))


def _runs(root: Path, filters: dict[str, str], draws: bool) -> list[FinishedRun]:
    """Return the finished runs that match all filters, newest first; averaged over draws they match as one."""
    from llm4rec_cli.reporting.draws import over_draws
    from llm4rec_cli.runs.catalog import finished_runs

    finished = list(finished_runs(root))
    finished = over_draws(finished) if draws else finished
    for key, values in filters.items():
        available = {value for _, metrics in finished for value in _values(metrics, key)}
        if finished and available.isdisjoint(values.split(",")):
            remedy = did_you_mean(values.split(",")[0], available)
            raise RunError(f"no finished run under {root} has {key}={values}", remedy)
    runs = [
        (folder, metrics)
        for folder, metrics in finished
        if all(_values(metrics, key) & set(values.split(",")) for key, values in filters.items())
    ]
    if not runs:
        raise RunError(f"no finished run under {root} matches", "train one first, e.g. llm4rec train model=unisrec")
    return runs


def _values(metrics: Mapping[str, Any], key: str) -> set[str]:
    """Return the values that a filter with this key may name; of an average over draws, also its protocol alone."""
    if key == "protocol" and "draws" in metrics:
        return {metrics[key], protocol_without_draw(metrics[key])}
    field = metrics[key]
    return set(field) if isinstance(field, list) else {str(field)}


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or key not in FILTERS:
        raise UsageError(f"unknown filter '{text}'", did_you_mean(key, FILTERS))
    return key, value
