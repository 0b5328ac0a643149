"""The tables of runs: what a run prints, with its comparison with the strongest floor, and those of `report`."""

from __future__ import annotations

import itertools
import statistics
import string
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llm4rec_cli import processes
from llm4rec_cli.config.commands import commands
from llm4rec_cli.config.overrides import command_line
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.data.slices import DIAGNOSTIC
from llm4rec_cli.errors import UsageError, raise_first
from llm4rec_cli.evaluation.metrics import direction, lower_is_better, paired_metric, table_metrics
from llm4rec_cli.labels import NOT_ABOVE_POPULARITY
from llm4rec_cli.paths import outputs_option
from llm4rec_cli.results import chat, papers, tables
from llm4rec_cli.results.describe import (
    MIN_USERS,
    SYNTHETIC_NOTE,
    count_in_words,
    headline_metric,
    shared,
    shown_as,
    spare_metrics,
    title,
    tuning_in_words,
    unconverged_after,
)
from llm4rec_cli.results.pairing import pair_runs, problems_of_users
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.tables import Content
from llm4rec_cli.results.variants import UNREAD, Group, Variant

MIN_COMPARED = 30  # users: fewer settle no comparison, whatever the interval
LONGEST_ANSWER = 200  # characters shown of an answer
HEADING = ("dataset", "task", "protocol")
NAME = ("model", "variant")
PAPER_COLUMNS = (*NAME, "metric", "ours", "n", "95 % interval", "paper", "inside", "differences", "of", "source")
RELATED_COLUMNS = ("metric", "value", "of", "history masked", "read", "source")
INSIDE = {True: "yes", False: "no", None: ""}


@dataclass(frozen=True)
class FloorComparison:
    """A run and the strongest floor of its table, on the headline metric.

    Attributes:
        gain: how much better the run is; negative if the floor is better.
        interval: the paired 95 % t interval of the gain, over users; None if the two cannot be paired.
        problem: why they cannot.
    """

    run: Result
    floor: Result
    metric: str
    gain: float
    interval: tuple[float, float] | None
    problem: str = ""

    @property
    def beaten(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.interval is not None and self.interval[0] > 0

    def in_words(self) -> str:
        """Return `unisrec is better than transition_text, the strongest floor, by 0.0220 NDCG@10 (95 % CI 0.0130 to
        0.0310, over users, not over trainings).`"""
        run = self.run
        trained = run.training is not None or run.trained_run is not None
        size = f"{abs(self.gain):.4f} {self.metric.upper()}"
        other = "other " if config_class(run.model).traits.is_floor else ""
        floor = f"{shown_as(self.floor)}, the strongest {other}floor,"
        if NOT_ABOVE_POPULARITY in run.labels:
            reason = f"its training probably failed ({NOT_ABOVE_POPULARITY})"
            return f"{shown_as(run)} is not compared with {shown_as(self.floor)}: {reason}."
        if self.interval is None:
            relation = f"is {'better' if self.gain > 0 else 'worse'} than {floor} by {size}"
            evidence = f"no interval: {self.problem}"
        else:
            low, high = self.interval
            is_few = run.n_examples < MIN_COMPARED
            if low <= 0 <= high or low == high or is_few:
                relation = f"is not distinguishable from {floor} on {self.metric.upper()}"
                evidence = f"{_signed(self.gain)}, 95 % CI {_signed(low)} to {_signed(high)}, over users"
                evidence += f", of whom {run.n_examples} are too few" if is_few else ""
            else:
                relation = f"is {'better' if low > 0 else 'worse'} than {floor} by {size}"
                low, high = sorted((abs(low), abs(high)))
                evidence = f"95 % CI {low:.4f} to {high:.4f}, over users"
        training = ", not over trainings" if trained and self.interval else ""
        data = "On synthetic data, " if "synthetic" in run.labels else ""
        return f"{data}{shown_as(run)} {relation} ({evidence}{training})."


def _signed(gain: float) -> str:
    return f"{abs(gain):.4f} {'worse' if gain < 0 else 'better'}"


def print_results(runs: Sequence[Result]) -> FloorComparison | None:
    """Print the results table, a chat model's controls and costs, the run folder and the comparison with the strongest
    floor, which is returned.

    Of several processes, the first one prints.

    Args:
        runs: the floors, then the run itself.
    """
    if not processes.is_first():
        return None
    *floors, run = runs
    has_cold_items = "target_is_cold" in run.breakdown
    for content in [results_table(runs), *([cold_table(runs)] if has_cold_items else [])]:
        tables.show(content)
    if run.llm:
        if controls := chat.controls(run, shown_as(run)):
            print()
            tables.show(controls)
        cells = zip(chat.COST_COLUMNS, chat.costs(run), strict=True)
        tables.say(f"answers: {', '.join(f'{name} {value}' for name, value in cells)}")
    print(f"run folder: {run.folder}\n")
    unread = unread_in_words(run)
    comparison = None if run.metrics.get(UNREAD) == 1 else compare_with_floor(run, floors)
    tables.say(*([comparison.in_words()] if comparison else []), *([unread] if unread else []))
    return comparison


def results_table(runs: Sequence[Result]) -> Content:
    """Return the table printed after training: the floors, then the run itself, with one protocol's metrics and labels
    below."""
    last = runs[-1]
    names = [name for name in table_metrics(last.protocol) if name in last.metrics]
    rows = [
        [shown_as(run), *("" if (v := run.metrics.get(name)) is None else f"{v:.4f}" for name in names)] for run in runs
    ]
    headline = headline_metric(last.protocol, last.intervals)
    notes = [count_in_words(last, last.n_examples)]
    if headline is not None and last.n_examples >= MIN_USERS:
        low, high = last.intervals[headline]
        notes[0] += f"; {shown_as(last)} {headline} within {low:.4f}–{high:.4f} (95 %, over users)"
    if reversed_names := lower_is_better(names):
        notes.append(f"lower is better: {', '.join(reversed_names)}")
    labels = [[label for label in run.labels if label != "synthetic"] for run in runs]  # noted for the whole table
    in_all_rows = shared(labels)
    notes += [f"all rows: {', '.join(in_all_rows)}"] if in_all_rows else []
    for run, own in zip(runs, labels, strict=True):
        if others := [label for label in own if label not in in_all_rows]:
            notes.append(f"{shown_as(run)}: {', '.join(others)}")
    if (epochs := unconverged_after(last)) is not None:
        notes.append(f"{shown_as(last)}: the best of {epochs} epochs is the last: try trainer.epochs={2 * epochs}")
    notes += last.warnings
    if "synthetic" in last.labels:
        notes.append(SYNTHETIC_NOTE)
    return Content(title(last), ["model", *names], rows, notes, spare=spare_metrics(names, headline))


def cold_table(runs: Sequence[Result]) -> Content:
    """Return the table of cold and warm targets, one run per row, with chance level; empty groups have no columns."""
    last = runs[-1].breakdown
    sizes = {group: metrics["n"] for group, metrics in last["target_is_cold"].items()}
    available = next(iter(last["chance"].values()))
    names = [name for name in ("hr@10", "ndcg@10") if name in available] or ["mrr"]
    means = {shown_as(run): run.breakdown["target_is_cold"] for run in runs} | {"chance": last["chance"]}
    return Content(
        "targets held out of training (cold) and the others (warm)",
        ["model", *(f"{group} {name}" for group in sizes for name in names)],
        [[model, *(f"{values[g][name]:.4f}" for g in sizes for name in names)] for model, values in means.items()],
        [" and ".join(f"{n:,} {group}" for group, n in sizes.items())],
    )


def unread_in_words(run: Result) -> str:
    """Return `none of 10 answers could be read, so …; the first: …` of a chat model's run; empty if all could."""
    if not (share := run.metrics.get(UNREAD)):
        return ""
    answers = run.answers(["answer", "status"])
    unread = answers["answer"][answers["status"] == "invalid"]
    first = str(unread.iloc[0])
    shown = repr(textwrap.shorten(first, LONGEST_ANSWER, placeholder=" …")) if first else "empty"
    remedy = "llm.dry_run=true shows the requests; when server or prompt are mended, llm.ask_again=true asks again"
    if share == 1:
        problem = f"none of {len(answers):,} answers could be read, so these numbers are not the model's"
    else:
        problem = f"{len(unread):,} of {len(answers):,} answers could not be read"
    if "inspect-answers" in commands():
        inspect = command_line("inspect answers", [run.name, "--status", "invalid"], *outputs_option(run.outputs))
        remedy = f"{inspect} shows them with their prompts; {remedy}"
    return f"{problem}; the first: {shown}. {remedy}"


def compare_with_floor(run: Result, floors: Sequence[Result]) -> FloorComparison | None:
    """Compare a run with the best of its floors; None if it has no floors or no metric with an interval."""
    from llm4rec_cli.evaluation import crossed

    metric = headline_metric(run.protocol, run.intervals)
    if metric is None or not floors:
        return None
    sign = direction(metric)
    floor = max(floors, key=lambda other: sign * other.metrics[metric])
    gain = sign * (run.metrics[metric] - floor.metrics[metric])
    by_example = paired_metric(metric) or metric
    try:
        values = pair_runs([floor], [run], [by_example])
        raise_first(problems_of_users(values))
    except UsageError as error:
        return FloorComparison(run, floor, metric, gain, None, error.problem)
    by_user = [crossed.means_by_user([side[by_example]], values.user) for side in (*values.b, *values.a)]
    if by_example != metric:  # RMSE, from squared errors
        by_user = [crossed.on_root_scale(contributions) for contributions in by_user]
    low, high = sorted(sign * end for end in crossed.difference(*by_user).interval())
    return FloorComparison(run, floor, metric, gain, (low, high))


def results(group: Group, in_short: bool = False) -> Content:
    """Return one row per variant: metrics, the interval of one, labels, and deviations (dev.) by number.

    Overrides and labels that all rows share are noted below the table.

    Args:
        in_short: without tuning and deviations.
    """
    all_deviations = [] if in_short else group.deviations()
    shared_parts = shared([variant.parts for variant in group.members])
    shared_labels = {"synthetic", *shared([variant.labels for variant in group.members])}
    columns = {"model": _names(group)}
    columns["variant"] = [" ".join(part for part in v.parts if part not in shared_parts) for v in group.members]
    if group.has_mixed_data:
        columns["data"] = [variant.first_run.dataset_fingerprint[:8] for variant in group.members]
    columns["n"] = [str(len(variant.runs)) for variant in group.members]
    columns |= {name: [mean_and_deviation(v, name) for v in group.members] for name in group.metrics}
    if (metric := group.headline_metric) is not None:
        columns[f"{metric} 95 %"] = [interval(variant, metric) for variant in group.members]
    first_metric = str(headline_metric(group.members[0].first_run.protocol, group.metrics))
    by_draw = [" ".join(f"{value:.4f}" for value in variant.by_draw(first_metric)) for variant in group.members]
    columns[f"{first_metric} by draw"] = by_draw
    columns["labels"] = [" ".join(label for label in v.labels if label not in shared_labels) for v in group.members]
    if not in_short and any(variant.first_run.tuning for variant in group.members):
        columns["tuning"] = [tuning_in_words(variant.first_run) for variant in group.members]
    if not in_short:
        columns["dev."] = [
            ranges(sorted(all_deviations.index(deviation) + 1 for deviation in variant.deviations))
            for variant in group.members
        ]
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    legend = [f"dev. {i}: {deviation}" for i, deviation in enumerate(all_deviations, start=1)]
    spare = [*spare_metrics(group.metrics, first_metric), f"{first_metric} by draw"]
    return Content.of_columns(group.title, columns, [*notes(group), *legend], ["labels"], spare)


def _names(group: Group) -> list[str]:
    """Return the name of each row's model, with a mark of controls, and of floors unless all are."""
    floor = "" if all(variant.is_floor for variant in group.members) else " (floor)"
    marks = (" (control)" if variant.is_control else floor if variant.is_floor else "" for variant in group.members)
    return [f"{variant.name[0]}{mark}" for variant, mark in zip(group.members, marks, strict=True)]


def notes(group: Group) -> list[str]:
    """Return the notes below a table of results, without those on deviations."""
    first = group.members[0].first_run
    has_draws = bool(first.draws)
    of_one_seed = "t over users" if has_draws else "bootstrap over users"
    result = [
        f"{count_in_words(first, first.n_examples)}; mean ± sd over n seeds; 95 % intervals: "
        f"{of_one_seed}; t over users and seeds where there are several"
    ]
    if has_draws:
        result.append("means over draws of candidates; tokens and controls of chat models are those of the first draw")
    if reversed_names := lower_is_better(group.metrics):
        result.append(f"lower is better: {', '.join(reversed_names)}")
    in_all_rows = shared([[*variant.parts, *variant.labels] for variant in group.members])
    if parts := [part for part in in_all_rows if part != "synthetic"]:
        result.append(f"all rows: {' '.join(parts)}")
    if any("synthetic" in variant.labels for variant in group.members):
        result.append(SYNTHETIC_NOTE)
    if failed := [v for v in group.members if NOT_ABOVE_POPULARITY in v.labels]:
        names = "; ".join(variant.full_name for variant in failed)
        result.append(
            f"{NOT_ABOVE_POPULARITY}, so that training probably failed, and no model is called better: {names}. Other "
            "settings: llm4rec tune model=MODEL"
        )
    if unread := [v for v in group.members if v.is_unread]:
        names = "; ".join(variant.full_name for variant in unread)
        result.append(f"no answer could be read, so that there are no numbers: {names}")
    unconverged = [v for v in group.members if any(unconverged_after(run) is not None for run in v.runs)]
    if unconverged:
        names = "; ".join(variant.full_name for variant in unconverged)
        result.append(f"the best epoch is the last, so that more epochs may be better: {names}")
    for variant in group.members:
        tuning = variant.first_run.tuning
        if tuning and tuning.expected_best:
            name, curve = variant.full_name, " ".join(f"{v:.4f}" for v in tuning.expected_best)
            result.append(f"{name}: expected best {tuning.metric} of n trials on validation, n = 1, 2, …: {curve}")
    if group.has_mixed_data:
        result.append("data: rows with different values use different files, filters or seeds; compare only equal ones")
    return result


def paper_comparisons(group: Group, own: Path | None = None) -> Content | None:
    """Return one row per published number that a variant can be compared with; None if there is nothing to show.

    Differences are marked with letters, explained below the table.

    Args:
        own: a user's CSV file of published numbers.
    """
    compared = [(variant, comparison) for variant in group.members for comparison in papers.comparisons(variant, own)]
    letters = lettered(difference for _, comparison in compared for difference in comparison.differences)
    rows = [
        [
            *variant.name,
            item.metric,
            mean_and_deviation(variant, item.metric),
            str(len(variant.runs)),
            interval(variant, item.metric),
            f"{item.printed.value:.4f}",
            INSIDE[item.inside],
            " ".join(letters[difference] for difference in item.differences),
            item.printed.owner,
            item.printed.source,
        ]
        for variant, item in compared
    ]
    excluded = [
        f"{variant.full_name} is not compared with a paper: {', '.join(reasons)}"
        for variant in group.members
        if (reasons := papers.excluded(variant, own))
    ]
    if not rows and not excluded:
        return None
    inside = ["inside: whether the paper's number lies in our 95 % interval; empty if something differs"]
    legend = [f"{letter}: {difference}" for difference, letter in letters.items()]
    notes = [*(inside if rows else []), *legend, *dict.fromkeys(excluded)]
    return Content(f"{group.title}, compared with the papers", PAPER_COLUMNS, rows, notes, ["variant", "source", "of"])


def related_work(group: Group) -> Content | None:
    """Return published results of other methods on the same dataset and protocol, best first; None without any."""
    numbers = list(dict.fromkeys(row for variant in group.members for row in papers.related_to(variant)))
    if not numbers or any("synthetic" in variant.labels for variant in group.members):
        return None
    numbers.sort(key=lambda row: (row.metric, -row.value))
    rows = [
        [row.metric, f"{row.value:.4f}", row.owner, row.mask_history, "yes" if row.verified else "no", row.source]
        for row in numbers
    ]
    notes = [
        "related work: numbers that other methods' authors report, not reproduced here; the list is not complete",
        "read: whether the value was checked against the source",
    ]
    return Content(f"{group.title}, related work", RELATED_COLUMNS, rows, notes)


def slices(group: Group) -> Content | None:
    """Return one row per variant: one metric on each slice of the targets, averaged over seeds; None without.

    It is the metric with an interval, or else the first that slices have. Diagnostic slices are left out.
    """
    measured = [(v, [run.breakdown.get("slice", {}) for run in v.runs]) for v in group.members]
    measured = [(variant, by_seed) for variant, by_seed in measured if all(by_seed)]
    first_seeds = [by_seed[0] for _, by_seed in measured]
    of_slices = [name for run in first_seeds for means in run.values() for name in means if name != "n"]
    metric = next((name for name in (group.headline_metric, *group.metrics) if name in of_slices), None)
    if metric is None:
        return None
    measured = [(variant, by_seed) for variant, by_seed in measured if variant.values(metric)]
    sizes = {name: means["n"] for run in first_seeds for name, means in run.items() if name not in DIAGNOSTIC}
    columns = {"model": [v.name[0] for v, _ in measured], "variant": [v.name[1] for v, _ in measured]}
    columns["all"] = [f"{variant.mean(metric):.4f}" for variant, _ in measured]
    for name in sizes:
        values = [[means[name][metric] for means in by_seed if name in means] for _, by_seed in measured]
        columns[name] = [f"{statistics.fmean(by_seed):.4f}" if by_seed else "" for by_seed in values]
    labels = [[label for label in variant.labels if label != "synthetic"] for variant, _ in measured]
    columns |= {"labels": [" ".join(own) for own in labels]} if any(labels) else {}
    notes = [f"targets: {', '.join(f'{n:,} {name}' for name, n in sizes.items())}"]
    notes += [SYNTHETIC_NOTE] if any("synthetic" in variant.labels for variant, _ in measured) else []
    title = f"{group.title}: {metric} on slices of the targets"
    return Content.of_columns(title, columns, notes, ["labels"], [*reversed(sizes)])


def costs(group: Group) -> Content:
    """Return one row per variant: minutes of training and of evaluation, memory and size, averaged over seeds."""
    columns = {"model": [variant.name[0] for variant in group.members]}
    columns["variant"] = [variant.name[1] for variant in group.members]
    columns["n"] = [str(len(variant.runs)) for variant in group.members]
    columns["training, min"] = [
        f"{variant.training_seconds() / 60:.1f}" if variant.has_training_time else "" for variant in group.members
    ]
    columns["evaluation, min"] = [f"{variant.evaluation_seconds() / 60:.1f}" for variant in group.members]
    for heading, field in (("MiB", "peak_rss_mb"), ("parameters", "n_parameters"), ("trained", "n_trainable")):
        columns[heading] = [f"{max(getattr(run, field) for run in variant.runs):,}" for variant in group.members]
    first_runs = [variant.first_run for variant in group.members]
    if has_costs := any(map(chat.has_costs, first_runs)):
        nothing = [""] * len(chat.COST_COLUMNS)
        of_answers = zip(*(chat.costs(run) if chat.has_costs(run) else nothing for run in first_runs), strict=True)
        columns |= {name: list(cells) for name, cells in zip(chat.COST_COLUMNS, of_answers, strict=True)}
    notes = [
        "mean minutes over n seeds, measured while other work may have run; an evaluation of a trained run has those "
        "of its training, but not its memory",
        "MiB: peak of the process, of the seed with the highest",
        *([chat.COST_NOTE] if has_costs else []),
    ]
    return Content.of_columns(f"{group.title}: costs", columns, notes, ["variant"])


def lettered(differences: Iterable[str]) -> dict[str, str]:
    """Return a letter for each difference, in order of appearance: a, b, …, z, aa, ab, …"""
    names = itertools.chain(string.ascii_lowercase, map("".join, itertools.product(string.ascii_lowercase, repeat=2)))
    return dict(zip(dict.fromkeys(differences), names, strict=False))


def flat_results(groups: Sequence[Group], typed: Sequence[str] | None = None) -> Content:
    """Return all variants in one table of numbers: of every metric mean, standard deviation over seeds and both ends of
    its interval; labels and deviations in words.

    Args:
        typed: the metrics to show; None = all metrics shown for any group.
    """
    metrics = list(dict.fromkeys(typed or [name for group in groups for name in group.metrics]))
    rows = [
        {
            **dict(zip((*HEADING, *NAME), (*variant.heading, *variant.name), strict=True)),
            "n": str(len(variant.runs)),
            "examples": str(variant.first_run.n_examples),
            **{
                column: cell
                for name in metrics
                for column, cell in _numbers(name, variant, name if name in group.metrics else "").items()
            },
            "labels": " ".join(variant.labels),
            "deviations": " | ".join(variant.deviations),
            "variant_hash": variant.first_run.variant,
            "dataset_fingerprint": variant.first_run.dataset_fingerprint,
        }
        for group in groups
        for variant in group.members
    ]
    return Content.of_rows("results", rows)


def _numbers(heading: str, variant: Variant, metric: str) -> dict[str, str]:
    """Return the columns of a metric: mean and standard deviation over seeds, and both ends of the 95 % interval, each
    empty if unknown."""
    values = variant.values(metric)
    mean = f"{statistics.fmean(values):.6f}" if values else ""
    deviation = f"{statistics.stdev(values):.6f}" if _varies(values, variant.is_seeded) else ""
    ends = variant.intervals.get(metric) if values else None
    low, high = (f"{end:.6f}" for end in ends) if ends else ("", "")
    return {heading: mean, f"{heading} sd": deviation, f"{heading} low": low, f"{heading} high": high}


def flat_papers(groups: Iterable[Group], own: Path | None = None) -> Content:
    """Return all comparisons with papers in one table of numbers; differences, labels and deviations in words."""
    rows = [
        {
            **dict(zip((*HEADING, *NAME), (*variant.heading, *variant.name), strict=True)),
            "metric": item.metric,
            **_numbers("ours", variant, item.metric),
            "n": str(len(variant.runs)),
            "paper": f"{item.printed.value:.6f}",
            "inside": INSIDE[item.inside],
            "differences": " | ".join(item.differences),
            "of": item.printed.owner,
            "source": item.printed.source,
            "labels": " ".join(variant.labels),
            "deviations": " | ".join(variant.deviations),
        }
        for group in groups
        for variant in group.members
        for item in papers.comparisons(variant, own)
    ]
    return Content.of_rows("compared with the papers", rows)


def mean_and_deviation(variant: Variant, metric: str) -> str:
    """Return `with_deviation` of a metric over seeds."""
    return with_deviation(variant.values(metric), variant.is_seeded)


def with_deviation(values: Sequence[float], is_seeded: bool) -> str:
    """Return the mean and standard deviation over seeds as `0.1206 ± 0.0010`; empty if there are no values.

    The deviation is left out for one seed, and for a model that declares that seeds make no difference.
    """
    if not values:
        return ""
    mean = statistics.fmean(values)
    return f"{mean:.4f} ± {statistics.stdev(values):.4f}" if _varies(values, is_seeded) else f"{mean:.4f}"


def _varies(values: Sequence[float], is_seeded: bool) -> bool:
    return len(values) > 1 and (is_seeded or len(set(values)) > 1)


def interval(variant: Variant, metric: str) -> str:
    """Format an interval as `0.1061–0.1288`; empty without one."""
    low, high = variant.intervals.get(metric, (None, None))
    return "" if low is None else f"{low:.4f}–{high:.4f}"


def ranges(numbers: Sequence[int]) -> str:
    """Return `1–3 5` of 1, 2, 3, 5; the numbers ascend."""
    firsts = [number for number in numbers if number - 1 not in numbers]
    lasts = [number for number in numbers if number + 1 not in numbers]
    return " ".join(str(a) if a == b else f"{a}–{b}" for a, b in zip(firsts, lasts, strict=True))
