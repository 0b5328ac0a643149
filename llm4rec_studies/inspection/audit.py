"""What a result's gain over another model consists of, and whether it may be called "beats"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.config.folders import options
from llm4rec_cli.config.overrides import SEARCH_SPACES, command_line, key_typed
from llm4rec_cli.config.registry import config_class
from llm4rec_cli.config.walk import settings_with
from llm4rec_cli.data.controls import has_ties
from llm4rec_cli.data.store import dataset_folder, load
from llm4rec_cli.errors import RunError, UsageError, raise_first
from llm4rec_cli.evaluation import crossed
from llm4rec_cli.evaluation.crossed import Estimate
from llm4rec_cli.labels import NO_BEATS
from llm4rec_cli.paths import cache_folder
from llm4rec_cli.results.describe import (
    MIN_SEEDS,
    is_trained,
    shown_as,
    title,
    tuning_budget,
    tuning_in_words,
    unconverged_after,
)
from llm4rec_cli.results.pairing import (
    PROTOCOL_KEYS,
    PairedValues,
    pair_runs,
    problems_of_protocols,
    problems_of_users,
    shared_metrics,
)
from llm4rec_cli.results.records import WITHOUT_RANKS
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.results import Results, named_results
from llm4rec_cli.results.tables import Content

if TYPE_CHECKING:
    import pandas as pd

ALL, ELSEWHERE = "all targets", "elsewhere"
# Slices in which a gain may come from how the data was made rather than from taste.
ACCIDENTAL = ("same_day", "near_duplicate", "repeated")
WITHOUT_TIMES = "ascending_id"  # a slice that only data without times has
UNTIED = "shuffle_ties"  # the control under which equal times have no order
# Other protocols: the setting that makes each, its value, and the settings in which an experiment may differ there.
PROTOCOLS = {
    "shuffled ties": ("dataset.control", UNTIED, frozenset({"dataset.control", "dataset.seed", "seed"})),
    "a temporal split": (
        "dataset.split",
        "temporal",
        frozenset({"dataset.split", "dataset.cuts", "dataset.seed", "seed"}),
    ),
}


@dataclass(frozen=True)
class Part:
    """The part of a gain that lies in a slice."""

    name: str  # the slice; ALL; or ELSEWHERE for targets in none of ACCIDENTAL
    n: int  # the number of targets in it
    a: float
    b: float  # the mean of B there
    gain: float  # its contribution to the mean difference B − A over all targets
    interval: tuple[float, float]  # of the contribution, at 95 %, over users and seeds
    share: float | None  # of the whole difference; None if its interval holds 0, as a share of nothing means nothing


@dataclass(frozen=True)
class Check:
    """A condition of the word "beats"."""

    condition: str  # what is required
    passed: bool | None  # whether it holds; None = not known
    reason: str  # the numbers behind that
    commands: Sequence[str] = ()  # that would show it


@dataclass(frozen=True)
class Audit:
    """What `llm4rec inspect result` reports."""

    metric: str  # the metric of the gain
    b: Mapping[int, Result]
    a: Mapping[int, Result]  # the runs of the model that it is compared with, by seed
    parts: Sequence[Part]  # of the gain, first that of ALL
    checks: Sequence[Check]  # the conditions
    known: Sequence[str]  # sentences on tuning and seeds
    has_times: bool  # whether the data has times, so that other protocols can be tried

    @property
    def allowed(self) -> bool:
        """Whether all conditions hold."""
        return all(check.passed for check in self.checks)

    @property
    def commands(self) -> list[str]:
        """The commands that would show what is not known."""
        return list(dict.fromkeys(command for check in self.checks for command in check.commands))

    @property
    def verdict(self) -> str:
        b, a = (shown_as(_any(runs)) for runs in (self.b, self.a))
        if self.allowed:
            missing = "" if self.has_times else ", as far as data without times can show"
            early = [shown_as(_any(side)) for side in (self.b, self.a) if _unconverged(side)]
            caveat = f", though the best epoch of {' and of '.join(early)} is the last" if early else ""
            return f'"{b} beats {a}" is allowed: every condition holds{missing}{caveat}.'
        reasons = [check.reason for check in self.checks if not check.passed]
        return f'"{b} beats {a}" is refused: {"; ".join(reasons)}.'


def audit(name: str, outputs: Path, over: str | None = None, metric: str | None = None) -> Audit:
    """Audit a finished run of a ranking.

    The word "beats" needs all of: the result is on the test part, with no label in NO_BEATS and no leak alarm. Each
    trained side has MIN_SEEDS seeds. The 95 % interval of the gain over users and seeds lies above 0, and so does that
    of the part outside ACCIDENTAL slices. Where the data has times, the gain is there in every draw of shuffled ties
    and under a temporal split, each with an interval above 0 over the same model, or the strongest floor, and with
    MIN_SEEDS trainings in all of each trained side.

    Args:
        name: a run folder, or an end of its path.
        over: the model that the gain is over: its name or a run; None = the strongest floor of the task.
        metric: None = the task's selection metric.

    Raises:
        RunError, UsageError: the run does not exist, has no slices, or has nothing to be compared with.
    """
    runs = Results.under(outputs)
    (run,) = named_results([name], outputs)
    metric = metric or str(run.settings.get("task.selection"))
    shared_metrics([run], [metric])
    opponent = _opponent(run, runs, over, metric, outputs)
    shared_metrics([opponent, run], [metric])
    raise_first(problems_of_protocols([opponent, run]))
    a, b = (_seeds(side, runs) for side in (opponent, run))
    paired = pair_runs([*a.values()], [*b.values()], [metric])
    raise_first(problems_of_users(paired))
    if not paired.slices:
        raise UsageError(
            f"{run.folder} has no slices: it was evaluated before they were recorded, or ranks no targets",
            "evaluate a trained run again: llm4rec eval run=PATH; a floor: llm4rec train model=NAME … force=true",
        )
    parts = parts_of_gain(paired, metric)
    has_times = WITHOUT_TIMES not in paired.slices
    named = None if over is None else opponent
    other_protocols = _protocol_checks(run, runs, named, metric) if has_times else ()
    checks = [*_own_checks(run, a, b, parts), *other_protocols]
    if over is None:
        checks += _stronger_floor(_same_examples(run, runs), opponent, metric)
    return Audit(metric, b, a, parts, checks, list(_remarks(run, a, b, runs, parts)), has_times)


# --- which runs


def _unconverged(runs: Mapping[int, Result]) -> bool:
    return any(unconverged_after(run) is not None for run in runs.values())


def _any(runs: Mapping[int, Result]) -> Result:
    return next(iter(runs.values()))


def _seeds(run: Result, runs: Iterable[Result]) -> dict[int, Result]:
    """Return the runs of a run's variant by seed, the newest of each; first the run itself."""
    return Results([run, *runs]).by_variant()[run.variant]


def _opponent(run: Result, runs: Sequence[Result], over: str | None, metric: str, outputs: Path) -> Result:
    """Return the run to compare with: a named run, or the strongest floor.

    Raises:
        RunError, UsageError: no run matches, or several variants have that name.
    """
    comparable = [other for other in _same_examples(run, runs) if other.variant != run.variant]
    if over is None:
        floor = _strongest_floor(comparable, metric, with_answers=True)
        if floor is None:
            raise RunError(
                f"no floor was evaluated on the examples of {run.folder}", "train it with its floors: task.floors"
            )
        return floor
    named = [other for other in comparable if over in (other.model, shown_as(other))]
    of_model = {other.variant: other for other in named}
    if len(of_model) > 1:
        raise UsageError(
            f"'{over}' has {len(of_model)} variants on the same examples",
            "--over RUN: " + ", ".join(str(other.folder) for other in of_model.values()),
        )
    return next(iter(of_model.values())) if of_model else named_results([over], outputs)[0]


def _same_examples(run: Result, runs: Iterable[Result]) -> list[Result]:
    """Return the runs on the same examples: data, protocol, task and its extent are equal."""
    keys = ("dataset", "dataset_fingerprint", "task", "n_examples", *PROTOCOL_KEYS)
    facts, settings = [getattr(run, key) for key in keys], run.settings.with_effect(("dataset",))
    same = [other for other in runs if [getattr(other, key) for key in keys] == facts]
    return [other for other in same if other.settings.with_effect(("dataset",)) == settings]


def _strongest_floor(runs: Iterable[Result], metric: str, with_answers: bool = False) -> Result | None:
    """Return the floor with the highest metric among these runs, if any has the metric.

    Args:
        with_answers: only floors whose answers are stored, where there are any.
    """
    floors = [other for other in runs if config_class(other.model).traits.is_floor and metric in other.intervals]
    floors = ([floor for floor in floors if floor.columns] or floors) if with_answers else floors
    return max(floors, key=lambda floor: floor.metrics[metric], default=None)


# --- the gain


def _gain(paired: PairedValues, metric: str, inside: NDArray[np.bool_] | None = None) -> Estimate:
    """Return the mean of B − A over all examples, of those inside counted and 0 for the others."""
    weight = np.ones(len(paired.user)) if inside is None else inside.astype(float)
    a, b = ([run[metric] * weight for run in side] for side in (paired.a, paired.b))
    return crossed.difference(crossed.means_by_user(b, paired.user), crossed.means_by_user(a, paired.user))


def parts_of_gain(paired: PairedValues, metric: str) -> list[Part]:
    """Return the part of the gain in each slice that has targets, and elsewhere."""
    everywhere = np.ones(len(paired.user), dtype=bool)
    accidental = [inside for name, inside in paired.slices.items() if name in ACCIDENTAL]
    groups = {ALL: everywhere, **paired.slices, ELSEWHERE: ~np.any(accidental, axis=0) if accidental else everywhere}
    whole = _gain(paired, metric)
    low, high = whole.interval()
    parts = []
    for name, inside in groups.items():
        if inside.any():
            gain = _gain(paired, metric, inside)
            a, b = (float(np.mean([run[metric][inside].mean() for run in side])) for side in (paired.a, paired.b))
            share = None if low <= 0 <= high else gain.value / whole.value
            parts.append(Part(name, int(inside.sum()), a, b, gain.value, gain.interval(), share))
    return parts


# --- the conditions


def _own_checks(
    run: Result, a: Mapping[int, Result], b: Mapping[int, Result], parts: Sequence[Part]
) -> Iterator[Check]:
    """Yield the conditions on the result itself."""
    yield Check("evaluated on the test part", run.split == "test", f"it is on the {run.split} part")
    refused = [label for label in run.labels if label in NO_BEATS]
    yield Check(
        "no label that rules it out", not refused, f"labels: {', '.join(refused)}" if refused else "none of its labels"
    )
    alarm = _leaks(run)
    reason = "of its hits among the first five, suspiciously many are first" if alarm else "no sign of a leak"
    yield Check("no leak alarm", not alarm, reason)
    for runs in (b, a):
        name, seeds = shown_as(_any(runs)), sorted(runs)
        if is_trained(_any(runs)):
            listed = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''} of {name} ({', '.join(map(str, seeds))})"
            yield Check(f"{MIN_SEEDS} seeds of {name}", len(seeds) >= MIN_SEEDS, listed)
    ours, theirs = _any(b), _any(a)
    if config_class(theirs.model).traits.trainable or theirs.model in options(SEARCH_SPACES):
        budgets = "; ".join(f"{shown_as(side)} {tuning_in_words(side)}" for side in (ours, theirs))
        tuned_more = any(own > other for own, other in zip(tuning_budget(ours), tuning_budget(theirs), strict=True))
        yield Check("tuned no more than its comparator", not tuned_more, budgets)
    by_name = {part.name: part for part in parts}
    yield _above_zero("gain above 0", "the gain", by_name[ALL])
    names = [name for name in ACCIDENTAL if name in by_name]
    if ELSEWHERE not in by_name:
        yield Check("gain outside accidental slices", False, f"all targets are in {' or '.join(names)}")
    elif names:
        outside = f"the gain outside {', '.join(names)}"
        yield _above_zero("gain outside accidental slices", outside, by_name[ELSEWHERE])


def _stronger_floor(same_examples: Iterable[Result], compared: Result, metric: str) -> Iterator[Check]:
    """Yield that a stronger floor than the compared one cannot be paired, as it was recorded without ranks."""
    strongest = _strongest_floor(same_examples, metric)
    if strongest and strongest.metrics[metric] > compared.metrics[metric]:
        numbers = f"{strongest.metrics[metric]:.4f}, above {compared.metrics[metric]:.4f}"
        yield Check("no stronger floor", False, f"{strongest.name} has {numbers}, and is {WITHOUT_RANKS}")


def _leaks(run: Result) -> bool:
    from llm4rec_cli.tasks.ranking import leaks

    return run.protocol == "full" and leaks(run.metrics, run.n_examples)


def _sweep_command(run: Result, runs: Sequence[Result], key: str, value: str) -> str:
    """Return the sweep over all seeds of a run's variant under another protocol.

    Shuffled ties have five draws; of generated data one, because `dataset.seed` also generates them.
    """
    typed = [o for o in run.overrides if key_typed(o) not in ("seed", "dataset.seed", "force", key)]
    chosen = {key_typed(override) for override in typed} & {"model", "experiment"}
    model = [] if chosen else [f"model={run.model}"]
    seeds = ",".join(str(seed) for seed in sorted(_seeds(run, runs)))
    draws = ["dataset.seed=0,1,2,3,4"] if value == UNTIED and "synthetic" not in run.labels else []
    return command_line("train -m", [*model, *typed, f"{key}={value}", *draws, f"seed={seeds}"])


def _above_zero(condition: str, what: str, part: Part) -> Check:
    return Check(condition, part.interval[0] > 0, f"{what} is {part.gain:+.4f} ({_interval(part.interval)})")


def _interval(interval: tuple[float, float]) -> str:
    return f"{interval[0]:+.4f} to {interval[1]:+.4f}"


def _protocol_checks(run: Result, runs: Sequence[Result], opponent: Result | None, metric: str) -> Iterator[Check]:
    """Yield whether the gain is there under shuffled ties and under a temporal split.

    Args:
        opponent: what the gain is over; None = the strongest floor under each protocol.
    """
    for name, (key, value, free) in PROTOCOLS.items():
        condition = f"the gain is there under {name}"
        if run.settings.get(key) == value:
            yield Check(condition, True, f"it is evaluated under {name}")
            continue
        if value == UNTIED and not _may_have_ties(run):
            yield Check(condition, True, f"{name} are not applicable: no two interactions of a user share a time")
            continue
        drawn = Results(_under(run, runs, key, value, free)).by_variant().values()
        draws = [
            (draw, other)  # a draw is a variant: dataset.seed is part of it
            for draw in drawn
            if (other := _opponent_of(_any(draw), runs, opponent, free, metric)) is not None
        ]
        if not draws:
            sides = [*([] if drawn else [run]), *([opponent] if opponent and is_trained(opponent) else [])]
            commands = [_sweep_command(side, runs, key, value) for side in sides]
            if settings_with(config_class(run.model), "input_file"):
                commands = [f"llm4rec score FILE {key}={value}, with a file that was made for these data"]
            yield Check(condition, None, f"it is not known under {name}", commands)
            continue
        paired = [(_seeds(other, runs), draw) for draw, other in draws]
        gains = [_gain(pair_runs([*a.values()], [*b.values()], [metric]), metric) for a, b in paired]
        values, held = [gain.value for gain in gains], [gain.interval()[0] > 0 for gain in gains]
        reason = f"under {name} the gain is {values[0]:+.4f} ({_interval(gains[0].interval())})"
        if value == UNTIED:
            reason += ", in one draw"
        if len(draws) > 1:
            spread = f"gains of {min(values):+.4f} to {max(values):+.4f}"
            reason = f"under {name} the interval is above 0 in {sum(held)} of {len(held)} draws, {spread}"
        trainings = [
            sum(len(side) for side in of_side if is_trained(_any(side))) for of_side in zip(*paired, strict=True)
        ]
        n_trainings = min(filter(None, trainings), default=MIN_SEEDS)  # of the side that was trained less
        if n_trainings < MIN_SEEDS:
            reason += f", of {n_trainings} training{'s' if n_trainings > 1 else ''}"
        yield Check(condition, all(held) and n_trainings >= MIN_SEEDS, reason)


def _may_have_ties(run: Result) -> bool:
    """Return whether two interactions of a user share a time, in the run's prepared data; True if these are gone."""
    folder = dataset_folder(cache_folder(None), run.dataset, run.dataset_fingerprint)
    return not folder.exists() or has_ties(load(folder))


def _under(run: Result, runs: Iterable[Result], key: str, value: str, free: frozenset[str]) -> Iterator[Result]:
    """Yield the runs of the same experiment with this setting, apart from free settings."""
    same, facts = run.settings.with_effect(free=free), [run.model, run.dataset, run.task]
    for other in runs:
        alike = [other.model, other.dataset, other.task] == facts
        if alike and other.settings.get(key) == value and other.settings.with_effect(free=free) == same:
            yield other


def _opponent_of(
    draw: Result, runs: Sequence[Result], opponent: Result | None, free: frozenset[str], metric: str
) -> Result | None:
    """Return the opponent's run on the examples of a draw, or the strongest floor; None if it is not there."""
    comparable = [other for other in _same_examples(draw, runs) if other.variant != draw.variant]
    if opponent is None:
        return _strongest_floor(comparable, metric)
    same = opponent.settings.with_effect(free=free)
    comparable = [other for other in comparable if other.model == opponent.model]
    return next((other for other in comparable if other.settings.with_effect(free=free) == same), None)


def _remarks(
    run: Result,
    a: Mapping[int, Result],
    b: Mapping[int, Result],
    runs: Sequence[Result],
    parts: Sequence[Part],
) -> Iterator[str]:
    """Yield remarks on the tuning of both sides, and on the order of data without times."""
    for part in parts:
        if part.name == WITHOUT_TIMES and part.share is not None:
            yield (
                f"without times, neither shuffled ties nor a temporal split can be tried; {part.share:.0%} of the gain "
                f"is on targets with a higher raw id than the last item, which {part.n / parts[0].n:.0%} of all are"
            )
    comparable = _same_examples(run, runs)
    for side in (b, a):
        one = _any(side)
        model, name = config_class(one.model), shown_as(one)
        if settings_with(model, "input_file"):
            yield f"{name}: its file says nothing of how it was tuned, or on which part"
        elif model.traits.trainable:
            variants = {other.variant for other in comparable if other.model == one.model}
            if training := one.training:
                epochs = ", ".join(
                    f"{of_seed['best_epoch']:g} of {of_seed['epochs']:g}"
                    for of_seed in (run.training for run in side.values())
                    if of_seed
                )
                yield f"{name}: weights of the best epoch on validation ({epochs}), {training['rows']:,} training rows"
            if _unconverged(side):
                yield f"{name}: the best epoch is the last, so that more epochs may be better: trainer.epochs"
            if len(variants) > 1:
                yield (
                    f"{name}: {len(variants)} variants of {one.model} were evaluated on these examples; to "
                    "choose among them by these results is tuning on test"
                )
        else:
            yield f"{name}: nothing is trained; settings that it chooses are chosen on validation"


# --- output


def frames(result: Audit) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Return the gain's parts, the conditions and the verdict; `llm4rec_studies.api.inspect` describes the columns."""
    import pandas as pd

    parts = [[part.name, part.n, part.a, part.b, part.gain, *part.interval, part.share] for part in result.parts]
    conditions = [[check.condition, check.passed, check.reason, list(check.commands)] for check in result.checks]
    return (
        pd.DataFrame(parts, columns=["slice", "n", "a", "b", "gain", "low", "high", "share"]),
        pd.DataFrame(conditions, columns=["condition", "holds", "reason", "commands"]),
        result.verdict,
    )


def tables(result: Audit) -> list[Content]:
    """Return two tables: the parts of the gain, and the conditions."""
    b, a = (shown_as(_any(runs)) for runs in (result.b, result.a))
    of_gain = Content(
        f"{title(_any(result.b))}: {result.metric} of {b} over {a}",
        ("slice", "targets", "A", "B", "gain", "95 % interval", "share"),
        [
            [
                part.name,
                f"{part.n:,}",
                f"{part.a:.4f}",
                f"{part.b:.4f}",
                f"{part.gain:+.4f}",
                _interval(part.interval),
                "–" if part.share is None else f"{100 * part.share:.1f} %",
            ]
            for part in result.parts
        ],
        [
            f"A: {a}, B: {b}; gain: contribution to the mean of B − A over all targets; interval over users and seeds",
            f"{ELSEWHERE}: in none of {', '.join(ACCIDENTAL)}",
        ],
    )
    held = {True: "yes", False: "no", None: "not known"}
    conditions = [[check.condition, held[check.passed], check.reason] for check in result.checks]
    return [of_gain, Content('conditions of the word "beats"', ("condition", "holds", "numbers"), conditions)]
