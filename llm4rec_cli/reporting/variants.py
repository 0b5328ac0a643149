"""Variants: finished runs that differ in their seed alone, averaged; those that were asked the same stand together."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.reporting.answers import interval_over_seeds
from llm4rec_cli.reporting.pairing import Run
from llm4rec_cli.reporting.runs import leading, protocol_in_words, shown_as, usual_metrics, variant_in_words


@dataclass(frozen=True)
class Variant:
    """Runs of one address but for the seed.

    Attributes:
        runs: one a seed, in the order of seeds.
    """

    runs: Sequence[Run]

    @property
    def one(self) -> dict[str, Any]:
        """What any of its runs says; they differ in numbers, and in what was typed to get them."""
        return self.runs[0][1]

    @property
    def heading(self) -> tuple[str, str, str]:
        """Dataset, task and protocol: what stands in one table."""
        return self.one["dataset"], self.one["task"], protocol_in_words(self.one)

    @property
    def name(self) -> tuple[str, str]:
        """What tables call its model, and the variant in words."""
        return shown_as(self.one), " ".join(self.parts)

    @property
    def parts(self) -> list[str]:
        """The variant in words, override by override."""
        return variant_in_words(self.one)

    @property
    def labels(self) -> list[str]:
        return sorted({label for _, run in self.runs for label in run["labels"]})

    @property
    def deviations(self) -> list[str]:
        """In words, where any of its runs departs from its paper."""
        return list(dict.fromkeys(deviation for _, run in self.runs for deviation in run["deviations"]))

    def values(self, metric: str) -> list[float]:
        """One value a seed; none if some seed lacks it."""
        values = [run["metrics"].get(metric) for _, run in self.runs]
        return [] if None in values else values

    def mean(self, metric: str) -> float:
        return statistics.fmean(self.values(metric))

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Metric -> 95 % bootstrap interval: of one seed the run's own, over users; of several over users and seeds."""
        own = {name: (low, high) for name, (low, high) in self.one["intervals"].items()}
        return own if len(self.runs) == 1 else interval_over_seeds([folder for folder, _ in self.runs], list(own))

    def seconds(self) -> float:
        """The mean over seeds of what training, asking a chat model and evaluating took."""
        phases = ("train", "ask", "evaluate")
        return statistics.fmean(sum(run["seconds"].get(phase, 0.0) for phase in phases) for _, run in self.runs)


@dataclass(frozen=True)
class Group:
    """Variants that were asked the same of the same dataset.

    Attributes:
        members: by model and variant.
        metrics: that are shown of them.
    """

    members: Sequence[Variant]
    metrics: Sequence[str]

    @property
    def title(self) -> str:
        return " · ".join(self.members[0].heading)

    @property
    def first(self) -> str | None:
        """The metric that plots show and whose interval tables show; None where no metric shown has an interval."""
        found = [name for name in self.metrics if any(name in variant.intervals for variant in self.members)]
        return leading(self.members[0].one["protocol"], found)

    @property
    def mixed(self) -> bool:
        """Whether they are of different data under one name: other seeds, filters, or files."""
        return len({variant.one["dataset_fingerprint"] for variant in self.members}) > 1

    def ranked(self) -> list[tuple[int, Variant]]:
        """Its members with their numbers in the table, from 1 on, the best by the first metric first."""
        metric = str(self.first)
        known = [(i, variant) for i, variant in enumerate(self.members, start=1) if variant.values(metric)]
        return sorted(known, key=lambda of: -direction(metric) * of[1].mean(metric))

    def deviations(self) -> list[str]:
        """All that its members depart in; tables refer to them by their place, from 1 on."""
        return list(dict.fromkeys(deviation for variant in self.members for deviation in variant.deviations))


def variants(runs: Iterable[Run]) -> list[Variant]:
    """The runs as variants, in the order of tables.

    Runs of other data, task, protocol or settings are never averaged; of equal seeds the last counts.
    """
    found: dict[tuple[str, ...], dict[int, Run]] = defaultdict(dict)
    for folder, run in runs:
        asked = (run["dataset"], run["task"], protocol_in_words(run), shown_as(run))
        found[(*asked, run["dataset_fingerprint"], run["variant"])][run["seed"]] = (folder, run)
    made = [Variant([of[seed] for seed in sorted(of)]) for _, of in sorted(found.items())]
    return sorted(made, key=lambda variant: (variant.heading, variant.name))


def groups(found: Iterable[Variant], typed: Sequence[str] | None = None) -> list[Group]:
    """Variants that stand in one table.

    Args:
        typed: the metrics to show; None = those that are shown unasked.
    """
    made = []
    for _, of in itertools.groupby(found, key=lambda variant: variant.heading):
        members = list(of)
        wanted = usual_metrics(members[0].one["protocol"]) if typed is None else typed
        made.append(Group(members, [name for name in wanted if any(variant.values(name) for variant in members)]))
    return made
