"""Select finished runs and metrics by what a user types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.errors import RunError, UsageError, did_you_mean, raise_first
from llm4rec_cli.evaluation.metrics import metrics as all_metrics
from llm4rec_cli.results.draws import protocol_without_draw
from llm4rec_cli.results.result import Result

if TYPE_CHECKING:
    from llm4rec_cli.results.results import Results
    from llm4rec_cli.results.variants import Group

FILTERS = ("model", "dataset", "task", "split", "protocol", "seed", "experiment", "variant", "labels")


def select_groups(
    root: Path, filters: Sequence[str], metrics: Sequence[str] | None, draws: bool = False
) -> list[Group]:
    """Return the finished runs that match all filters, averaged over seeds and grouped into tables.

    Args:
        filters: `key=value[,value…]`, with a key of FILTERS.
        metrics: None = the default ones.
        draws: whether runs are also averaged over draws of candidates.

    Raises:
        RunError: no run matches.
        UsageError: a filter or a metric is unknown.
    """
    from llm4rec_cli.results.variants import groups, variants

    runs = _runs(root, dict(_filter(text) for text in filters), draws)
    raise_first(problems_of_metrics(metrics, runs))
    return groups(variants(runs), metrics)


def problems_of_metrics(names: Sequence[str] | None, runs: Sequence[Result]) -> Iterator[UsageError]:
    available = {name for run in runs for name in run.metrics}
    bases = {name.partition("@")[0] for name in available}
    kinds = {metric.kind for metric in all_metrics() if metric.name in bases}
    missing = {metric.name for metric in all_metrics() if metric.kind in kinds} - bases  # added after these runs
    for name in names or ():
        if name not in available:
            is_newer = name.partition("@")[0] in missing
            remedy = "the runs are older than it: force=true" if is_newer else did_you_mean(name, available)
            yield UsageError(f"no run has the metric '{name}'", remedy)


def _runs(root: Path, filters: dict[str, str], draws: bool) -> Results:
    """Return the finished runs that match all filters, newest first; averaged over draws they match as one."""
    from llm4rec_cli.results.draws import over_draws
    from llm4rec_cli.results.results import Results

    finished = Results.under(root)
    finished = Results(over_draws(finished)) if draws else finished
    for key, values in filters.items():
        available = {value for run in finished for value in _values(run, key)}
        if finished and available.isdisjoint(values.split(",")):
            remedy = did_you_mean(values.split(",")[0], available)
            raise RunError(f"no finished run under {root} has {key}={values}", remedy)
    runs = finished.select(lambda run: all(_values(run, key) & {*values.split(",")} for key, values in filters.items()))
    if not runs:
        raise RunError(f"no finished run under {root} matches", "train one first, e.g. llm4rec train model=unisrec")
    return runs


def _values(run: Result, key: str) -> set[str]:
    """Return the values that a filter with this key may name; of an average over draws, also its protocol alone."""
    if key == "protocol" and run.draws:
        return {run.protocol, protocol_without_draw(run.protocol)}
    field = getattr(run, key)
    return set(field) if isinstance(field, list) else {str(field)}


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or key not in FILTERS:
        raise UsageError(f"unknown filter '{text}'", did_you_mean(key, FILTERS))
    return key, value
