"""Pair the runs of two variants: check that data and protocol agree, and return their values for each example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llm4rec_cli.config import questions
from llm4rec_cli.config.roles import NOT_HASHED
from llm4rec_cli.config.schema import DatasetConfig
from llm4rec_cli.config.walk import declarations
from llm4rec_cli.data.slices import SLICE
from llm4rec_cli.errors import UsageError, did_you_mean, raise_first
from llm4rec_cli.evaluation import metrics
from llm4rec_cli.results.describe import MIN_USERS
from llm4rec_cli.results.records import WITHOUT_RANKS, Recorded
from llm4rec_cli.results.result import Result

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from llm4rec_cli.evaluation.paired import Values

# Keys of metrics.json that must agree between two runs, besides the data.
PROTOCOL_KEYS = ("split", "split_rule", "protocol", "mask_history")
EXAMPLE, IMPRESSION = ("user_id", "target"), ("impression_id",)  # columns that identify an example
# Columns of predictions.parquet by kind of answer: rankings, ratings, texts about a feature, other texts (of earlier
# runs without the last two), and impressions, which store their metrics.
ANSWER_COLUMNS = (
    ("n_better", "n_tied", "n_candidates"),
    ("rating", "prediction"),
    ("reference", "prediction", "feature", "fits_user", "fits_item"),
    ("reference", "prediction", "fits_user", "fits_item"),
    ("reference", "prediction", "feature"),
    ("reference", "prediction"),
    ("items", "clicked", *metrics.table_metrics("impression")),
)
# Columns that belong to the example, not to the answer, so that they must be equal in both runs; tasks of installed
# packages have their own.
EXAMPLE_FACTS = {"rating": "ratings", "reference": "reference texts", "n_candidates": "numbers of candidates"}
EXAMPLE_FACTS |= {"items": "items shown", "clicked": "clicks"}


@dataclass(frozen=True)
class PairedValues:
    """The values of two variants on the same n examples.

    Attributes:
        user: (n,) user of each example.
        a, b: of each run metric -> (n,) values; position i is the same example in all.
        slices: slice -> (n,) whether the target is in it, as the predictions of B's first run say.
    """

    user: NDArray[Any]
    a: Sequence[Values]
    b: Sequence[Values]
    slices: dict[str, NDArray[np.bool_]] = field(default_factory=dict)


def problems_of_users(paired: PairedValues) -> Iterator[UsageError]:
    """Yield a problem if there are too few users for an interval."""
    if (n_users := len(set(paired.user))) < MIN_USERS:
        yield UsageError(
            f"an interval over users needs at least {MIN_USERS} users, but these examples have {n_users}",
            "evaluate more of them: task.max_examples, or a longer log",
        )


def problems_of_protocols(runs: Sequence[Result]) -> Iterator[UsageError]:
    """Yield a problem that names every difference if two runs differ in data or protocol."""
    a, b = runs
    differences = [
        _difference(key, getattr(a, key), getattr(b, key))
        for key in PROTOCOL_KEYS
        if getattr(a, key) != getattr(b, key)
    ]
    if a.dataset_fingerprint != b.dataset_fingerprint:
        data_a, data_b = (f"{run.dataset} {run.dataset_fingerprint[:12]}" for run in runs)
        differences = [f"the data is {data_a} in A and {data_b} in B", *_data_differences(runs), *differences]
    if differences:
        yield UsageError(
            f"these runs are not paired: {'; '.join(differences)}",
            "compare runs with the same data, split and protocol",
        )


def _data_differences(runs: Sequence[Result]) -> list[str]:
    """Return the dataset settings that differ between two runs on data of one name: a seed, a core, a split."""
    a, b = (run.settings.get("dataset", {}) for run in runs)
    if a.get("name") != b.get("name"):
        return []
    ignored = {"name", *(setting.field.name for setting in declarations(DatasetConfig) if setting.role in NOT_HASHED)}
    keys = [key for key in {**a, **b} if key not in ignored and a.get(key) != b.get(key)]
    return [f"dataset.{_difference(key, a.get(key), b.get(key))}" for key in keys]


def _difference(key: str, a: object, b: object) -> str:
    return f"{key} is {a} in A and {b} in B"


def shared_metrics(runs: Sequence[Result], typed: Sequence[str] | None = None) -> list[str]:
    """Return the metrics to compare: those typed, otherwise the default ones with values per example in all runs.
    Raises UsageError if some run lacks a typed metric."""
    # A metric with an interval is a mean over users; with a slash, over a part of them.
    shared = [name for name in runs[0].intervals if all(name in run.intervals for run in runs)]
    shared = [name for name in shared if "/" not in name and not metrics.paired_metric(name)]
    if typed is None:
        default = ("mse", *metrics.table_metrics(runs[0].protocol))
        return [name for name in default if name in shared and not metrics.may_be_missing(name)]
    for name in typed:
        if replacement := metrics.paired_metric(name):
            raise UsageError(
                f"{name} is computed over all answers together and has no values per example to pair",
                f"--metric {replacement}",
            )
        if name not in shared:
            not_all = {1: "this run does not", 2: "the two runs do not both"}.get(len(runs), "these runs do not all")
            in_all = all(name in run.metrics for run in runs)
            problem = f"{name} has no value per example to pair" if in_all else f"{not_all} have the metric '{name}'"
            raise UsageError(problem, did_you_mean(name, shared))
    return list(dict.fromkeys(typed))


def pair_runs(
    a: Sequence[Result], b: Sequence[Result], metrics: Sequence[str], targets: str | None = None
) -> PairedValues:
    """Return the values of the runs of two variants, such as their seeds, ordered by user and target, or by impression.

    Seeds are not paired: A and B may have other ones, and other numbers of them.

    Args:
        targets: `cold` for examples with a target held out of training, `warm` for the others; None for all.

    Raises:
        UsageError: the runs have no predictions or not on the same examples, no items were held out, no target is of
            that kind, or an example has no value.
    """
    first, *with_b = (_pair((a[0], run), metrics, targets) for run in b)
    with_a = (_pair((run, b[0]), metrics, targets) for run in a[1:])
    return PairedValues(
        first.user,
        [first.a[0], *(pair.a[0] for pair in with_a)],
        [first.b[0], *(pair.b[0] for pair in with_b)],
        first.slices,
    )


def _pair(runs: Sequence[Result], metrics: Sequence[str], targets: str | None) -> PairedValues:
    """Return `pair_runs`'s values of one run each; over draws of candidates, the means of both over the same draws."""
    import numpy as np

    protocol = runs[0].protocol
    of_draws = zip(*(run.of_draws for run in runs), strict=True)
    by_draw = [_pair_of_draw(pair, protocol, metrics, targets) for pair in of_draws]
    a, b = (
        {name: np.mean([values[name] for values in of_side], axis=0) for name in metrics}
        for of_side in ([pair.a[0] for pair in by_draw], [pair.b[0] for pair in by_draw])
    )
    return PairedValues(by_draw[0].user, [a], [b], by_draw[0].slices)


def _pair_of_draw(runs: Sequence[Result], protocol: str, metrics: Sequence[str], targets: str | None) -> PairedValues:
    columns = _answer_columns(runs)
    example = IMPRESSION if {"items", "n_shown"} & {*columns} else EXAMPLE
    a, b = (run.answers() for run in runs)
    if any("turn" in answers for answers in (a, b)):
        raise UsageError(
            "one of these runs evaluates every example with several candidate orders, so its rows are not independent",
            "compare runs with prompt.shuffles=1",
        )
    if targets is not None:
        if any("target_is_cold" not in answers for answers in (a, b)):
            raise UsageError(
                "no items were held out of training in one of these runs",
                "compare runs with the same dataset.cold_items",
            )
        a, b = (answers[answers["target_is_cold"] == (targets == "cold")] for answers in (a, b))
        if a.empty or b.empty:
            raise UsageError(f"no target of these runs is {targets}", "evaluate more examples: task.max_examples")
    key, own = [*example, "time"], [name for name in ("user_id", *columns) if name not in example]
    slices = [str(name) for name in b if str(name).startswith(SLICE)]
    a, b = (
        answers.assign(time=answers.groupby([*example]).cumcount())[[*key, *values]]  # a user may have a target twice
        for answers, values in ((a, own), (b, [*own, *slices]))
    )
    both = a.merge(b, on=key, how="outer", suffixes=("_a", "_b"), indicator="source")
    raise_first(_problems_of_examples(a, b, both, example))
    raise_first(_problems_of_facts(both, columns, protocol))
    user = both["user_id" if "user_id" in key else "user_id_a"].to_numpy(dtype=object)
    values_a, values_b = (
        _values(both[[f"{name}_{side}" for name in columns]].set_axis(list(columns), axis=1), metrics) for side in "ab"
    )
    return PairedValues(
        user, [values_a], [values_b], {name.removeprefix(SLICE): both[name].to_numpy(dtype=bool) for name in slices}
    )


def _answer_columns(runs: Sequence[Result]) -> tuple[str, ...]:
    """Return the columns with the answers of both runs. Raises UsageError if there are none."""
    if task := questions.offered_modules().get(runs[0].protocol):
        of_task = (*task.FACTS, *metrics.table_metrics(runs[0].protocol))
        return tuple(name for name in of_task if all(name in run.columns for run in runs))
    for columns in ANSWER_COLUMNS:
        if all(run.columns.issuperset(columns) for run in runs):
            return columns
    if unranked := [run for run in runs if isinstance(run, Recorded) and not run.columns]:
        raise UsageError(
            f"the run {unranked[0].folder} is {WITHOUT_RANKS}", "run it again, or compare runs that have them"
        )
    without = (run for run in runs if not any(run.columns.issuperset(columns) for columns in ANSWER_COLUMNS))
    raise UsageError(
        f"{next(without, runs[1]).folder} has no predictions to pair",
        "compare two runs that rank, two that predict ratings or two that write text",
    )


def _problems_of_examples(
    a: pd.DataFrame, b: pd.DataFrame, both: pd.DataFrame, example: Sequence[str]
) -> Iterator[UsageError]:
    """Yield a problem that says how a and b differ if they have other examples; `both` is their outer join, with the
    origin of each row in column `source`."""
    unpaired = both[both["source"] != "both"]
    if unpaired.empty:
        return
    only_a, only_b = ((unpaired["source"] == side).sum() for side in ("left_only", "right_only"))
    unit = "impressions" if tuple(example) == IMPRESSION else "examples"
    first = ", ".join(f"{name.removesuffix('_id')} {unpaired.iloc[0][name]}" for name in example)
    users_a, users_b = set(a["user_id"]), set(b["user_id"])
    details = [f"{len(users_a - users_b):,} users in A only", f"{len(users_b - users_a):,} in B only"]
    if tuple(example) == EXAMPLE:
        details.append(f"{len(set(unpaired['user_id']) & users_a & users_b):,} in both with different targets")
    yield UsageError(
        f"these runs are not paired: of {len(a):,} {unit} in A and {len(b):,} in B, {only_a:,} are in A only and "
        f"{only_b:,} in B only ({first}): {', '.join(details)}",
        "run both with the same task.max_examples and dataset.seed",
    )


def _problems_of_facts(both: pd.DataFrame, columns: Sequence[str], protocol: str) -> Iterator[UsageError]:
    """Yield a problem for each fact, such as a rating, that differs between the runs for an example.

    In full ranking the number of candidates may differ: a control that swaps histories changes the masked items.
    """
    task = questions.offered_modules().get(protocol)
    facts = {**EXAMPLE_FACTS, **task.FACTS} if task else EXAMPLE_FACTS
    for name in columns:
        if name not in facts or (name == "n_candidates" and protocol == "full"):
            continue
        facts_a, facts_b = (both[f"{name}_{side}"].map(_comparable) for side in "ab")
        differ = facts_a != facts_b
        if differ.any():
            i = int(differ.to_numpy().argmax())
            yield UsageError(
                f"these runs are not paired: {differ.sum():,} of {len(both):,} examples have different "
                f"{facts[name]} ({facts_a.iloc[i]} in A, {facts_b.iloc[i]} in B)",
                "compare runs with the same dataset.seed on data prepared from the same files",
            )


def _comparable(value: Any) -> Any:
    """Return arrays, as which Parquet returns lists, as tuples: `!=` compares arrays element by element."""
    return tuple(value) if hasattr(value, "shape") and value.shape else value


def _values(answers: pd.DataFrame, metrics: Sequence[str]) -> Values:
    """Return (n,) values of each metric. Raises UsageError if an example has no value."""
    from llm4rec_cli.results.answers import values_per_example

    values = values_per_example({str(name): column.to_numpy() for name, column in answers.items()}, metrics)
    for name in metrics:
        if (values[name] != values[name]).any():  # NaN
            complete = ",".join(metric for metric in metrics if metric != name)
            raise UsageError(f"some examples have no {name}", f"--metric {complete or 'rouge1'}")
    return {name: values[name] for name in metrics}
