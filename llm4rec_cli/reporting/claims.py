"""What the papers and surveys claim, held against finished runs: one verdict a test and dataset.

`claims.yaml` has the claims as data: their words, which runs test them, and the rule, margin included, which is not
moved after the runs that it judges. What is judged is B, beside A or beside a number of its own run:

    superior       B is better than A by more than the margin
    not_inferior   B is not worse than A by more than the margin
    equivalent     B and A differ by less than the margin
    inferior       B is worse than A by more than the margin
    above          a number of B's own is higher than another one, or than a fixed value, by more than the margin
    preferred      people rank B's texts before those of the other systems that they judged, by more than the margin

The interval decides, of paired values over users and seeds: of 95 % for `superior`, `inferior` and `preferred`; of
90 % for `not_inferior` and `equivalent`, which is one-sided tests at 5 %. Where all of it is on the claim's side of the
margin the claim is supported, where all of it is on the other side it is not, and else, or where one seed alone says
otherwise, it is inconclusive. A percentage is of A's mean.

- A claim about what is trained rests on at least three seeds of each side: with fewer it is inconclusive, however far
  apart the numbers are. What is not trained has no other training to differ from, so one run is enough: a floor, or a
  chat model, whose seed draws orders of candidates, anew for each user.
- A number that no interval goes with (`above`) must be of at least a hundred examples.
- Synthetic data settle nothing: runs on them do not count, and where there are no others a test is not run; what they
  gave is told, without a verdict.
- A side that does not name `model.tokens` means a model without tokens.
- Runs whose labels say that they are no test of the claim (another backbone than it is about, a head that was never
  trained) make it not testable, whatever their numbers; the reason stands in the data.
- Of several runs that would do, those without such a label come first, then those about more examples, those of more
  seeds, and the newest; where the claim is about the best of A, of equals the best on the very test, which makes it the
  harder to beat.
- Each verdict stands alone at its level: of twenty claims without a ground one comes out as supported by chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Group
from rich.text import Text

from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import UsageError
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.evaluation.paired import Difference, Margin, paired_differences
from llm4rec_cli.reporting.pairing import ASKED, Paired, Run, config_of, paired, shared_metrics
from llm4rec_cli.reporting.runs import counted, protocol_in_words, shown_as
from llm4rec_cli.reporting.tables import table

FEWEST_SEEDS = 3  # of what is trained
FEWEST_EXAMPLES = 100  # of a number that has no interval
COLUMNS = ("claim", "words", "source", "tested by", "rule", "data", "numbers", "verdict", "because", "to run")
COMPARED = ("dataset", "model", "task", "trainer")  # what of a config must be equal where all else is
REFERENCE = "reference"  # the users' own texts, which are no system
# Labels of runs that were asked or trained otherwise: they count where a side names them, and so do all controls.
OTHERWISE = {"cold-items", "few-users", "leaky", "like-only", "oracle_input", "temporal-split", "transfer"}
WITHOUT_TOKENS = {"model.tokens": [False, None]}  # as a side means it that does not name them
SYNTHETIC = "on synthetic data alone, which settle nothing"
HUMAN = "human.json"  # what `llm4rec human score` writes


class Rule(Enum):
    """What is claimed of B."""

    superior = "superior"
    not_inferior = "not_inferior"
    equivalent = "equivalent"
    inferior = "inferior"
    above = "above"
    preferred = "preferred"


class Verdict(Enum):
    """What came of it."""

    supported = "supported"
    not_supported = "not supported"
    inconclusive = "inconclusive"
    not_testable = "not testable with this backbone or data"
    not_run = "not run"


LEVEL_90 = (Rule.not_inferior, Rule.equivalent)
IN_WORDS = {
    Rule.superior: "better than A by more than {margin}",
    Rule.not_inferior: "not worse than A by {margin} or more",
    Rule.equivalent: "within ±{margin} of A",
    Rule.inferior: "worse than A by more than {margin}",
    Rule.above: "above {than} by more than {margin}",
    Rule.preferred: "ranked before all other systems' texts by more than {margin}",
}


@dataclass(frozen=True)
class Side:
    """Which finished runs are meant.

    Attributes:
        model: by its name.
        settings: of config.yaml, by dotted keys; several values of a list will do. Who names no `model.tokens` means a
            model without.
        labels: that they have; one of OTHERWISE, or of a control, that is not named here they must not have.
        trained_for: the task that the weights were trained for, `all` or one; None = any.
        pretrained: whether training began with another run's weights; None = either.
        best: of several variants the one with the best mean is meant.
    """

    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[str] = ()
    trained_for: str | None = None
    pretrained: bool | None = None
    best: bool = False


@dataclass(frozen=True)
class Trial:
    """One way to test a claim.

    Attributes:
        about: what of the claim it tests, where there are several.
        task: that the runs were asked.
        metric: that decides.
        rule: what is claimed of B.
        margin: of the rule.
        b: whom the claim is about.
        a: whom it is compared with; None where B's own numbers decide.
        than: of rule `above`, another metric of the same run, or a number.
        protocol: that the runs were asked by; None = any.
        targets: `cold` or `warm`, where only those count.
        alike_but: all settings of both are equal but for these, and those that a side names; None = they need not be.
        untestable: label of a run, or `llm=NAME`, that makes it no test -> why.
        experiments: that test it.
        run: the commands that would make such runs.
    """

    task: str
    metric: str
    rule: Rule
    margin: Margin
    b: Side
    run: Sequence[str]
    experiments: Sequence[str] = ()
    about: str = ""
    a: Side | None = None
    than: str | float | None = None
    protocol: str | None = None
    targets: str | None = None
    alike_but: Sequence[str] | None = None
    untestable: Mapping[str, str] = field(default_factory=dict)

    def in_words(self) -> str:
        """The rule, as it is told beside the verdict."""
        told = IN_WORDS[self.rule].format(margin=self.margin, than=self.than)
        than = "" if self.a is None else f"; A: {_side_in_words(self.a)}; B: {_side_in_words(self.b)}"
        return f"{self.metric}: B {told}{than}" if self.a is not None else f"{self.metric} of {self.b.model} {told}"


@dataclass(frozen=True)
class Claim:
    """What is claimed, in our words, where, and how it is tested."""

    id: str
    words: str
    source: str
    tests: Sequence[Trial]


@dataclass(frozen=True)
class Judged:
    """What came of one test on one dataset.

    Attributes:
        data: the dataset and how it was asked; empty where nothing was run.
        numbers: what decided, or what synthetic data gave; empty where nothing was run.
        because: in words, why the verdict is none of the first two, or what else to know.
        runs: the folders that were looked at.
    """

    claim: Claim
    test: Trial
    verdict: Verdict
    because: str = ""
    data: str = ""
    numbers: str = ""
    runs: Sequence[Path] = ()

    @property
    def commands(self) -> Sequence[str]:
        """Those that would make the runs that are missing; none where nothing is."""
        return self.test.run if self.verdict is Verdict.not_run else ()


@dataclass(frozen=True)
class Variant:
    """Finished runs that differ in their seed alone.

    Attributes:
        runs: seed -> run.
    """

    runs: Mapping[int, Run]

    @property
    def one(self) -> Run:
        return next(iter(self.runs.values()))

    @property
    def trained(self) -> bool:
        """Whether another seed would train other weights; an ensemble has its members'."""
        _, metrics = self.one
        return bool(metrics.get("n_trainable") or metrics.get("members"))

    def mean(self, metric: str) -> float:
        return float(np.mean([metrics["metrics"][metric] for _, metrics in self.runs.values()]))

    def has(self, metric: str) -> bool:
        return all(metric in metrics["metrics"] for _, metrics in self.runs.values())


# --- the claims


@cache
def shipped() -> tuple[Claim, ...]:
    """The claims of claims.yaml."""
    return claims_of((files("llm4rec_cli.reporting") / "claims.yaml").read_text(encoding="utf-8"))


def claims_of(text: str) -> tuple[Claim, ...]:
    """The claims of a YAML text, whose keys are the attributes of `Claim`, `Trial` and `Side`.

    Raises:
        TypeError, ValueError: a key is unknown or missing, or a value is none that it may have.
    """
    return tuple(
        Claim(**{**claim, "tests": tuple(_test(**test) for test in claim["tests"])}) for claim in yaml.safe_load(text)
    )


def _test(**told: Any) -> Trial:
    read: dict[str, Any] = {side: Side(**told[side]) for side in ("a", "b") if side in told}
    read |= {"rule": Rule(told["rule"]), "margin": Margin.parse(str(told["margin"]))}
    return Trial(**{**told, **read})


# --- the runs


def variants(outputs: Path) -> list[Variant]:
    """The test runs under `outputs`, and under the folders in it, as variants; of equal seeds the newest counts.

    A script that writes to outputs/NAME makes such a folder.
    """
    from llm4rec_cli.runs.catalog import finished

    found: dict[str, dict[int, Run]] = {}
    within = sorted(path for path in outputs.iterdir() if path.is_dir()) if outputs.is_dir() else []
    for root in (outputs, *within):
        for folder, _, metrics in finished(root):
            if metrics["split"] == "test":
                found.setdefault(metrics["variant"], {}).setdefault(metrics["seed"], (folder, metrics))
    return [Variant(dict(sorted(of.items()))) for of in found.values()]


def _meant(side: Side, test: Trial, variant: Variant) -> bool:
    """Whether a variant is one of those that a side of a test names."""
    folder, metrics = variant.one
    labels = set(metrics["labels"])
    otherwise = {label for label in labels if label in OTHERWISE or label.startswith("control-")}
    origin = metrics.get("trained_run")
    trained_for = origin.split("/")[-2] if origin else metrics["task"]
    return (
        (metrics["model"], metrics["task"]) == (side.model, test.task)
        and test.protocol in (None, metrics["protocol"])
        and variant.has(test.metric)
        and otherwise <= set(side.labels) <= labels
        and side.trained_for in (None, trained_for)
        and side.pretrained in (None, (metrics.get("init_from") is not None))
        and _set({**WITHOUT_TOKENS, **side.settings}, folder)
    )


def _set(settings: Mapping[str, Any], folder: Path) -> bool:
    """Whether a run has these settings."""
    own = _flat(folder)
    return all(own.get(key) in (value if isinstance(value, list) else [value]) for key, value in settings.items())


@cache
def _flat(folder: Path) -> dict[str, Any]:
    """The settings of a run's config by dotted keys; lists and empty groups whole."""

    def leaves(prefix: str, node: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                yield from leaves(f"{prefix}.{key}" if prefix else str(key), value)
        else:
            yield prefix, node

    return dict(leaves("", config_of(folder)))


def _alike(test: Trial, a: Variant, b: Variant) -> bool:
    """Whether two variants differ in nothing but what the test names."""
    if test.alike_but is None:
        return True
    from llm4rec_cli.config.keys import all_declared
    from llm4rec_cli.config.roles import OUTSIDE

    assert test.a is not None, test
    named = [
        *test.alike_but,
        *test.a.settings,
        *test.b.settings,
        *(one.key for one in all_declared() if one.role in OUTSIDE),
    ]
    named += ["model.init_from"] if test.a.pretrained != test.b.pretrained else []

    def rest(variant: Variant) -> dict[str, Any]:
        return {
            key: value
            for key, value in _flat(variant.one[0]).items()
            if key.split(".")[0] in COMPARED and not any(key == name or key.startswith(f"{name}.") for name in named)
        }

    return rest(a) == rest(b)


def _asked(variant: Variant) -> tuple[Any, ...]:
    """What runs that are compared share."""
    _, metrics = variant.one
    return (metrics["dataset_fingerprint"], *(metrics[key] for key in ASKED))


def _synthetic(variant: Variant) -> bool:
    return "synthetic" in variant.one[1]["labels"]


def _why_untestable(test: Trial, runs: Iterable[Run]) -> str:
    """Why these runs are no test of the claim; empty where they are."""
    return next((why for mark, why in test.untestable.items() if any(mark in _marks(run) for run in runs)), "")


def _marks(run: Run) -> set[str]:
    """A run's labels; and which chat model its numbers build on, where they do."""
    folder, metrics = run
    labels = set(metrics["labels"])
    builds = labels & {"substitute-llm", "llm-tokens"}
    return labels | ({f"llm={Path(_flat(folder).get('llm.model', '')).name}"} if builds else set())


# --- the verdicts


def judged(outputs: Path) -> list[Judged]:
    """Every shipped claim held against the finished runs under `outputs`.

    Filled sheets count where `human export --out` wrote to a folder of `outputs`.

    Returns:
        At least one a test, in the order of the claims; several where there are several datasets.
    """
    return judged_claims(shipped(), outputs)


def judged_claims(claims: Iterable[Claim], outputs: Path) -> list[Judged]:
    """The same of these claims."""
    found = variants(outputs)
    told = []
    for claim in claims:
        for test in claim.tests:
            if test.rule is Rule.preferred:
                told += _of_people(claim, test, outputs)
            elif test.a is None:
                told += _of_own_numbers(claim, test, found)
            else:
                told += _of_pairs(claim, test, found)
    return told


def _of_pairs(claim: Claim, test: Trial, found: Sequence[Variant]) -> list[Judged]:
    """Of two models, a verdict for each dataset and protocol that both were asked by."""
    assert test.a is not None
    of_a, of_b = ([v for v in found if _meant(side, test, v)] for side in (test.a, test.b))
    pairs: dict[tuple[Any, ...], list[tuple[Variant, Variant]]] = {}
    for a, b in itertools.product(of_a, of_b):
        if _asked(a) == _asked(b) and _alike(test, a, b) and _beside(a, b):
            pairs.setdefault(_asked(a), []).append((a, b))
    chosen = [_chosen(test, several) for several in pairs.values()]
    real = [(a, b) for a, b in chosen if not _synthetic(a)]
    if real:
        return [_of_pair(claim, test, a, b) for a, b in real]
    missing = [name for name, of in (("A", of_a), ("B", of_b)) if not any(not _synthetic(v) for v in of)]
    why = f"no finished run of {' or '.join(missing)} on real data" if missing else "A and B were not asked alike"
    told = [_unsettled(_of_pair(claim, test, a, b), SYNTHETIC if missing else why) for a, b in chosen]
    return told or [Judged(claim, test, Verdict.not_run, why)]


def _unsettled(of: Judged, why: str = SYNTHETIC) -> Judged:
    """What synthetic data gave: numbers without a verdict."""
    return replace(of, verdict=Verdict.not_run, because="; ".join(filter(None, [why, of.because])))


def _chosen(test: Trial, pairs: Sequence[tuple[Variant, Variant]]) -> tuple[Variant, Variant]:
    """Of several pairs the one that decides; they come newest first."""
    assert test.a is not None
    best, sign = test.a.best, direction(test.metric)

    def worth(pair: tuple[Variant, Variant]) -> tuple[float, ...]:
        a, b = pair
        testable = not _why_untestable(test, (a.one, b.one))
        value = sign * a.mean(test.metric) if best else 0.0
        return (testable, a.one[1]["n_examples"], len(_beside(a, b)), value)

    return max(pairs, key=worth)


def _beside(a: Variant, b: Variant) -> dict[int, tuple[Run, Run]]:
    """Seed -> a run of each, of the same number of examples; one that is not trained stands beside every seed of the
    other."""
    if a.one[1]["n_examples"] != b.one[1]["n_examples"]:
        return {}
    if a.trained and b.trained:
        seeds = sorted(a.runs.keys() & b.runs.keys())
    else:
        seeds = sorted((b if b.trained else a).runs if a.trained or b.trained else [next(iter(b.runs))])
    return {seed: (a.runs.get(seed, a.one), b.runs.get(seed, b.one)) for seed in seeds}


def _of_pair(claim: Claim, test: Trial, a: Variant, b: Variant) -> Judged:
    by_seed = _beside(a, b)
    runs = [run for pair in by_seed.values() for run in pair]
    folders = list(dict.fromkeys(folder for folder, _ in runs))
    data = _data(a)
    try:
        d, gains = _difference(test, by_seed)
    except UsageError as refused:
        return Judged(claim, test, Verdict.not_run, refused.problem, data, runs=folders)
    numbers = _numbers(test, d, a, b, gains)
    if why := _why_untestable(test, runs):
        return Judged(claim, test, Verdict.not_testable, why, data, numbers, folders)
    fewest = FEWEST_SEEDS if a.trained or b.trained or not _of_examples(test, by_seed) else 1
    verdict, because = _verdict(test, d, gains, fewest)
    return Judged(claim, test, verdict, because, data, numbers, folders)


def _of_examples(test: Trial, by_seed: Mapping[int, tuple[Run, Run]]) -> bool:
    """Whether the metric has a value an example; else it has one a run."""
    runs = next(iter(by_seed.values()))
    try:
        return bool(shared_metrics(runs, [test.metric]))
    except UsageError:
        return False


def _difference(test: Trial, by_seed: Mapping[int, tuple[Run, Run]]) -> tuple[Difference, list[float]]:
    """B less A, and of each seed by how much B is better.

    Raises:
        UsageError: the two cannot be paired.
    """
    name = test.metric
    if _of_examples(test, by_seed):
        found = [paired(runs, [name], test.targets) for runs in by_seed.values()]
    else:
        of_runs = [[{name: np.array([metrics["metrics"][name]])} for _, metrics in runs] for runs in by_seed.values()]
        found = [Paired(np.zeros(1), *values) for values in of_runs]
    user, a, b = found[0].user, [of.a for of in found], [of.b for of in found]
    compared = paired_differences(
        a, b, user, stream(0, "claims: bootstrap"), stream(0, "claims: permutation"), test.margin
    )
    gains = [direction(name) * float((of_b[name] - of_a[name]).mean()) for of_a, of_b in zip(a, b, strict=True)]
    return compared[name], gains


def _verdict(test: Trial, d: Difference, gains: Sequence[float], fewest: int) -> tuple[Verdict, str]:
    """The verdict, and why it is none where it is none."""
    assert d.margin is not None
    if len(gains) < fewest:
        seeds = f"{len(gains)} seed{'s' if len(gains) > 1 else ''}"
        return Verdict.inconclusive, f"{seeds}, and a claim rests on {fewest}"
    ends = [direction(test.metric) * end for end in (d.interval_90 if test.rule in LEVEL_90 else d.interval)]
    verdict = decided(test.rule, min(ends), max(ends), d.margin)
    if verdict is Verdict.inconclusive:
        return verdict, "the interval is on both sides of the margin"
    if any(decided(test.rule, gain, gain, d.margin) is not verdict for gain in gains):
        return Verdict.inconclusive, "the seeds disagree"
    return verdict, ""


def decided(rule: Rule, low: float, high: float, margin: float) -> Verdict:
    """What an interval of how much better B is than A says of a claim.

    Args:
        low, high: its ends, above 0 where B is better.
        margin: a difference, 0 or more.
    """
    supported, refuted = {
        Rule.superior: (low > margin, high < margin),
        Rule.not_inferior: (low > -margin, high < -margin),
        Rule.inferior: (high < -margin, low > -margin),
        Rule.equivalent: (-margin < low and high < margin, high < -margin or low > margin),
    }[rule]
    return Verdict.supported if supported else Verdict.not_supported if refuted else Verdict.inconclusive


def _of_own_numbers(claim: Claim, test: Trial, found: Sequence[Variant]) -> list[Judged]:
    """Of one model's numbers, a verdict for each dataset and protocol."""
    of_b = [v for v in found if _meant(test.b, test, v) and (not isinstance(test.than, str) or v.has(test.than))]
    asked: dict[tuple[Any, ...], list[Variant]] = {}
    for variant in of_b:
        asked.setdefault(_asked(variant), []).append(variant)
    if not asked:
        return [Judged(claim, test, Verdict.not_run, "no finished run of it on real data")]

    def worth(variant: Variant) -> tuple[float, ...]:
        return (not _why_untestable(test, [variant.one]), variant.one[1]["n_examples"], len(variant.runs))

    chosen = [max(several, key=worth) for several in asked.values()]
    real = [variant for variant in chosen if not _synthetic(variant)]
    told = [_of_own(claim, test, variant) for variant in real or chosen]
    return told if real else [_unsettled(of) for of in told]


def _of_own(claim: Claim, test: Trial, variant: Variant) -> Judged:
    runs = list(variant.runs.values())
    data, folders = _data(variant), [folder for folder, _ in runs]
    bound = variant.mean(test.than) if isinstance(test.than, str) else float(test.than or 0)
    ends = [metrics["intervals"].get(test.metric, [metrics["metrics"][test.metric]] * 2) for _, metrics in runs]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    has_interval = all(test.metric in metrics["intervals"] for _, metrics in runs)
    within = f" ({low:.4f} to {high:.4f})" if has_interval else " (no interval)"
    told = f"{shown_as(runs[0][1])} {test.metric} {variant.mean(test.metric):.4f}{within}"
    if isinstance(test.than, str):
        told += f", {test.than} {bound:.4f}"
    numbers = f"{told}; {_seeds_in_words(variant)}, {counted(runs[0][1], runs[0][1]['n_examples'])}"
    if why := _why_untestable(test, runs):
        return Judged(claim, test, Verdict.not_testable, why, data, numbers, folders)
    if variant.trained and len(runs) < FEWEST_SEEDS:
        return Judged(
            claim, test, Verdict.inconclusive, f"a claim rests on {FEWEST_SEEDS} seeds", data, numbers, folders
        )
    if not has_interval and runs[0][1]["n_examples"] < FEWEST_EXAMPLES:
        why = f"a number without an interval must be of {FEWEST_EXAMPLES} examples"
        return Judged(claim, test, Verdict.inconclusive, why, data, numbers, folders)
    verdict = decided(Rule.superior, low - bound, high - bound, test.margin.absolute(bound))
    because = "the interval is on both sides of the margin" if verdict is Verdict.inconclusive else ""
    return Judged(claim, test, verdict, because, data, numbers, folders)


# --- people


def _of_people(claim: Claim, test: Trial, outputs: Path) -> list[Judged]:
    """Of filled sheets, a verdict for each criterion of each."""
    import json

    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(outputs.glob(f"*/{HUMAN}"))]
    mine = [of for of in results if of["task"] == test.task and any(r["model"] == test.b.model for r in of["runs"])]
    if not mine:
        return [Judged(claim, test, Verdict.not_run, "nobody's filled sheets were scored")]
    real = [of for of in mine if not of["synthetic"]]
    told = [_of_criterion(claim, test, result, name) for result in real or mine for name in result["criteria"]]
    return told if real else [_unsettled(of) for of in told]


def _of_criterion(claim: Claim, test: Trial, result: Mapping[str, Any], name: str) -> Judged:
    """Of one criterion: the best of the model's systems beside the best of the others, by their mean ranks."""
    of = result["criteria"][name]
    data = f"{result['dataset']} · {result['task']} · {name}"
    folders = [Path(run["run"]) for run in result["runs"]]
    if not of["enough"]:
        why = f"{of['raters']} raters and {of['examples']} examples are too few"
        return Judged(claim, test, Verdict.inconclusive, why, data, runs=folders)
    own = {run["system"] for run in result["runs"] if run["model"] == test.b.model}
    others = {system for system in of["systems"] if system not in own and system != REFERENCE}
    if not others:
        return Judged(claim, test, Verdict.not_run, "no other system was judged beside it", data, runs=folders)

    def best(systems: Iterable[str]) -> str:
        return min(systems, key=lambda system: of["systems"][system]["mean_rank"]["mean"])

    b, a = best(own), best(others)
    ranks_a, ranks_b = (of["systems"][system]["mean_rank"] for system in (a, b))
    numbers = "; ".join(
        f"{system} mean rank {ranks['mean']:.2f} ({ranks['interval'][0]:.2f} to {ranks['interval'][1]:.2f})"
        for system, ranks in ((a, ranks_a), (b, ranks_b))
    )
    if why := _why_untestable(test, [(Path(run["run"]), run) for run in result["runs"]]):
        return Judged(claim, test, Verdict.not_testable, why, data, numbers, folders)
    (low_a, high_a), (low_b, high_b) = ranks_a["interval"], ranks_b["interval"]
    margin = test.margin.absolute(ranks_a["mean"])
    verdict = decided(Rule.superior, low_a - high_b, high_a - low_b, margin)  # a lower rank is the better
    because = "the intervals of both overlap" if verdict is Verdict.inconclusive else ""
    return Judged(claim, test, verdict, because, data, numbers, folders)


# --- how it is said


def claims_table(told: Sequence[Judged]) -> Group:
    """The verdicts for a terminal, where a claim's words stand once; below, the commands for what was not run."""
    rows = []
    for i, of in enumerate(told):
        first = i == 0 or told[i - 1].claim is not of.claim
        rows.append(
            [
                of.claim.id if first else "",
                f"{of.claim.words} ({of.claim.source})" if first else "",
                *(_rule(of), of.data, of.numbers, of.verdict.value, of.because),
            ]
        )
    shown = table("claims", ["claim", "words", "rule", "data", "numbers", "verdict", "because"], rows)
    shown.show_lines = True
    commands = [f"{of.claim.id}: {command}" for of in told for command in of.commands]
    return Group(
        shown, *(["to run"] if commands else []), *(Text(line, no_wrap=True) for line in dict.fromkeys(commands))
    )


def claims_rows(told: Sequence[Judged]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for files: one row a verdict, each whole."""
    rows = [
        [
            *(of.claim.id, of.claim.words, of.claim.source, ", ".join(of.test.experiments), _rule(of)),
            *(of.data, of.numbers, of.verdict.value, of.because, "; then ".join(of.commands)),
        ]
        for of in told
    ]
    return list(COLUMNS), rows


def _rule(of: Judged) -> str:
    return f"{of.test.about}: {of.test.in_words()}" if of.test.about else of.test.in_words()


def _side_in_words(side: Side) -> str:
    """`p5 (model.whole_word=never, trained for all)`."""
    marks = [f"{key}={value}".replace("'", "") for key, value in side.settings.items()]
    marks += side.labels
    marks += [] if side.trained_for is None else [f"trained for {side.trained_for}"]
    marks += [] if side.pretrained is None else ["pre-trained" if side.pretrained else "from scratch"]
    named = f"{side.model} ({', '.join(marks)})" if marks else side.model
    return f"the best {named}" if side.best else named


def _data(variant: Variant) -> str:
    _, metrics = variant.one
    return f"{metrics['dataset']} · {metrics['task']} · {protocol_in_words(metrics)}"


def _seeds_in_words(variant: Variant) -> str:
    return f"{len(variant.runs)} seed{'s' if len(variant.runs) > 1 else ''}"


def _numbers(test: Trial, d: Difference, a: Variant, b: Variant, gains: Sequence[float]) -> str:
    """Both means, the difference with its interval, and that of each seed; and the marks that ride with them."""
    level, interval = (90, d.interval_90) if test.rule in LEVEL_90 else (95, d.interval)
    metric = f"{test.targets}/{test.metric}" if test.targets else test.metric
    by_seed = " ".join(f"{direction(test.metric) * gain:+.4f}" for gain in gains)
    marks = sorted({label for variant in (a, b) for label in variant.one[1]["labels"]})
    told = [
        f"{metric}: A {shown_as(a.one[1])} {d.a:.4f}, B {shown_as(b.one[1])} {d.b:.4f}",
        f"B − A {d.difference:+.4f} ({level} %: {interval[0]:+.4f} to {interval[1]:+.4f}; margin {d.margin:.4f})",
        f"by seed {by_seed}",
        counted(a.one[1], a.one[1]["n_examples"]),
        *([", ".join(marks)] if marks else []),
    ]
    return "; ".join(told)
