"""The results table that a run prints, and below it how the model compares with the strongest floor."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm4rec_cli import processes
from llm4rec_cli.config.commands import commands
from llm4rec_cli.config.overrides import command_line
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.errors import UsageError, raise_first
from llm4rec_cli.evaluation.metrics import direction, paired_metric
from llm4rec_cli.labels import NOT_ABOVE_POPULARITY
from llm4rec_cli.paths import outputs_option
from llm4rec_cli.results import chat, tables
from llm4rec_cli.results.pairing import pair_runs, problems_of_users
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.variants import UNREAD
from llm4rec_cli.results.words import cold_table, headline_metric, results_table, shown_as

if TYPE_CHECKING:
    from llm4rec_cli.evaluation.crossed import Estimate

MIN_COMPARED = 30  # users: fewer settle no comparison, whatever the interval
LONGEST_ANSWER = 200  # characters shown of an answer


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


def show(runs: Sequence[Result]) -> FloorComparison | None:
    """Print the results table, the run folder and the comparison with the strongest floor, which is returned.

    Of several processes, the first one prints.

    Args:
        runs: the floors, then the run itself.
    """
    if not processes.is_first():
        return None
    has_cold_items = "target_is_cold" in runs[-1].breakdown
    for content in [results_table(runs), *([cold_table(runs)] if has_cold_items else [])]:
        tables.show(content)
    if runs[-1].llm:
        _show_chat(runs[-1])
    print(f"run folder: {runs[-1].folder}\n")
    *floors, run = runs
    unread = unread_in_words(run)
    comparison = None if run.metrics.get(UNREAD) == 1 else compare_with_floor(run, floors)
    tables.say(*([comparison.in_words()] if comparison else []), *([unread] if unread else []))
    return comparison


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


def _show_chat(run: Result) -> None:
    """Print a chat model's controls, if it has any, and what its answers cost."""
    if controls := chat.controls(run, shown_as(run)):
        print()
        tables.show(controls)
    cells = zip(chat.COST_COLUMNS, chat.costs(run), strict=True)
    tables.say(f"answers: {', '.join(f'{name} {value}' for name, value in cells)}")


def compare_with_floor(run: Result, floors: Sequence[Result]) -> FloorComparison | None:
    """Compare a run with the best of its floors; None if it has no floors or no metric with an interval."""
    metric = headline_metric(run.protocol, run.intervals)
    if metric is None or not floors:
        return None
    sign = direction(metric)
    floor = max(floors, key=lambda other: sign * other.metrics[metric])
    gain = sign * (run.metrics[metric] - floor.metrics[metric])
    try:
        low, high = _paired_difference(floor, run, metric).interval()
    except UsageError as error:
        return FloorComparison(run, floor, metric, gain, None, error.problem)
    low, high = sorted((sign * low, sign * high))
    return FloorComparison(run, floor, metric, gain, (low, high))


def _paired_difference(a: Result, b: Result, metric: str) -> Estimate:
    """Estimate the difference b − a of the metric over users.

    Raises:
        UsageError: the runs cannot be paired, or there are too few users.
    """
    from llm4rec_cli.evaluation import crossed

    by_example = paired_metric(metric) or metric
    values = pair_runs([a], [b], [by_example])
    raise_first(problems_of_users(values))
    by_user = [crossed.means_by_user([run[by_example]], values.user) for run in (*values.b, *values.a)]
    if by_example != metric:  # RMSE, from squared errors
        by_user = [crossed.on_root_scale(contributions) for contributions in by_user]
    return crossed.difference(*by_user)
