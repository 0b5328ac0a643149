"""`llm4rec compare RUN RUN`: runs on the same examples, user by user.

llm4rec compare outputs/sasrec/demo/sequential/seed0-ab12cd34ef outputs/unisrec/demo/sequential/seed0-12ab34cd56
llm4rec compare sasrec/demo/sequential/seed0-ab unisrec/demo/sequential/seed0-12     ends, cut where they are clear
llm4rec compare sasrec/… unisrec/… p5/…                      the first with each of the others
llm4rec compare sasrec/… unisrec/… --metric ndcg@10,hr@50 --markdown
llm4rec compare sasrec/… unisrec/… --json | jq .metrics
llm4rec compare sasrec/… unisrec/… --seeds                   the same with every seed that all were trained with
llm4rec compare sasrec/… unisrec/… --metric ndcg@10 --seeds --margin 5%     are they equivalent, up to a twentieth?
llm4rec compare sasrec/… unisrec/… --targets cold            of runs under dataset.cold_items: only what was held out

A run is its folder, or whatever end of its path names one run under --outputs. All must have been asked the same:
data, split, protocol, and each user about the same target among the same number of candidates, or about the same
impression; what differs is told. For each metric: both means, B − A, its 95 % bootstrap interval, for how many users B
is better, equal or worse (of an error the lower is better), and p of a paired permutation test. Ratings are compared by
their errors, squared (mse) and absolute (mae), texts by ROUGE: RMSE and BLEU are no means over examples.

Of one run each p is the probability of a mean difference at least as large if, for each user, a coin decided which of
the two values is A's and which is B's. It says how these two sets of answers differ over users, and nothing of other
seeds: a method trained anew gives other answers, and may well fall on the other side. No claim rests on one seed.

With --seeds, users × seeds: each user's values are means over seeds, intervals draw users and seeds, and p is the
larger of two: of the coin above, one a user for all seeds, and of calling any of all the trainings A's. It is small
only where both other users and other trainings would tell the same. With three seeds it cannot be below 0.1, with four
below 0.029; a last column has the difference of each seed.

Holm's correction allows for all that the table tells, metrics and pairs; name the one that you decide by before you
look. --margin, written down before you look too, asks whether two are as good as equal: they are where the 90 %
interval of the difference lies within ± the margin, which is two one-sided tests at 5 %. A large p does not show that.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm4rec_cli.errors import UsageError
from llm4rec_cli.reporting.pairing import PROTOCOL_KEYS, Run

if TYPE_CHECKING:
    from llm4rec_cli.evaluation.paired import Difference, Margin

COLUMNS = ("metric", "A", "B", "B − A", "95 % interval", "p", "p (Holm)", "better", "equal", "worse")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "llm4rec compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="RUN", help="A: a run folder, or an end of its path")
    parser.add_argument("others", metavar="RUN", nargs="+", help="B, C, …, likewise: each is compared with A")
    parser.add_argument("--seeds", action="store_true", help="all seeds of these variants, not these runs alone")
    parser.add_argument(
        "--targets", choices=("cold", "warm"), help="only examples whose target was held out, or was not"
    )
    parser.add_argument("--metric", help="comma-separated names (default: hr@1, hr@5, hr@10, ndcg@10, …)")
    parser.add_argument(
        "--margin",
        type=_margin,
        metavar="X",
        help="up to which difference they count as equal: 0.005, or 5%% of A's mean",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object")
    form.add_argument("--markdown", action="store_true", help="a Markdown table")
    parser.add_argument("--outputs", default="outputs", help="where runs were written (default: outputs)")
    options = parser.parse_args(argv)

    from llm4rec_cli.evaluation.paired import as_one_family
    from llm4rec_cli.reporting.pairing import require_same_protocol, shared_metrics
    from llm4rec_cli.runs.catalog import runs_named

    outputs = Path(options.outputs).expanduser()
    runs = runs_named([options.a, *options.others], outputs)
    if len(runs) > len(LETTERS):
        raise UsageError(f"{len(runs)} runs are more than there are letters", f"at most {len(LETTERS)}")
    for other in runs[1:]:
        require_same_protocol([runs[0], other])
    metrics = shared_metrics(runs, options.metric.split(",") if options.metric else None)
    by_seed = _seeds(runs, outputs) if options.seeds else {runs[0][1]["seed"]: runs}
    pairs = [
        _pair({seed: (of[0], of[i]) for seed, of in by_seed.items()}, metrics, options.targets, options.margin)
        for i in range(1, len(runs))
    ]
    family = as_one_family([pair.metrics for pair in pairs])
    comparison = Comparison(
        runs,
        options.targets,
        options.margin,
        [dataclasses.replace(pair, metrics=corrected) for pair, corrected in zip(pairs, family, strict=True)],
    )
    if options.json:
        print(json.dumps(_as_json(comparison), indent=2))
    elif options.markdown:
        _print_markdown(comparison)
    else:
        _print_table(comparison)
    return 0


def _margin(text: str) -> Margin:
    """The argparse type of a margin."""
    from llm4rec_cli.evaluation.paired import Margin

    try:
        return Margin.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no margin: 0.005, or 5% of A's mean") from None


@dataclasses.dataclass(frozen=True)
class Pair:
    """A and another run.

    Attributes:
        n: how many examples.
        metrics: metric -> both means, and how they differ.
        by_seed: seed -> metric -> the other less A.
    """

    n: int
    metrics: dict[str, Difference]
    by_seed: dict[int, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is told.

    Attributes:
        runs: A, B, …, as named.
        targets: which examples: `cold`, `warm`, or None for all.
        margin: of equivalence; None where none was given.
        pairs: A with each of the others.
    """

    runs: Sequence[Run]
    targets: str | None
    margin: Margin | None
    pairs: Sequence[Pair]

    @property
    def seeds(self) -> list[int]:
        return list(self.pairs[0].by_seed)


def _pair(
    by_seed: dict[int, tuple[Run, Run]], metrics: Sequence[str], targets: str | None, margin: Margin | None
) -> Pair:
    """A and another run, of each seed."""
    from llm4rec_cli.data.streams import stream
    from llm4rec_cli.evaluation.paired import paired_differences
    from llm4rec_cli.reporting.pairing import pair_runs

    found = {seed: pair_runs(runs, metrics, targets) for seed, runs in by_seed.items()}
    user = next(iter(found.values())).user
    compared = paired_differences(
        [of.a for of in found.values()],
        [of.b for of in found.values()],
        user,
        bootstrap=stream(0, "compare: bootstrap"),
        permutation=stream(0, "compare: permutation"),
        margin=margin,
    )
    told = {seed: {name: float((of.b[name] - of.a[name]).mean()) for name in metrics} for seed, of in found.items()}
    return Pair(len(user), compared, told)


# --- which runs


def _seeds(runs: Sequence[Run], outputs: Path) -> dict[int, list[Run]]:
    """The runs of every seed that all variants were trained with; of several runs of a seed the newest.

    Raises:
        UsageError: there are fewer than two such seeds.
    """
    from llm4rec_cli.reporting.pairing import require_same_protocol
    from llm4rec_cli.runs.catalog import finished

    found: list[dict[int, Run]] = [{} for _ in runs]
    for folder, _, metrics in finished(outputs):
        for own, (_, named) in zip(found, runs, strict=True):
            if metrics["variant"] == named["variant"]:
                own.setdefault(metrics["seed"], (folder, metrics))
    seeds = sorted(set.intersection(*(set(own) for own in found)))
    if len(seeds) < 2:
        known = "; ".join(
            f"{side} has {', '.join(map(str, sorted(own))) or 'none'}"
            for side, own in zip(LETTERS, found, strict=False)
        )
        every = "both" if len(runs) == 2 else "all"
        raise UsageError(f"under {outputs} there are not two seeds of {every}: {known}", "train with -m seed=0,1,2")
    by_seed = {seed: [own[seed] for own in found] for seed in seeds}
    for first, *others in by_seed.values():
        for other in others:
            require_same_protocol([first, other])
    return by_seed


# --- how it is said


def _columns(comparison: Comparison) -> tuple[str, ...]:
    return (
        *(["run"] if len(comparison.pairs) > 1 else []),
        *COLUMNS,
        *([f"within ±{comparison.margin}"] if comparison.margin is not None else []),
        *(["by seed"] if len(comparison.seeds) > 1 else []),
    )


def _rows(comparison: Comparison) -> list[list[str]]:
    """Of several pairs the run that stands for B is named first."""
    return [
        [*([side] if len(comparison.pairs) > 1 else []), *_row(name, d, pair.by_seed)]
        for side, pair in zip(LETTERS[1:], comparison.pairs, strict=False)
        for name, d in pair.metrics.items()
    ]


def _row(name: str, d: Difference, by_seed: dict[int, dict[str, float]]) -> list[str]:
    return [
        name,
        f"{d.a:.4f}",
        f"{d.b:.4f}",
        f"{d.difference:+.4f}",
        _signed(d.interval),
        f"{d.p:.4f}",
        f"{d.p_holm:.4f}",
        *(f"{count:,}" for count in (d.better, d.equal, d.worse)),
        *([] if d.equivalent is None else [f"{'yes' if d.equivalent else 'no'}: {_signed(d.interval_90)}"]),
        *([" ".join(f"{of[name]:+.4f}" for of in by_seed.values())] if len(by_seed) > 1 else []),
    ]


def _signed(interval: tuple[float, float]) -> str:
    return f"{interval[0]:+.4f} to {interval[1]:+.4f}"


def _title(runs: Sequence[Run]) -> str:
    from llm4rec_cli.reporting.runs import protocol_in_words

    _, metrics = runs[0]
    return f"{metrics['dataset']} · {metrics['task']} · {protocol_in_words(metrics)}"


def _notes(comparison: Comparison) -> list[str]:
    """What stands below the numbers: which runs, how many users, what the test drew, and what to beware of."""
    from llm4rec_cli.evaluation.paired import PERMUTATIONS, smallest_p
    from llm4rec_cli.reporting.runs import count_in_words, shown_as

    runs, seeds = comparison.runs, comparison.seeds
    said = [
        f"{side}: {shown_as(metrics)}, {folder}" + (f" ({', '.join(metrics['labels'])})" if metrics["labels"] else "")
        for side, (folder, metrics) in zip(LETTERS, runs, strict=False)
    ]
    kind = f" whose target is {comparison.targets}" if comparison.targets else ""
    family = "metrics of this table" if len(runs) == 2 else "runs and metrics of this table"
    drawn = f"{PERMUTATIONS:,} permutations, two-sided; Holm over the {family}"
    said.append(f"{count_in_words(runs[0][1], comparison.pairs[0].n)}{kind}; {drawn}")
    if comparison.margin is not None:
        of = " of A's mean" if comparison.margin.relative else ""
        said.append(
            f"within ±{comparison.margin}{of}: whether the 90 % interval lies in it, two one-sided tests at 5 %; the "
            "margin counts if it was written down beforehand"
        )
    if len(seeds) > 1:
        several = ", ".join(map(str, seeds))
        said.append(
            f"means over seeds {several}; the interval is over users and seeds, p the larger of users' and trainings': "
            f"with {len(seeds)} seeds not below {smallest_p(len(seeds)):.2g}; no claim where seeds disagree"
        )
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
    """Of A and B; what else A was compared with stands under `others`."""
    from llm4rec_cli.evaluation.paired import PERMUTATIONS

    first, second, *more = comparison.runs
    pair, *others = comparison.pairs
    _, asked = first
    margin = comparison.margin
    return {
        "a": _run_as_json(first),
        "b": _run_as_json(second),
        **{key: asked[key] for key in ("dataset", "dataset_fingerprint", "task", *PROTOCOL_KEYS)},
        "n_examples": pair.n,
        "targets": comparison.targets,
        "permutations": PERMUTATIONS,
        "margin": None if margin is None else dataclasses.asdict(margin),
        "synthetic": "synthetic" in asked["labels"],
        **_pair_as_json(pair),
        "others": [{"b": _run_as_json(run), **_pair_as_json(of)} for run, of in zip(more, others, strict=True)],
    }


def _run_as_json(run: Run) -> dict[str, Any]:
    from llm4rec_cli.reporting.runs import shown_as

    folder, metrics = run
    return {"run": str(folder), "model": shown_as(metrics), "seed": metrics["seed"], "labels": metrics["labels"]}


def _pair_as_json(pair: Pair) -> dict[str, Any]:
    return {"metrics": {name: dataclasses.asdict(d) for name, d in pair.metrics.items()}, "by_seed": pair.by_seed}
