"""One table for several evaluation protocols: metrics, ranks and slices of the same models under each."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llm4rec_cli.config import walk
from llm4rec_cli.config.compose import compose
from llm4rec_cli.config.overrides import key_typed
from llm4rec_cli.config.schema import Control, Question, SplitName, SplitRule
from llm4rec_cli.data.slices import DIAGNOSTIC
from llm4rec_cli.errors import DataError, UsageError, did_you_mean
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.tables import Content
from llm4rec_cli.results.words import shown_as
from llm4rec_cli.run import stages
from llm4rec_cli.run.execute import run as train
from llm4rec_cli.run.job import Job
from llm4rec_cli.tasks import base as tasks
from llm4rec_cli.tasks.modules import task_module

PROTOCOLS = {  # name -> the override that makes it
    "leave_one_out": "dataset.split=leave_one_out",
    "shuffle_ties": "dataset.control=shuffle_ties",
    "temporal": "dataset.split=temporal",
}
ALL = "all"  # the slice of all examples


@dataclass(frozen=True)
class ProtocolRun:
    """A finished run under one protocol."""

    model: str  # its name in tables
    protocol: str  # leave_one_out, shuffle_ties or temporal
    draw: int  # `dataset.seed`
    result: Result

    def value(self, metric: str, part: str = ALL) -> float | None:
        """Return a metric over all examples or over a slice; None if it was not computed."""
        values = self.result.metrics if part == ALL else self.slices.get(part, {})
        return values.get(metric)

    def n_examples(self, part: str = ALL) -> int:
        return int(self.result.n_examples if part == ALL else self.slices.get(part, {}).get("n", 0))

    @property
    def slices(self) -> Mapping[str, Mapping[str, float]]:
        return self.result.breakdown.get("slice", {})


@dataclass(frozen=True)
class ProtocolComparison:
    """The runs of the same models under several protocols."""

    runs: Sequence[ProtocolRun]  # floors before the models that they belong to
    skipped: Mapping[str, str]  # protocol -> why the data do not allow it

    @cached_property
    def models(self) -> list[str]:
        return list(dict.fromkeys(run.model for run in self.runs))

    @cached_property
    def protocols(self) -> list[str]:
        return list(dict.fromkeys(run.protocol for run in self.runs))

    @cached_property
    def slices(self) -> list[str]:
        return list(dict.fromkeys(name for run in self.runs for name in run.slices))

    def draws(self, protocol: str) -> list[int]:
        return list(dict.fromkeys(run.draw for run in self.runs if run.protocol == protocol))

    def by_draw(self, model: str, protocol: str, metric: str, part: str = ALL) -> list[float]:
        """Return one value a draw that has examples in this slice: the mean over the model's seeds."""
        values: dict[int, list[float]] = {}
        for run in self.runs:
            if (run.model, run.protocol) == (model, protocol) and (value := run.value(metric, part)) is not None:
                values.setdefault(run.draw, []).append(value)
        return [statistics.fmean(of_seeds) for of_seeds in values.values()]

    def mean(self, model: str, protocol: str, metric: str, part: str = ALL) -> float | None:
        """Return the mean over draws and seeds."""
        values = self.by_draw(model, protocol, metric, part)
        return statistics.fmean(values) if values else None

    def n_examples(self, protocol: str, part: str = ALL) -> int:
        """Return the number of examples, averaged over draws."""
        counts = [
            max(run.n_examples(part) for run in self.runs if (run.protocol, run.draw) == (protocol, draw))
            for draw in self.draws(protocol)
        ]
        return round(statistics.fmean(counts))

    def ranks(self, protocol: str, metric: str) -> dict[str, int]:
        """Return each model's rank by its mean, 1 for the best. Equal means share the better rank."""
        from scipy.stats import rankdata

        means = {model: self.mean(model, protocol, metric) for model in self.models}
        costs = {model: -direction(metric) * mean for model, mean in means.items() if mean is not None}
        return dict(zip(costs, map(int, rankdata([*costs.values()], method="min")), strict=True))

    def kendall(self, first: str, second: str, metric: str) -> float | None:
        """Return Kendall's τ-b between the orders of the models by their means; None if either has no order."""
        means = ((self.mean(model, first, metric), self.mean(model, second, metric)) for model in self.models)
        return kendall_tau([(a, b) for a, b in means if a is not None and b is not None])

    def kendall_of_draws(self, protocol: str, metric: str) -> list[float]:
        """Return Kendall's τ-b between the orders of the models in each two draws of a protocol."""
        columns = [self.by_draw(model, protocol, metric) for model in self.models]
        taus = (
            kendall_tau(list(zip(a, b, strict=True))) for a, b in itertools.combinations(zip(*columns, strict=True), 2)
        )
        return [tau for tau in taus if tau is not None]


def kendall_tau(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Kendall's τ-b of paired values (Kendall, Biometrika 1945); None if either side is constant."""
    from scipy.stats import kendalltau

    if len(pairs) < 2:
        return None
    tau = float(kendalltau([a for a, _ in pairs], [b for _, b in pairs]).statistic)
    return None if math.isnan(tau) else tau


# --- runs


def compare_protocols(sweep: Sequence[Sequence[str]], names: Sequence[str], draws: int) -> ProtocolComparison:
    """Train and evaluate each run of a sweep, and its floors, under every protocol that the data allow.

    Args:
        sweep: overrides of each run, in Hydra's grammar, which differ in settings of model, training or seed.
        names: of PROTOCOLS.
        draws: of `shuffle_ties`.

    Raises:
        DataError: the data cannot be read, or allow none of the protocols.
    """
    first = resolved(sweep[0])
    stages.load(first)  # raises what is wrong with the data under any protocol
    refusals: dict[str, DataError] = {}
    runs: dict[str, ProtocolRun] = {}  # by address: they share floors
    for name in names:
        if refusal := _refusal(resolved(sweep[0], PROTOCOLS[name])):
            refusals[name] = refusal
            continue
        several = name == "shuffle_ties" and first.config.dataset.generator is None
        seed = first.config.dataset.seed
        for draw in range(seed, seed + (draws if several else 1)):
            for overrides in sweep:
                job = resolved(overrides, PROTOCOLS[name], *([f"dataset.seed={draw}"] if draw != seed else []))
                results = train(job).results
                named = [*walk.settings_with(job.model, "named")]
                variant = " ".join([shown_as(results[-1]), *_distinct(overrides, sweep, named)])
                for result in results:
                    model = variant if result is results[-1] else shown_as(result)
                    runs.setdefault(result.config_hash, ProtocolRun(model, name, draw, result))
    if not runs:
        raise next(iter(refusals.values()))
    return ProtocolComparison(list(runs.values()), {name: refusal.problem for name, refusal in refusals.items()})


def resolved(overrides: Sequence[str], *more: str) -> Job:
    """Return the job of a training with further overrides, which replace overrides of the same keys."""
    replaced = {key_typed(override) for override in more}
    typed = [override for override in overrides if key_typed(override) not in replaced]
    return Job.resolve(compose([*typed, *more]), "train")


def problems(jobs: Sequence[Job], metrics: Sequence[str]) -> Iterator[UsageError]:
    """Yield why these runs cannot be compared under several protocols, and which of the metrics do not exist."""
    for job in jobs:
        dataset = job.config.dataset
        if walk.settings_with(job.model, "input_file"):
            yield UsageError(
                f"a file of {job.model.name} was made for one split, and protocols evaluates several",
                "one file for each: llm4rec score FILE --name NAME dataset.split=temporal",
            )
        if job.task.question != Question.rank:
            yield UsageError(
                f"protocols compares rankings, and task '{job.task.name}' does not rank", "task=sequential"
            )
        if (dataset.split, dataset.control) != (SplitRule.leave_one_out, Control.none):
            yield UsageError(
                "protocols sets split and control, but here dataset.split is "
                f"{dataset.split.name} and dataset.control is {dataset.control.name}",
                "dataset.split=leave_one_out dataset.control=none; the protocols split interactions, not click logs",
            )
        if (dataset, job.task, job.config.split) != (jobs[0].config.dataset, jobs[0].task, jobs[0].config.split):
            yield UsageError(
                f"{jobs[0].model.name} and {job.model.name} differ in dataset, task or evaluated split",
                "set dataset= and task=, and only one value of each of their settings",
            )
    available = tasks.metric_names(jobs[0].task)
    for name in metrics:
        if name not in available:
            yield UsageError(f"no metric '{name}'", did_you_mean(name, available))


def _refusal(job: Job) -> DataError | None:
    """Return why the data cannot be evaluated under this protocol; None if they can."""
    try:
        split = stages.split_dataset(job, stages.load(job))
        for part in SplitName:
            task_module(job.task).examples(split, part, job.config, job.cache)
    except DataError as error:
        return error
    return None


def _distinct(overrides: Sequence[str], sweep: Sequence[Sequence[str]], named: Sequence[str]) -> list[str]:
    """Return the overrides of a run that not all of a sweep have, except the seed and settings that the model's name
    says (`named`); of an experiment its name."""
    hidden = {"model", "seed", *(f"model.{setting}" for setting in named)}
    distinct = [o for o in overrides if not all(o in other for other in sweep) and key_typed(o) not in hidden]
    return [o.partition("=")[2] if key_typed(o) == "experiment" else o for o in distinct]


# --- tables


def tables(comparison: ProtocolComparison, metrics: Sequence[str]) -> list[Content]:
    """Return a table for each metric, and then one for each metric and protocol with slices."""
    of_slices = [slice_table(comparison, name, metric) for metric in metrics for name in comparison.protocols]
    return [*(metric_table(comparison, metric) for metric in metrics), *filter(None, of_slices)]


def metric_table(comparison: ProtocolComparison, metric: str) -> Content:
    """Return the means of one metric, one column a protocol, with the ranks of the models and their correlation."""
    protocols = comparison.protocols
    ranks = {protocol: comparison.ranks(protocol, metric) for protocol in protocols}
    rows = [
        [
            model,
            *(_cell(comparison.by_draw(model, protocol, metric)) for protocol in protocols),
            *([" ".join(str(ranks[p].get(model, "–")) for p in protocols)] if len(protocols) > 1 else []),
        ]
        for model in comparison.models
    ]
    columns = ["model", *protocols, *(["ranks"] if len(protocols) > 1 else [])]
    counts = ", ".join(f"{comparison.n_examples(protocol):,} {protocol}" for protocol in protocols)
    return Content(metric, columns, rows, [f"examples: {counts}", *_order_notes(comparison, metric)])


def _cell(values: Sequence[float]) -> str:
    """Return the mean of the draws, with their standard deviation if there are several."""
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}"


def _order_notes(comparison: ProtocolComparison, metric: str) -> Iterator[str]:
    """Yield sentences on the number of draws, and on how the order of the models agrees between protocols."""
    for protocol in comparison.protocols:
        if len(draws := comparison.draws(protocol)) > 1:
            yield f"{protocol}: mean ± standard deviation of {len(draws)} draws, dataset.seed={draws[0]}…{draws[-1]}"
    pairs = list(itertools.combinations(comparison.protocols, 2))
    taus = [(first, second, comparison.kendall(first, second, metric)) for first, second in pairs]
    if shown := ", ".join(f"{first} and {second} {tau:.2f}" for first, second, tau in taus if tau is not None):
        yield f"Kendall's τ of the models' order (1 = the same order): {shown}"
    for protocol in comparison.protocols:
        if of_draws := comparison.kendall_of_draws(protocol, metric):
            yield f"between draws of {protocol}: {min(of_draws):.2f} to {max(of_draws):.2f}"
    for first, second in pairs:
        if swapped := _swapped(comparison, first, second, metric):
            yield f"in another order under {second} than under {first} (not tested): {'; '.join(swapped)}"


def _swapped(comparison: ProtocolComparison, first: str, second: str, metric: str) -> list[str]:
    """Return `A and B` for each pair of models of which A is better under `first`, and B under `second`."""
    before, after = comparison.ranks(first, metric), comparison.ranks(second, metric)
    both = sorted(before.keys() & after.keys(), key=lambda model: before[model])
    return [f"{a} and {b}" for a, b in itertools.combinations(both, 2) if before[a] < before[b] and after[a] > after[b]]


def slice_table(comparison: ProtocolComparison, protocol: str, metric: str) -> Content | None:
    """Return the means of one metric on each slice under one protocol; None if its runs have no slices."""
    parts = [part for part in comparison.slices if comparison.n_examples(protocol, part)]
    if not parts:
        return None
    parts = [ALL, *parts]
    rows = [["examples", *(f"{comparison.n_examples(protocol, part):,}" for part in parts)]]
    for model in comparison.models:
        means = [comparison.mean(model, protocol, metric, part) for part in parts]
        rows.append([model, *("–" if mean is None else f"{mean:.4f}" for mean in means)])
    notes = []
    if "same_day" in parts:
        notes.append("same day: bought on the day of the item before, so a hit there completes a basket")
    if diagnostic := [part.replace("_", " ") for part in parts if part in DIAGNOSTIC]:
        notes.append(f"{', '.join(diagnostic)}: chosen by the target's id, so diagnostic only")
    columns = ["model", *(part.replace("_", " ") for part in parts)]
    return Content(f"{metric} by slice · {protocol}", columns, rows, notes)


# --- data


def flat(comparison: ProtocolComparison, metrics: Sequence[str]) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and rows of the CSV: one row a run, metric and slice that has the number."""
    columns = ["model", "protocol", "dataset_seed", "seed", "metric", "slice", "n_examples", "value", "config_hash"]
    return columns, [
        [
            *(run.model, run.protocol, run.draw, run.result.seed, metric, part),
            *(run.n_examples(part), value, run.result.config_hash),
        ]
        for run in comparison.runs
        for metric in metrics
        for part in (ALL, *run.slices)
        if (value := run.value(metric, part)) is not None
    ]


def as_json(comparison: ProtocolComparison, metrics: Sequence[str]) -> Mapping[str, object]:
    """Return what the tables show, with the value of every draw."""
    first = comparison.runs[0].result
    pairs = list(itertools.combinations(comparison.protocols, 2))
    return {
        **{key: getattr(first, key) for key in ("dataset", "task", "split", "protocol", "mask_history")},
        "protocols": {
            name: {
                "dataset_seeds": comparison.draws(name),
                "dataset_fingerprints": list(
                    dict.fromkeys(r.result.dataset_fingerprint for r in comparison.runs if r.protocol == name)
                ),
                "n_examples": {part: comparison.n_examples(name, part) for part in (ALL, *comparison.slices)},
            }
            for name in comparison.protocols
        },
        "skipped": dict(comparison.skipped),
        "models": {
            model: {
                name: {
                    metric: {
                        "by_draw": comparison.by_draw(model, name, metric),
                        **{part: comparison.mean(model, name, metric, part) for part in (ALL, *comparison.slices)},
                        "rank": comparison.ranks(name, metric).get(model),
                    }
                    for metric in metrics
                }
                for name in comparison.protocols
            }
            for model in comparison.models
        },
        "kendall_tau": {
            metric: [{"protocols": [a, b], "tau": comparison.kendall(a, b, metric)} for a, b in pairs]
            for metric in metrics
        },
    }
