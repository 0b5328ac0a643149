"""Decide claims by the statistics of finished runs, under the rules stated in this package's docstring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from llm4rec_cli.data.streams import stream
from llm4rec_cli.errors import UsageError
from llm4rec_cli.evaluation.metrics import direction
from llm4rec_cli.evaluation.paired import holm, paired_differences
from llm4rec_cli.results.pairing import PairedValues, pair_runs, shared_metrics
from llm4rec_cli.results.result import Result
from llm4rec_cli.results.variants import Variant
from llm4rec_cli.results.words import MIN_SEEDS, is_tunable, title, tuned_more, tuning_in_words
from llm4rec_studies.claims import render, select
from llm4rec_studies.claims.spec import Claim, ClaimResult, ClaimTest, Rule, Verdict, shipped_claims
from llm4rec_studies.human.export import REFERENCE
from llm4rec_studies.human.score import RESULT, SheetResult, read_scores

MIN_EXAMPLES = 100  # of a metric without an interval
SYNTHETIC_ONLY = "only runs on synthetic data, which do not count"
SIGNIFICANCE = 0.05  # of a family of comparisons
CROSSES_MARGIN = "the interval crosses the margin"


def judge_claims(outputs: Path, claims: Iterable[Claim] | None = None) -> list[ClaimResult]:
    """Test claims against the finished runs under `outputs`, and against filled sheets that `human export --out` wrote
    to a subfolder of it.

    There is at least one result for each test, in the order of the claims; one for each dataset and protocol.
    """
    variants = select.variants_under(outputs)
    results = []
    for claim in shipped_claims() if claims is None else claims:
        for test in claim.tests:
            if test.rule is Rule.preferred:
                results += _judge_sheets(claim, test, outputs)
            elif test.a is None:
                results += _judge_variants(claim, test, variants)
            else:
                results += _judge_pairs(claim, test, variants)
    return _corrected(results)


def _corrected(results: Sequence[ClaimResult]) -> list[ClaimResult]:
    """Return the results with Holm's correction within each family: a verdict of support must survive it."""
    corrected = list(results)
    for family in {result.claim.family for result in results}:
        members = [(i, r.p) for i, r in enumerate(results) if r.claim.family == family and r.p is not None]
        p_holm = holm(np.array([p for _, p in members]))
        for (i, p), p_corrected in zip(members, p_holm, strict=True):
            if results[i].verdict is Verdict.supported and len(members) > 1:
                verdict = Verdict.supported if p_corrected <= SIGNIFICANCE else Verdict.inconclusive
                reason = f"p {p:.2g}, after Holm's correction for {len(members)} comparisons {p_corrected:.2g}"
                corrected[i] = replace(results[i], verdict=verdict, reason=reason)
    return corrected


def decide(rule: Rule, low: float, high: float, margin: float) -> Verdict:
    """Return the verdict on a comparison of A and B.

    Args:
        low, high: interval of how much better B is than A; positive where B is better.
        margin: a difference, 0 or more.
    """
    supported, refuted = {
        Rule.superior: (low > margin, high < margin),
        Rule.not_inferior: (low > -margin, high < -margin),
        Rule.inferior: (high < -margin, low > -margin),
        Rule.equivalent: (-margin < low and high < margin, high < -margin or low > margin),
    }[rule]
    return Verdict.supported if supported else Verdict.not_supported if refuted else Verdict.inconclusive


def p_of_claim(rule: Rule, above: tuple[float, float], sign: int) -> float:
    """Return the p-value of the hypothesis that a rule's claim rejects, at most 5 % where its interval supports it.

    It is one-sided, and doubled for the rules with a 95 % interval. `above` is `Difference.p_above`; `sign` is −1 if
    lower values of the metric are better.
    """
    # Of "B is better by at most −margin" and "… at most +margin": B − A is negated where lower values are better.
    at_most_minus, at_most_plus = above if sign > 0 else (1 - above[1], 1 - above[0])
    return {
        Rule.superior: min(1.0, 2 * at_most_plus),
        Rule.not_inferior: at_most_minus,
        Rule.inferior: min(1.0, 2 * (1 - at_most_minus)),
        Rule.equivalent: max(at_most_minus, 1 - at_most_plus),
    }[rule]


def _without_verdict(result: ClaimResult, reason: str = SYNTHETIC_ONLY) -> ClaimResult:
    """Return a result on synthetic data with its numbers but without its verdict."""
    return replace(result, verdict=Verdict.not_run, p=None, reason="; ".join(filter(None, [reason, result.reason])))


# --- B compared with A


def _judge_pairs(claim: Claim, test: ClaimTest, variants: Sequence[Variant]) -> list[ClaimResult]:
    """Return a result for each dataset and protocol that runs of A and B share."""
    assert test.a is not None
    variants_a, variants_b = ([v for v in variants if select.matches(v, side, test)] for side in (test.a, test.b))
    pairs = select.best_pairs(test, variants_a, variants_b)
    if real := [pair for pair in pairs if not select.is_synthetic(pair[0])]:
        return [_judge_pair(claim, test, a, b) for a, b in real]
    missing = [name for name, side in (("A", variants_a), ("B", variants_b)) if all(map(select.is_synthetic, side))]
    reason = "the runs of A and B differ in data, protocol, examples or settings"
    if missing:
        reason = SYNTHETIC_ONLY if pairs else f"no finished run of {' or '.join(missing)} on real data"
    results = [_without_verdict(_judge_pair(claim, test, a, b), reason) for a, b in pairs]
    return results or [ClaimResult(claim, test, Verdict.not_run, reason)]


def _judge_pair(claim: Claim, test: ClaimTest, a: Variant, b: Variant) -> ClaimResult:
    runs_a, runs_b = select.seeds_of(a), select.seeds_of(b)
    runs = [*runs_a, *runs_b]
    split = a.first_run.split_rule
    result = partial(ClaimResult, claim, test, data=title(a.first_run), runs=[run.folder for run in runs], split=split)
    has_examples = _has_value_per_example(test.metric, runs)
    try:
        values = _values(test, runs_a, runs_b, has_examples)
    except UsageError as error:
        return result(Verdict.not_run, error.problem)
    permutation = stream(0, "claims: permutation")
    (difference,) = paired_differences(values.a, values.b, values.user, permutation, test.margin).values()
    result = partial(result, numbers=render.pair_numbers(test, difference, values, a, b, has_examples))
    if reason := select.untestable_reason(test, runs):
        return result(Verdict.not_testable, reason)
    needs_seeds = a.is_trained or b.is_trained or not has_examples
    if needs_seeds and select.n_seeds(a, b) < MIN_SEEDS:
        return result(Verdict.inconclusive, f"{select.n_seeds(a, b)} of {MIN_SEEDS} required seeds")
    assert difference.margin is not None
    interval = difference.margin_interval_90 if test.level == 90 else difference.margin_interval
    low, high = sorted(direction(test.metric) * end for end in interval)
    verdict = decide(test.rule, low, high, difference.margin)
    assert difference.p_above is not None
    p = p_of_claim(test.rule, difference.p_above, direction(test.metric))
    if verdict is Verdict.supported and (reason := _tuned_more(test.rule, a, b)):
        return result(Verdict.inconclusive, reason, p=p)
    return result(verdict, CROSSES_MARGIN if verdict is Verdict.inconclusive else "", p=p)


def _tuned_more(rule: Rule, a: Variant, b: Variant) -> str:
    """Return the budgets where the side that a rule favours had the larger search; empty if it had not."""
    favoured, other = (a, b) if rule is Rule.inferior else (b, a)
    if not is_tunable(other.first_run.model):
        return ""
    if not tuned_more(favoured.first_run, other.first_run):
        return ""
    words = (f"{side} {tuning_in_words(variant.first_run)}" for side, variant in (("A", a), ("B", b)))
    return f"tuning budgets differ: {', '.join(words)}"


def _has_value_per_example(metric: str, runs: Sequence[Result]) -> bool:
    """Return whether a metric has a value for each example. Other metrics have one for each run."""
    try:
        return bool(shared_metrics(runs, [metric]))
    except UsageError:
        return False


def _values(test: ClaimTest, runs_a: Sequence[Result], runs_b: Sequence[Result], has_examples: bool) -> PairedValues:
    """Return the metric of each run of A and B on their common examples, or once for each run if it has no value per
    example. Raises UsageError if the runs cannot be paired."""
    name = test.metric
    if has_examples:
        return pair_runs(runs_a, runs_b, [name], test.targets)
    a, b = ([{name: np.array([run.metrics[name]])} for run in runs] for runs in (runs_a, runs_b))
    return PairedValues(np.zeros(1), a, b)


# --- metrics of B alone


def _judge_variants(claim: Claim, test: ClaimTest, variants: Sequence[Variant]) -> list[ClaimResult]:
    """Return a result for each dataset and protocol of B's runs."""
    matches = [variant for variant in variants if select.matches(variant, test.b, test)]
    if isinstance(test.threshold, str):
        matches = [variant for variant in matches if variant.values(test.threshold)]
    if not matches:
        return [ClaimResult(claim, test, Verdict.not_run, "no finished run on real data")]
    best = select.best_by_protocol(test, matches)
    if real := [variant for variant in best if not select.is_synthetic(variant)]:
        return [_judge_variant(claim, test, variant) for variant in real]
    return [_without_verdict(_judge_variant(claim, test, variant)) for variant in best]


def _judge_variant(claim: Claim, test: ClaimTest, variant: Variant) -> ClaimResult:
    runs = variant.runs
    threshold = variant.mean(test.threshold) if isinstance(test.threshold, str) else float(test.threshold or 0)
    interval, values = variant.intervals.get(test.metric), variant.values(test.metric)
    low, high = interval or (min(values), max(values))
    numbers = render.variant_numbers(test, variant, interval, threshold)
    result = partial(
        ClaimResult,
        claim,
        test,
        data=title(variant.first_run),
        numbers=numbers,
        runs=[run.folder for run in runs],
        split=runs[0].split_rule,
    )
    if reason := select.untestable_reason(test, variant.runs):
        return result(Verdict.not_testable, reason)
    if variant.is_trained and len(runs) < MIN_SEEDS:
        return result(Verdict.inconclusive, f"{len(runs)} of {MIN_SEEDS} required seeds")
    if interval is None and any(test.metric in run.intervals for run in runs):
        return result(Verdict.inconclusive, "each seed has an interval, but their predictions are missing or differ")
    if interval is None and runs[0].n_examples < MIN_EXAMPLES:
        return result(Verdict.inconclusive, f"without an interval at least {MIN_EXAMPLES} examples are needed")
    verdict = decide(Rule.superior, low - threshold, high - threshold, test.margin.absolute(threshold))
    return result(verdict, CROSSES_MARGIN if verdict is Verdict.inconclusive else "")


# --- people's judgements


def _judge_sheets(claim: Claim, test: ClaimTest, outputs: Path) -> list[ClaimResult]:
    """Return a result for each criterion of each set of scored sheets that includes B."""
    scores = [read_scores(path) for path in sorted(outputs.glob(f"*/{RESULT}"))]
    scores = [s for s in scores if s.task == test.task and any(run.model == test.b.model for run in s.runs)]
    if not scores:
        return [ClaimResult(claim, test, Verdict.not_run, "no scored sheets")]
    real = [sheets for sheets in scores if not sheets.synthetic]
    results = [_judge_criterion(claim, test, sheets, name) for sheets in real or scores for name in sheets.criteria]
    return results if real else [_without_verdict(result) for result in results]


def _judge_criterion(claim: Claim, test: ClaimTest, sheets: SheetResult, name: str) -> ClaimResult:
    """Compare the best system of B with the best other system by their mean ranks under one criterion."""
    criterion, runs = sheets.criteria[name], sheets.runs
    data = f"{sheets.dataset} · {sheets.task} · {name}"
    result = partial(ClaimResult, claim, test, data=data, runs=[Path(run.run) for run in runs])
    if not criterion.enough:
        few = f"{criterion.raters} raters and {criterion.examples} examples are too few"
        return result(Verdict.inconclusive, few)
    ranks = {system: numbers.mean_rank for system, numbers in criterion.systems.items()}
    systems_b = {run.system for run in runs if run.model == test.b.model}
    other_systems = ranks.keys() - systems_b - {REFERENCE}
    if not other_systems:
        return result(Verdict.not_run, "no other system was judged on the same sheets")
    a, b = (min(systems, key=lambda system: ranks[system].mean) for systems in (other_systems, systems_b))
    result = partial(result, numbers=render.rank_numbers({a: ranks[a], b: ranks[b]}))
    marks = {mark for run in runs for mark in (*run.labels, f"llm={run.chat_model}")}
    if reason := select.reason_of_marks(test, marks):
        return result(Verdict.not_testable, reason)
    (low_a, high_a), (low_b, high_b) = ranks[a].interval, ranks[b].interval
    margin = test.margin.absolute(ranks[a].mean)
    verdict = decide(Rule.superior, low_a - high_b, high_a - low_b, margin)  # lower ranks are better
    return result(verdict, "the intervals overlap" if verdict is Verdict.inconclusive else "")
