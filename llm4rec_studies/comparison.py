"""Paired comparison of runs on the same examples: differences, intervals and tests, over seeds and draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llm4rec_cli.errors import UsageError, raise_first
from llm4rec_cli.evaluation.paired import Difference, Margin, as_one_family, paired_differences
from llm4rec_cli.labels import NOT_ABOVE_POPULARITY
from llm4rec_cli.results.describe import (
    MIN_USERS,
    SYNTHETIC_NOTE,
    count_in_words,
    shared,
    shown_as,
    title,
    tuning_budget,
    tuning_in_words,
)
from llm4rec_cli.results.draws import over_draws
from llm4rec_cli.results.pairing import PROTOCOL_KEYS, pair_runs, problems_of_protocols, shared_metrics
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.results import Results, depends_on_seed
from llm4rec_cli.results.tables import Content

if TYPE_CHECKING:
    import pandas as pd

RATIO = "B / A"
SPARE = ("equal", "worse", "better", "p")  # columns that a terminal may leave out
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Pair:
    """The comparison of A with another run B."""

    n: int  # number of examples
    n_users: int
    metrics: dict[str, Difference]  # metric -> both means and their difference
    by_seed: dict[int, dict[str, float]]  # seed of both -> metric -> B − A; a single run of a side is paired with all


@dataclass(frozen=True)
class Comparison:
    """Everything that is printed."""

    runs: Sequence[Result]  # A, B, …
    sides: Sequence[Mapping[int, Result]]  # the runs of each that are compared, by seed
    targets: str | None  # examples with `cold` or `warm` targets; None = all
    margin: Margin | None  # equivalence is tested against it; None = not tested
    pairs: Sequence[Pair]  # A with each of the others
    ratio: bool = False  # whether tables have B / A in place of B − A

    @property
    def has_seeds(self) -> bool:
        """Whether some pair has several seeds in common."""
        return any(len(pair.by_seed) > 1 for pair in self.pairs)

    @property
    def labels(self) -> list[list[str]]:
        """Of each side the labels of any of its runs."""
        return [list(dict.fromkeys(label for run in side.values() for label in run.labels)) for side in self.sides]


def compare(
    runs: Sequence[Result],
    outputs: Path,
    metrics: Sequence[str] | None,
    seeds: bool,
    draws: bool,
    targets: str | None,
    margin: Margin | None,
    ratio: bool,
) -> Comparison:
    """Compare the first run with each of the others on the same examples, user by user.

    Args:
        outputs: where their other seeds and draws are.
        metrics: None = those that all have.
        seeds, draws: whether to compare over all seeds of their variants, and over all draws of candidates.

    Raises:
        UsageError: they cannot be compared.
    """
    if len(runs) > len(LETTERS):
        raise UsageError(f"{len(runs)} runs cannot be compared at once", f"compare at most {len(LETTERS)}")
    finished: Sequence[Result] = Results.under(outputs, any_model=True)
    if draws:
        finished = over_draws([*runs, *finished])
        runs = _averaged(runs, finished, outputs)
    for other in runs[1:]:
        raise_first(problems_of_protocols([runs[0], other]))
    metrics = shared_metrics(runs, metrics)
    sides = _seeds(runs, finished, outputs) if seeds else [{run.seed: run} for run in runs]
    pairs = [_pair(sides[0], side, metrics, targets, margin) for side in sides[1:]]
    family = as_one_family([pair.metrics for pair in pairs])
    corrected = [replace(pair, metrics=of_pair) for pair, of_pair in zip(pairs, family, strict=True)]
    return Comparison(runs, sides, targets, margin, corrected, ratio)


def _pair(
    side_a: Mapping[int, Result],
    side_b: Mapping[int, Result],
    metrics: Sequence[str],
    targets: str | None,
    margin: Margin | None,
) -> Pair:
    values = pair_runs([*side_a.values()], [*side_b.values()], metrics, targets)
    differences = paired_differences(values.a, values.b, values.user, margin)
    of_a, of_b = dict(zip(side_a, values.a, strict=True)), dict(zip(side_b, values.b, strict=True))
    seeds = of_b if len(of_a) == 1 < len(of_b) else of_a if len(of_b) == 1 else [seed for seed in of_a if seed in of_b]
    by_seed = {}
    for seed in seeds:
        a, b = (of_side.get(seed, next(iter(of_side.values()))) for of_side in (of_a, of_b))
        by_seed[seed] = {name: float((b[name] - a[name]).mean()) for name in metrics}
    return Pair(len(values.user), len(set(values.user)), differences, by_seed)


def _averaged(runs: Sequence[Result], finished: Sequence[Result], outputs: Path) -> list[Result]:
    """Return for each run its average over draws of candidates, from `over_draws` of these runs and all under
    `outputs`. Raises UsageError if there is only one draw, or two of these runs are draws of one."""
    averaged: dict[Path, Result] = {}
    for run in runs:
        average = next((other for other in finished if run.folder in [drawn.folder for drawn in other.of_draws]), run)
        if not average.draws:
            raise UsageError(
                f"{run.folder} has no other draws of candidates under {outputs}, with the same settings, weights and "
                "results_version",
                "train -m task=direct task.draw=0,1,2; of a trained model eval -m run=RUN task=direct task.draw=0,1,2",
            )
        if average.folder in averaged:
            raise UsageError(f"{run.folder} is a draw of a run that is already named", "name one draw of each run")
        averaged[average.folder] = average
    return list(averaged.values())


def _seeds(runs: Sequence[Result], finished: Iterable[Result], outputs: Path) -> list[dict[int, Result]]:
    """Return for each run the runs of its variant by seed, the newest of each; of one that depends on no seed, itself.
    A scored file may be the only one of its name.

    Raises:
        UsageError: another run has only one seed, or they are not paired with the first run.
    """
    variants = Results([*finished, *runs]).by_variant()
    sides = []
    for run in runs:
        of_variant = variants[run.variant] if depends_on_seed(run) else {run.seed: run}
        sides.append(dict(sorted(of_variant.items())))
    trained = [side for run, side in zip(runs, sides, strict=True) if depends_on_seed(run) and not _is_scored(run)]
    if any(len(side) < 2 for side in trained):
        seeds_of_each = "; ".join(
            f"{letter} has {'seeds' if len(side) > 1 else 'only seed'} {', '.join(map(str, side))}"
            for letter, side in zip(LETTERS, sides, strict=False)
        )
        raise UsageError(
            f"--seeds needs at least two seeds of each run under {outputs}: {seeds_of_each}",
            _how_to_train_seeds(runs),
        )
    for side in sides:
        for other in side.values():
            raise_first(problems_of_protocols([runs[0], other]))
    return sides


def _is_scored(run: Result) -> bool:
    """Return whether a run is a file of another system, of which there may be no other training."""
    return "external" in run.labels


def _how_to_train_seeds(runs: Sequence[Result]) -> str:
    """Return the options by which these runs get other seeds, and those the draws of an average."""
    draws = runs[0].draws
    if not draws:
        return "train each with -m seed=0,1,2"
    drawn = f"-m seed=0,1,2 task.draw={','.join(map(str, draws))}"
    return f"train each with -m seed=0,1,2, and then: eval {drawn}; a model without training: train {drawn}"


# --- tables


def _row(comparison: Comparison, letter: str, pair: Pair, name: str) -> dict[str, str]:
    """Return heading -> cell of one metric of a pair. The headings are the same for all."""
    d = pair.metrics[name]
    enough_users = pair.n_users >= MIN_USERS
    difference = {"B − A": f"{d.difference:+.4f}", "95 % interval": _signed(d.interval)}
    if comparison.ratio:
        difference = {RATIO: "-", "95 % interval": "-"}
        if d.ratio is not None and d.ratio_interval is not None:
            low, high = d.ratio_interval
            difference = {RATIO: f"{d.ratio:.3f}", "95 % interval": f"{low:.3f} to {high:.3f}"}
    if not enough_users:
        difference["95 % interval"] = "-"
    row = {"run": letter} if len(comparison.pairs) > 1 else {}
    row |= {"metric": name, "A": f"{d.a:.4f}", "B": f"{d.b:.4f}", **difference}
    row |= {"p": _p(d.p), "p (Holm)": _p(d.p_holm)} if enough_users else {"p": "-", "p (Holm)": "-"}
    row |= {"better": f"{d.better:,}", "equal": f"{d.equal:,}", "worse": f"{d.worse:,}"}
    if d.equivalent is not None:
        row[f"within ±{comparison.margin}"] = f"{'yes' if d.equivalent else 'no'}: {_signed(d.margin_interval_90)}"
    if comparison.has_seeds:
        row["by seed"] = " ".join(f"{of_seed[name]:+.4f}" for of_seed in pair.by_seed.values())
    return row


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.00005 else "<0.0001"


def _signed(interval: tuple[float, float]) -> str:
    return f"{interval[0]:+.4f} to {interval[1]:+.4f}"


def _notes(comparison: Comparison) -> list[str]:
    runs, labels_of = comparison.runs, comparison.labels
    in_all_runs = shared(labels_of)
    own_labels = [[label for label in labels if label not in in_all_runs] for labels in labels_of]
    notes = [
        f"{side}: {shown_as(run)}, {run.folder}" + (f" ({', '.join(labels)})" if labels else "")
        for side, run, labels in zip(LETTERS, runs, own_labels, strict=False)
    ]
    if labels := [label for label in in_all_runs if label != "synthetic"]:
        notes.append(f"all runs: {', '.join(labels)}")
    targets = f" with {comparison.targets} targets" if comparison.targets else ""
    family = "metrics of this table" if len(runs) == 2 else "runs and metrics of this table"
    size = f"{count_in_words(runs[0], comparison.pairs[0].n)}{targets}"
    notes.append(f"{size}; two-sided p of t; Holm over the {family}")
    if any(pair.n_users < MIN_USERS for pair in comparison.pairs):
        notes.append(f"fewer than {MIN_USERS} users: no interval and no test")
    if comparison.margin is not None:
        unit = " of A's mean" if comparison.margin.relative else ""
        notes.append(
            f"within ±{comparison.margin}{unit}: whether the 90 % interval lies within the margin (two one-sided tests "
            "at 5 %); valid only if the margin was fixed in advance"
        )
    letters_of: dict[str, list[str]] = {}  # of the sides with these seeds
    for letter, side in zip(LETTERS, comparison.sides, strict=False):
        if len(side) > 1:
            letters_of.setdefault(", ".join(map(str, side)), []).append(letter)
    if letters_of:
        seeds = [
            text + (f" ({', '.join(letters)})" if len(letters_of) > 1 else "") for text, letters in letters_of.items()
        ]
        notes.append(
            f"means over seeds {' and '.join(seeds)}; interval and p cover users, who are paired, and seeds, which are "
            "not"
        )
    elif any(map(depends_on_seed, runs)):
        notes.append("one seed each: two sets of predictions, not two methods, and no claim rests on them")
    else:
        notes.append("none of them depends on a seed; interval and p cover users")
    files = [
        side for side, run, of in zip(LETTERS, runs, comparison.sides, strict=False) if _is_scored(run) and len(of) == 1
    ]
    if letters_of and files:
        notes.append(
            f"{' and '.join(files)}: one file, compared with every seed of the others; interval and p do not cover "
            "other trainings of it, which llm4rec score FILE --name NAME seed=1 adds"
        )
    if failed := [side for side, labels in zip(LETTERS, labels_of, strict=False) if NOT_ABOVE_POPULARITY in labels]:
        notes.append(
            f"{' and '.join(failed)}: training probably failed ({NOT_ABOVE_POPULARITY}), so a difference says nothing "
            "of the method; llm4rec tune searches its settings"
        )
    if draws := runs[0].draws:
        notes.append(f"metrics are averaged over draws {', '.join(map(str, draws))} of the candidates, per user")
    if len(set(map(tuning_budget, runs))) > 1:
        tuning = map(tuning_in_words, runs)
        budgets = ", ".join(f"{side} {words}" for side, words in zip(LETTERS, tuning, strict=False))
        notes.append(f"tuning budgets differ ({budgets}): a difference may be one of tuning, not of methods")
    if any("synthetic" in labels for labels in labels_of):
        notes.append(SYNTHETIC_NOTE)
    return notes


def table(comparison: Comparison) -> Content:
    """Return a row per pair and metric, and notes on the runs, the users, the test, and caveats."""
    pairs = zip(LETTERS[1:], comparison.pairs, strict=False)
    rows = [_row(comparison, letter, pair, name) for letter, pair in pairs for name in pair.metrics]
    cells = [list(row.values()) for row in rows]
    return Content(title(comparison.runs[0]), list(rows[0]), cells, _notes(comparison), spare=SPARE)


def frame(comparison: Comparison) -> pd.DataFrame:
    """Return one row per pair and metric. The columns are described in `llm4rec_studies.api.compare`."""
    import pandas as pd

    rows = [
        {
            "run_a": str(comparison.runs[0].folder),
            "run_b": str(run.folder),
            "metric": name,
            "a": d.a,
            "b": d.b,
            "difference": d.difference,
            "low": d.interval[0],
            "high": d.interval[1],
            "ratio": d.ratio,
            "ratio low": d.ratio_interval and d.ratio_interval[0],
            "ratio high": d.ratio_interval and d.ratio_interval[1],
            "p": d.p,
            "p_holm": d.p_holm,
            "better": d.better,
            "equal": d.equal,
            "worse": d.worse,
            "n": pair.n,
        }
        | ({} if d.equivalent is None else {"equivalent": d.equivalent})
        for run, pair in zip(comparison.runs[1:], comparison.pairs, strict=True)
        for name, d in pair.metrics.items()
    ]
    return pd.DataFrame(rows)


def as_json(comparison: Comparison) -> Mapping[str, object]:
    """Return the comparison of A with B, and those with the other runs under `others`."""
    sides = zip(comparison.runs, comparison.sides, comparison.labels, strict=True)
    first, second, *more = (_run_as_json(*side) for side in sides)
    pair, *further = comparison.pairs
    run = comparison.runs[0]
    margin = comparison.margin
    return {
        "a": first,
        "b": second,
        **{key: getattr(run, key) for key in ("dataset", "dataset_fingerprint", "task", *PROTOCOL_KEYS)},
        "n_examples": pair.n,
        "targets": comparison.targets,
        "margin": None if margin is None else asdict(margin),
        "synthetic": "synthetic" in run.labels,
        **_pair_as_json(pair),
        "others": [{"b": one, **_pair_as_json(other)} for one, other in zip(more, further, strict=True)],
    }


def _run_as_json(run: Result, side: Mapping[int, Result], labels: Sequence[str]) -> Mapping[str, object]:
    facts = {"run": str(run.folder), "model": shown_as(run), "seed": run.seed}
    draws = {draw: str(drawn.folder) for draw, drawn in run.draws.items()}
    return {**facts, **({"draws": draws} if draws else {}), "seeds": list(side), "labels": labels}


def _pair_as_json(pair: Pair) -> Mapping[str, object]:
    return {"metrics": {name: asdict(d) for name, d in pair.metrics.items()}, "by_seed": pair.by_seed}
