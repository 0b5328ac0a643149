"""`llm4rec compare RUN RUN`: two runs on the same examples, user by user.

llm4rec compare outputs/sasrec/demo/sequential/seed0-ab12cd34ef outputs/unisrec/demo/sequential/seed0-12ab34cd56
llm4rec compare sasrec/demo/sequential/seed0-ab unisrec/demo/sequential/seed0-12     ends, cut where they are clear
llm4rec compare sasrec/… unisrec/… --metric ndcg@10,hr@50 --markdown
llm4rec compare sasrec/… unisrec/… --json | jq .metrics
llm4rec compare sasrec/… unisrec/… --seeds                   the same with every seed that both were trained with
llm4rec compare sasrec/… unisrec/… --seeds --targets cold    of runs under dataset.cold_items: only what was held out

A run is its folder, or whatever end of its path names one run under --outputs. Both must have been asked the same:
data, split, protocol, and each (user, target). For each metric: both means, B − A, its 95 % bootstrap interval over
users, for how many users B is better, equal or worse (of an error the lower is better), and p of a paired permutation
test. Ratings are compared by their errors, squared (mse) and absolute (mae), texts by ROUGE: RMSE and BLEU are no
means over examples.

p is the probability of a mean difference at least as large if, for each user, a coin decided which of the two values is
A's and which is B's. Holm's correction allows for the number of metrics in the table; name the one that you decide by
before you look.

It says how these two sets of answers differ over users, and nothing of other seeds: a method trained anew gives other
answers, and may well fall on the other side. No claim rests on one seed: with --seeds each user's values are means over
seeds, and a last column has the difference of each seed: see whether they agree.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.errors import RunError, UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from llm4rec_cli.evaluation.paired import Difference

# What two runs must have been asked alike, besides the same data; in the words of metrics.json.
ASKED = ("split", "split_rule", "protocol", "mask_history")
# What predictions.parquet says of answers: rankings, ratings, texts about a feature, texts.
ANSWERS = (
    ("n_better", "n_tied", "n_candidates"),
    ("rating", "prediction"),
    ("reference", "prediction", "feature"),
    ("reference", "prediction"),
)
# Metrics of all answers together, which no single one has a value of; and which of those that have one comes nearest.
OF_ALL_TOGETHER = {"rmse": "mse", "bleu2": "rouge1", "bleu4": "rouge1"}
OF_SOME = ("feature_match",)  # metrics that some examples may lack: compared where they are asked for
COLUMNS = ("metric", "A", "B", "B − A", "95 % interval", "p", "p (Holm)", "better", "equal", "worse")

Run = tuple[Path, dict[str, Any]]  # its folder and metrics.json


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "llm4rec compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", metavar="RUN", help="A: a run folder, or an end of its path")
    parser.add_argument("b", metavar="RUN", help="B, likewise")
    parser.add_argument(
        "--seeds", action="store_true", help="all seeds of these two variants, not these two runs alone"
    )
    parser.add_argument(
        "--targets", choices=("cold", "warm"), help="only examples whose target was held out, or was not"
    )
    parser.add_argument("--metric", help="comma-separated names (default: hr@1, hr@5, hr@10, ndcg@10, …)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object")
    form.add_argument("--markdown", action="store_true", help="a Markdown table")
    parser.add_argument("--outputs", default="outputs", help="where runs were written (default: outputs)")
    options = parser.parse_args(argv)

    import numpy as np

    from llm4rec_cli.data.streams import stream
    from llm4rec_cli.evaluation.paired import paired_differences

    outputs = Path(options.outputs).expanduser()
    runs = runs_named([options.a, options.b], outputs)
    _refuse_other_questions(runs)
    metrics = _metrics(runs, options.metric)
    by_seed = {
        seed: [_values(answers, metrics) for answers in _paired(pair, options.targets)]
        for seed, pair in (_seeds(runs, outputs) if options.seeds else {runs[0][1]["seed"]: runs}).items()
    }
    a, b = ({name: np.mean([pair[i][name] for pair in by_seed.values()], axis=0) for name in metrics} for i in (0, 1))
    compared = paired_differences(
        a, b, bootstrap=stream(0, "compare: bootstrap"), permutation=stream(0, "compare: permutation")
    )
    comparison = Comparison(
        runs,
        len(a[metrics[0]]),
        options.targets,
        compared,
        {
            seed: {name: float((pair[1][name] - pair[0][name]).mean()) for name in metrics}
            for seed, pair in by_seed.items()
        },
    )
    if options.json:
        print(json.dumps(_as_json(comparison), indent=2))
    elif options.markdown:
        _print_markdown(comparison)
    else:
        _print_table(comparison)
    return 0


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is told.

    Attributes:
        runs: A and B, as named.
        n: how many examples.
        targets: which of them: `cold`, `warm`, or None for all.
        metrics: metric -> both means, and how they differ; of each user's mean over seeds.
        by_seed: seed -> metric -> B − A.
    """

    runs: Sequence[Run]
    n: int
    targets: str | None
    metrics: dict[str, Difference]
    by_seed: dict[int, dict[str, float]]


# --- which runs, and whether they can be compared


def runs_named(named: Sequence[str], outputs: Path) -> list[Run]:
    """The run that each name means.

    Raises:
        RunError: no finished run is called so.
        UsageError: several are.
    """
    from llm4rec_cli.runs.folder import finished, metrics_of

    runs = {folder: metrics for folder, _, metrics in finished(outputs)}
    found = []
    for name in named:
        folder = Path(name).expanduser()
        if folder.is_dir():
            metrics = metrics_of(folder)
            if metrics is None:
                raise RunError(f"{folder} is no finished run", "llm4rec list runs")
            found.append((folder, metrics))
            continue
        meant = [run for run in runs if _ends_on(run, folder)]
        if not meant:
            known = ["/".join(run.parts[-len(folder.parts) :]) for run in runs]
            raise RunError(f"no finished run under {outputs} is called '{name}'", did_you_mean(name, known))
        if len(meant) > 1:
            several = ", ".join(str(run.relative_to(outputs)) for run in sorted(meant))
            raise UsageError(f"'{name}' may be any of {len(meant)} runs", several)
        found.append((meant[0], runs[meant[0]]))
    return found


def _seeds(runs: Sequence[Run], outputs: Path) -> dict[int, list[Run]]:
    """A and B of every seed that both variants were trained with; of several runs of a seed the newest.

    Raises:
        UsageError: there are fewer than two such seeds.
    """
    from llm4rec_cli.runs.folder import finished

    found: list[dict[int, Run]] = [{}, {}]
    for folder, _, metrics in finished(outputs):
        for own, (_, named) in zip(found, runs, strict=True):
            if metrics["variant"] == named["variant"]:
                own.setdefault(metrics["seed"], (folder, metrics))
    seeds = sorted(found[0].keys() & found[1].keys())
    if len(seeds) < 2:
        known = "; ".join(
            f"{side} has {', '.join(map(str, sorted(own))) or 'none'}" for side, own in zip("AB", found, strict=True)
        )
        raise UsageError(f"under {outputs} there are not two seeds of both: {known}", "train with -m seed=0,1,2")
    pairs = {seed: [own[seed] for own in found] for seed in seeds}
    for pair in pairs.values():
        _refuse_other_questions(pair)
    return pairs


def _ends_on(run: Path, end: Path) -> bool:
    """Whether a run's path ends on these parts, the last of which may be cut."""
    *parents, last = end.parts
    return run.name.startswith(last) and list(run.parent.parts[len(run.parent.parts) - len(parents) :]) == parents


def _refuse_other_questions(runs: Sequence[Run]) -> None:
    """Raises UsageError, naming all that differs, if the two were not asked the same."""
    (_, a), (_, b) = runs  # of before 0.2, a run does not say its split_rule
    differ = [f"{key} is {a.get(key)} in A and {b.get(key)} in B" for key in ASKED if a.get(key) != b.get(key)]
    if a["dataset_fingerprint"] != b["dataset_fingerprint"]:
        data_a, data_b = (f"{m['dataset']} {m['dataset_fingerprint'][:12]}" for m in (a, b))
        differ.insert(0, f"the data is {data_a} in A and {data_b} in B")
    if differ:
        raise UsageError(f"these runs are not paired: {'; '.join(differ)}", "compare runs that were asked the same")


def _metrics(runs: Sequence[Run], typed: str | None) -> list[str]:
    """The metrics to compare: those typed, or those usually shown that both runs have."""
    from llm4rec_cli.reporting.runs import SHOWN

    (_, a), (_, b) = runs
    # An interval: a mean over users; a slash: over some of them.
    both = [name for name in a["intervals"] if name in b["intervals"] and "/" not in name]
    both = [name for name in both if name not in OF_ALL_TOGETHER]
    if typed is None:
        return [name for name in ("mse", *SHOWN) if name in both and name not in OF_SOME]
    wanted = list(dict.fromkeys(typed.split(",")))
    for name in wanted:
        if name in OF_ALL_TOGETHER:
            raise UsageError(
                f"{name} is of all answers together, and nothing to pair example by example",
                f"--metric {OF_ALL_TOGETHER[name]}",
            )
        if name not in both:
            raise UsageError(f"the two runs do not both have the metric '{name}'", did_you_mean(name, both))
    return wanted


def _paired(runs: Sequence[Run], targets: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both runs' answers, (n,) rows each in order of user and target, row i of both about the same.

    Args:
        targets: `cold` or `warm` for those whose target was held out of training, or was not; None for all.

    Raises:
        UsageError: the runs hold no answers, or not about the same examples, or nothing was held out.
    """
    import pandas as pd

    files = [folder / "predictions.parquet" for folder, _ in runs]
    columns = _answers(files)
    example = ["user_id", "target"]
    a, b = (pd.read_parquet(file) for file in files)
    if any("turn" in answers for answers in (a, b)):
        raise UsageError(
            "one of these runs asked every example in several orders of its candidates: its rows are not independent",
            "compare runs of prompt.shuffles=1",
        )
    if targets is not None:
        if any("target_is_cold" not in answers for answers in (a, b)):
            raise UsageError("nothing was held out of one of these runs", "compare runs of one dataset.cold_items")
        a, b = (answers[answers["target_is_cold"] == (targets == "cold")] for answers in (a, b))
    a, b = (answers[[*example, *columns]].copy() for answers in (a, b))
    for answers in (a, b):
        answers["time"] = answers.groupby(example).cumcount()  # one user may be asked about one target again
    key = [*example, "time"]
    both = a.merge(b, on=key, how="outer", suffixes=("_a", "_b"), indicator="found")
    alone = both[both["found"] != "both"]
    if len(alone):
        first = alone.iloc[0]
        only_a, only_b = ((alone["found"] == side).sum() for side in ("left_only", "right_only"))
        raise UsageError(
            f"these runs are not paired: of {len(a):,} examples in A and {len(b):,} in B, {only_a:,} are in A only and "
            f"{only_b:,} in B only (user {first['user_id']}, target {first['target']})",
            "give both the same task.max_examples and dataset.seed",
        )
    of_a, of_b = (both[[f"{name}_{side}" for name in columns]].set_axis(list(columns), axis=1) for side in "ab")
    return of_a, of_b


def _answers(files: Sequence[Path]) -> tuple[str, ...]:
    """The columns that tell the answers of both runs.

    Raises:
        UsageError: there are none.
    """
    import pyarrow.parquet

    known = [set(pyarrow.parquet.read_schema(file).names) if file.exists() else set() for file in files]
    for columns in ANSWERS:
        if all(set(columns) <= names for names in known):
            return columns
    without = next(
        (file for file, names in zip(files, known, strict=True) if not any(set(c) <= names for c in ANSWERS)), files[1]
    )
    raise UsageError(
        f"{without.parent} holds no answers to pair",
        "compare takes two runs that ranked, two that rated or two that wrote",
    )


def _values(answers: pd.DataFrame, metrics: Sequence[str]) -> dict[str, Any]:
    """(n,) values of each metric.

    Raises:
        UsageError: some example has none.
    """
    from llm4rec_cli.evaluation.ranking import ranking_metrics
    from llm4rec_cli.evaluation.rating import rating_values
    from llm4rec_cli.evaluation.text import text_values

    told: dict[str, Any] = {str(name): column.to_numpy() for name, column in answers.items()}
    if "n_better" in told:
        cutoffs = sorted({int(name.partition("@")[2]) for name in metrics if "@" in name})
        values = ranking_metrics(told["n_better"], told["n_tied"], told["n_candidates"], cutoffs)
    elif "rating" in told:
        values = rating_values(told["rating"], told["prediction"])
    else:
        values = text_values(told["prediction"], told["reference"], told.get("feature"))
    found = {name: values[name] for name in metrics}
    for name, of_each in found.items():
        if (of_each != of_each).any():  # NaN
            others = ",".join(other for other in metrics if other != name)
            raise UsageError(f"not every example has a {name}", f"--metric {others or 'rouge1'}")
    return found


# --- how it is said


def _columns(comparison: Comparison) -> tuple[str, ...]:
    return (*COLUMNS, *(["by seed"] if len(comparison.by_seed) > 1 else []))


def _rows(comparison: Comparison) -> list[list[str]]:
    several = len(comparison.by_seed) > 1
    return [
        [
            name,
            f"{d.a:.4f}",
            f"{d.b:.4f}",
            f"{d.difference:+.4f}",
            f"{d.interval[0]:+.4f} to {d.interval[1]:+.4f}",
            f"{d.p:.4f}",
            f"{d.p_holm:.4f}",
            *(f"{count:,}" for count in (d.better, d.equal, d.worse)),
            *([" ".join(f"{of[name]:+.4f}" for of in comparison.by_seed.values())] if several else []),
        ]
        for name, d in comparison.metrics.items()
    ]


def _title(runs: Sequence[Run]) -> str:
    from llm4rec_cli.reporting.runs import protocol_in_words

    _, metrics = runs[0]
    return f"{metrics['dataset']} · {metrics['task']} · {protocol_in_words(metrics)}"


def _notes(comparison: Comparison) -> list[str]:
    """What stands below the numbers: which runs, how many users, what the test drew, and what to beware of."""
    runs, seeds = comparison.runs, comparison.by_seed
    from llm4rec_cli.evaluation.paired import PERMUTATIONS
    from llm4rec_cli.reporting.runs import counted, shown_as

    said = [
        f"{side}: {shown_as(metrics)}, {folder}" + (f" ({', '.join(metrics['labels'])})" if metrics["labels"] else "")
        for side, (folder, metrics) in zip("AB", runs, strict=True)
    ]
    kind = f" whose target is {comparison.targets}" if comparison.targets else ""
    drawn = f"{PERMUTATIONS:,} permutations, two-sided; Holm over the metrics of this table"
    said.append(f"{counted(runs[0][1], comparison.n)}{kind}; {drawn}")
    if len(seeds) > 1:
        several = ", ".join(map(str, seeds))
        said.append(f"means over seeds {several}; interval and p are over users: no claim where seeds disagree")
    else:
        said.append("two sets of answers, not two methods: no claim rests on one seed")
    if any("synthetic" in metrics["labels"] for _, metrics in runs):
        said.append("synthetic data: these numbers settle no claim")
    return said


def _print_table(comparison: Comparison) -> None:
    from llm4rec_cli.reporting.tables import console, table

    out = console()
    out.print(table(_title(comparison.runs), _columns(comparison), _rows(comparison)))
    for note in _notes(comparison):
        out.print(note, soft_wrap=True)


def _print_markdown(comparison: Comparison) -> None:
    from llm4rec_cli.reporting.tables import markdown

    print(markdown(_columns(comparison), _rows(comparison)))
    print("\n" + "\n".join(f"- {note}" for note in [_title(comparison.runs), *_notes(comparison)]))


def _as_json(comparison: Comparison) -> dict[str, Any]:
    from llm4rec_cli.evaluation.paired import PERMUTATIONS
    from llm4rec_cli.reporting.runs import shown_as

    (_, asked), _ = comparison.runs
    return {
        **{
            side: {"run": str(folder), "model": shown_as(m), "seed": m["seed"], "labels": m["labels"]}
            for side, (folder, m) in zip("ab", comparison.runs, strict=True)
        },
        **{key: asked[key] for key in ("dataset", "dataset_fingerprint", "task", *ASKED)},
        "n_examples": comparison.n,
        "targets": comparison.targets,
        "permutations": PERMUTATIONS,
        "synthetic": "synthetic" in asked["labels"],
        "metrics": {name: dataclasses.asdict(d) for name, d in comparison.metrics.items()},
        "by_seed": comparison.by_seed,
    }
