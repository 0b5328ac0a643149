"""Variants (finished runs that differ only in the seed, averaged), and groups of them that share a table."""

from __future__ import annotations

import itertools
import json
import statistics
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from llm4rec_cli.config.registry import config_class
from llm4rec_cli.evaluation.metrics import direction, table_metrics
from llm4rec_cli.labels import CONTROL, SELECTED_MASKED, SELECTED_UNMASKED
from llm4rec_cli.results.answers import interval_over_seeds
from llm4rec_cli.results.describe import (
    count_in_words,
    headline_metric,
    is_trained,
    protocol_in_words,
    shown_as,
    variant_in_words,
)
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.results import depends_on_seed, without_copies

UNREAD = "answers/invalid"  # the share of a chat model's answers that could not be read
LONGEST_VALUE = 60  # characters of a setting that tells two rows apart
ABSENT = object()


@dataclass(frozen=True)
class Variant:
    """Runs that differ only in their seed."""

    runs: Sequence[Result]  # one per seed, ordered by seed
    distinction: Sequence[str] = ()  # of a variant whose row would equal another's: the settings in which they differ

    @property
    def first_run(self) -> Result:
        """The run of the first seed; those of other seeds differ only in numbers and typed overrides."""
        return self.runs[0]

    @property
    def heading(self) -> tuple[str, str, str]:
        """Dataset, task and protocol: equal for all variants of one table."""
        return self.first_run.dataset, self.first_run.task, protocol_in_words(self.first_run)

    @cached_property
    def name(self) -> tuple[str, str]:
        """The model's name in tables, and the variant in words."""
        return shown_as(self.first_run), " ".join(self.parts)

    @property
    def full_name(self) -> str:
        return " ".join(filter(None, self.name))

    @cached_property
    def parts(self) -> list[str]:
        """The variant in words, one override each."""
        return [*variant_in_words(self.first_run), *self.distinction]

    @property
    def is_floor(self) -> bool:
        """Whether it is a simple rule that any model should beat."""
        return config_class(self.first_run.model).traits.is_floor

    @property
    def is_seeded(self) -> bool:
        """Whether its numbers depend on the seed."""
        return depends_on_seed(self.first_run)

    @property
    def is_trained(self) -> bool:
        """Whether its numbers rest on a training, here or in another system."""
        return is_trained(self.first_run)

    @property
    def is_mismatched(self) -> bool:
        """Whether settings or epochs were chosen under another history mask than the evaluation's."""
        return not {SELECTED_MASKED, SELECTED_UNMASKED}.isdisjoint(self.labels)

    @property
    def validation(self) -> float | None:
        """The validation score by which its checkpoints were selected, averaged over seeds, in the metric's own sign;
        of a rule, that of the search on these data which chose its settings. None where it is not known."""
        trained = [run if run.training else run.trainer for run in self.runs]
        by_seed = [run.training or {} if run else {} for run in trained]
        scores = [value for own in by_seed for name, value in own.items() if name.startswith("valid_")]
        if len(scores) == len(self.runs):
            return statistics.fmean(scores)
        tuning = self.first_run.tuning
        is_of_rule = tuning is not None and tuning.dataset == self.first_run.dataset and not self.is_trained
        return tuning.score if tuning and is_of_rule else None

    @property
    def is_control(self) -> bool:
        """Whether the data was changed by `dataset.control`."""
        return any(label.startswith(CONTROL) for label in self.labels)

    @property
    def labels(self) -> list[str]:
        return sorted({label for run in self.runs for label in run.labels})

    @property
    def deviations(self) -> list[str]:
        """Sentences on how any of its runs deviates from the paper."""
        return list(dict.fromkeys(deviation for run in self.runs for deviation in run.deviations))

    @property
    def is_unread(self) -> bool:
        """Whether no answer of some run could be read: its numbers are those of a fallback, and not the model's."""
        return any(run.metrics.get(UNREAD) == 1 for run in self.runs)

    def values(self, metric: str) -> list[float]:
        """Return one value per seed; empty if a seed lacks the metric, or of a metric that is not the model's."""
        if self.is_unread and not metric.startswith("answers/"):
            return []
        values = [run.metrics[metric] for run in self.runs if metric in run.metrics]
        return values if len(values) == len(self.runs) else []

    def mean(self, metric: str) -> float:
        return statistics.fmean(self.values(metric))

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Metric -> 95 % interval: for one seed the run's own bootstrap over users; else t over users and seeds. Over
        several draws of candidates it is t over users' means, and seeds if there are several.

        The latter needs the runs' predictions. Runs recorded without them hold it for the seeds that they were recorded
        with (scripts/record_runs.py).
        """
        if self.is_unread:
            return {}
        own = dict(self.first_run.intervals)
        of_draws = [run.of_draws for run in self.runs]
        if len(of_draws) == len(of_draws[0]) == 1:
            return own
        recorded = self.first_run.intervals_over_seeds
        if recorded and recorded.seeds == self.seeds and len(of_draws[0]) == 1:
            return dict(recorded.intervals)
        return interval_over_seeds(of_draws, list(own))

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]

    def by_draw(self, metric: str) -> list[float]:
        """Return one value per draw of candidates, the mean over seeds; empty for runs that are not averaged over draws
        (`over_draws`), or without the metric."""
        if not self.first_run.draws or not self.values(metric):
            return []
        by_seed = (run.draws.values() for run in self.runs)
        return [statistics.fmean(run.metrics[metric] for run in drawn) for drawn in zip(*by_seed, strict=True)]

    @property
    def has_training_time(self) -> bool:
        """Whether the time of its training is known: earlier evaluations of trained runs did not record it."""
        return all(run.trained_run is None or run.training_seconds is not None for run in self.runs)

    def seconds(self) -> float:
        """Return the seconds of training, chat model requests and evaluation, averaged over seeds; for an evaluation of
        a trained run with those of its training."""
        return self.training_seconds() + self.evaluation_seconds()

    def training_seconds(self) -> float:
        return statistics.fmean(run.seconds.get("train", 0.0) + (run.training_seconds or 0.0) for run in self.runs)

    def evaluation_seconds(self) -> float:
        """Return the seconds of chat model requests and evaluation."""
        return statistics.fmean(sum(run.seconds.get(phase, 0.0) for phase in ("ask", "evaluate")) for run in self.runs)


@dataclass(frozen=True)
class Group:
    """Variants with the same dataset, task and protocol, evaluated on equally many examples."""

    members: Sequence[Variant]  # sorted by model and variant; floors and then controls come last
    metrics: Sequence[str]  # the metrics that tables show
    size: str = ""  # the number of examples, such as `200 users`, if there is a group with another number

    @property
    def title(self) -> str:
        return " · ".join([*self.members[0].heading, *filter(None, [self.size])])

    @property
    def headline_metric(self) -> str | None:
        """The metric with an interval in tables, which plots show; None if no shown metric has an interval."""
        available = [name for name in self.metrics if any(name in variant.intervals for variant in self.members)]
        return headline_metric(self.members[0].first_run.protocol, available)

    @property
    def has_mixed_data(self) -> bool:
        """Whether the data of one name differ, controls apart: by seeds, filters or files."""
        compared = [variant for variant in self.members if not variant.is_control] or self.members
        return len({variant.first_run.dataset_fingerprint for variant in compared}) > 1

    def ranked(self) -> list[tuple[int, Variant]]:
        """Return the members with their row numbers, from 1, best first by the headline metric.

        Controls are left out where there are others: they are not meant to be good.
        """
        metric = str(self.headline_metric)
        with_metric = [(i, variant) for i, variant in enumerate(self.members, start=1) if variant.values(metric)]
        numbered = [row for row in with_metric if not row[1].is_control] or with_metric
        return sorted(numbered, key=lambda row: -direction(metric) * row[1].mean(metric))

    def deviations(self) -> list[str]:
        """Return all deviations of the members; tables refer to them by position, from 1."""
        return list(dict.fromkeys(deviation for variant in self.members for deviation in variant.deviations))


def variants(runs: Iterable[Result]) -> list[Variant]:
    """Return the runs as variants, in table order.

    Runs that differ in data, task, protocol or settings are never averaged; of runs with one seed the first counts, and
    of runs that read the same files the one with the lowest seed.
    """
    by_key: dict[tuple[str, ...], dict[int, Result]] = defaultdict(dict)
    for run in runs:
        heading = (run.dataset, run.task, protocol_in_words(run), shown_as(run))
        by_key[*heading, run.dataset_fingerprint, run.variant].setdefault(run.seed, run)
    averaged = [Variant([*without_copies(by_seed).values()]) for _, by_seed in sorted(by_key.items())]
    by_row: dict[tuple[Any, ...], list[Variant]] = defaultdict(list)
    for variant in averaged:
        by_row[variant.heading, variant.name].append(variant)
    distinct = [
        variant for equal in by_row.values() for variant in (_with_distinctions(equal) if len(equal) > 1 else equal)
    ]
    return sorted(distinct, key=lambda variant: (variant.heading, variant.name))


def _with_distinctions(equal: Sequence[Variant]) -> list[Variant]:
    """Return variants of equal rows with the settings in which they differ. Where those leave rows equal, with the
    beginning of what else differs: the hash of their data, or of all that their numbers depend on."""
    runs = [variant.first_run for variant in equal]
    settings = [run.settings.with_effect(free=frozenset({"seed"})) for run in runs]
    shared_keys = [key for key in settings[0] if all(key in own for own in settings)]
    stored = [{key: run.settings.get(key, ABSENT) for key in shared_keys} for run in runs]
    keys = [key for key in shared_keys if len({str(own[key]) for own in stored if own[key] is not ABSENT}) > 1]
    words = [tuple(f"{key}={_in_short(own[key])}" for key in keys if own[key] not in (None, ABSENT)) for own in stored]
    for fact in ("dataset_fingerprint", "variant"):
        values = [getattr(run, fact)[:8] for run in runs]
        values_of = defaultdict(set)
        for own, value in zip(words, values, strict=True):
            values_of[own].add(value)
        words = [
            (*own, f"{fact}={value}") if len(values_of[own]) > 1 else own
            for own, value in zip(words, values, strict=True)
        ]
    return [replace(variant, distinction=own) for variant, own in zip(equal, words, strict=True)]


def _in_short(value: Any) -> str:
    """Return a value on one line, without its end if it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return textwrap.shorten(text, LONGEST_VALUE, placeholder="…")


def groups(variants: Iterable[Variant], typed: Sequence[str] | None = None) -> list[Group]:
    """Return the groups of variants, which are in table order, that share a table; `typed` are the metrics to show,
    None = the default ones."""
    result = []
    for _, of_heading in itertools.groupby(variants, key=lambda variant: variant.heading):
        by_size: dict[int, list[Variant]] = defaultdict(list)
        for variant in of_heading:
            by_size[variant.first_run.n_examples].append(variant)
        for n, in_table in sorted(by_size.items(), reverse=True):
            members = sorted(in_table, key=lambda variant: (variant.is_control, variant.is_floor))
            names = table_metrics(members[0].first_run.protocol) if typed is None else typed
            shown = [name for name in names if any(variant.values(name) for variant in members)]
            size = count_in_words(members[0].first_run, n) if len(by_size) > 1 else ""
            result.append(Group(members, shown, size))
    return result
