"""Results of claims as a table and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm4rec_cli.evaluation.paired import Difference
from llm4rec_cli.results.pairing import PairedValues
from llm4rec_cli.results.tables import Content
from llm4rec_cli.results.variants import Variant
from llm4rec_cli.results.words import count_in_words, shown_as
from llm4rec_studies.claims.spec import ClaimResult, ClaimTest, Rule, Side
from llm4rec_studies.human.agreement import Estimate

COLUMNS = ("claim", "words", "source", "tested by", "rule", "data", "numbers", "verdict", "because", "to run")
RULES_IN_WORDS = {
    Rule.superior: "{metric}: B better than A by more than {margin}",
    Rule.not_inferior: "{metric}: B not worse than A by {margin} or more",
    Rule.equivalent: "{metric}: B within ±{margin} of A",
    Rule.inferior: "{metric}: B worse than A by more than {margin}",
    Rule.above: "{metric} of {model} above {threshold} by more than {margin}",
    Rule.preferred: "mean rank of {model}'s texts ahead of all other systems' by more than {margin}",
}


def claims_text(results: Sequence[ClaimResult]) -> list[str]:
    """Return lines for a terminal: each claim, and its verdicts with their rule, numbers and reason."""
    lines = []
    for previous, result in zip([None, *results], results, strict=False):
        if previous is None or previous.claim is not result.claim:
            lines += ["", f"{result.claim.id}: {result.claim.words} ({result.claim.source})"]
        facts = [rule_in_words(result.test), result.data, result.numbers, result.reason]
        lines.append(f"  {result.verdict_in_words} · {' · '.join(filter(None, facts))}")
    return lines[1:]


def commands_to_run(results: Sequence[ClaimResult]) -> list[str]:
    """Return the commands that produce the missing runs, each after the claim that needs it."""
    return list(dict.fromkeys(f"{result.claim.id}: {command}" for result in results for command in result.commands))


def claims_content(results: Sequence[ClaimResult]) -> Content:
    rows = [
        [
            *(result.claim.id, result.claim.words, result.claim.source, ", ".join(result.test.experiments)),
            *(rule_in_words(result.test), result.data, result.numbers, result.verdict_in_words, result.reason),
            "; then ".join(result.commands),
        ]
        for result in results
    ]
    return Content("the papers' claims", COLUMNS, rows)


def rule_in_words(test: ClaimTest) -> str:
    """Return `text alone: ndcg@10: B better than A by more than 5 %; A: sasrec; B: unisrec`."""
    rule = RULES_IN_WORDS[test.rule].format(
        metric=test.metric, model=test.b.model, margin=test.margin, threshold=test.threshold
    )
    about = f"{test.about}: " if test.about else ""
    sides = f"; A: {_side_in_words(test.a)}; B: {_side_in_words(test.b)}" if test.a else ""
    return f"{about}{rule}{sides}"


def _side_in_words(side: Side) -> str:
    """Return `p5 (model.whole_word=never, trained for all)`."""
    marks = [f"{key}={value}".replace("'", "") for key, value in side.settings.items()]
    marks += side.labels
    marks += [] if side.trained_for is None else [f"trained for {side.trained_for}"]
    marks += [] if side.pretrained is None else ["pre-trained" if side.pretrained else "from scratch"]
    name = f"{side.model} ({', '.join(marks)})" if marks else side.model
    return f"the best {name}" if side.best else name


def pair_numbers(
    test: ClaimTest, difference: Difference, values: PairedValues, a: Variant, b: Variant, has_examples: bool
) -> str:
    """Return both means, the difference with the interval that decides, the means of each seed, and the runs'
    labels."""
    low, high = difference.margin_interval_90 if test.level == 90 else difference.margin_interval
    metric = f"{test.targets}/{test.metric}" if test.targets else test.metric
    over = "" if has_examples else " over seeds alone"
    seeds_a, seeds_b = (" ".join(f"{run[test.metric].mean():.4f}" for run in side) for side in (values.a, values.b))
    parts = [
        f"{metric}: A {shown_as(a.first_run)} {difference.a:.4f}, B {shown_as(b.first_run)} {difference.b:.4f}",
        f"B − A {difference.difference:+.4f} ({test.level} %{over}: {low:+.4f} to {high:+.4f}; "
        f"margin {difference.margin:.4f})",
        f"by seed A {seeds_a}, B {seeds_b}",
        count_in_words(a.first_run, len(values.user) if has_examples else a.first_run.n_examples),
        ", ".join(sorted({*a.labels, *b.labels})),
    ]
    return "; ".join(filter(None, parts))


def variant_numbers(test: ClaimTest, variant: Variant, interval: tuple[float, float] | None, threshold: float) -> str:
    """Return a variant's mean with its interval, the metric that serves as threshold, and how many seeds and examples
    they cover."""
    run = variant.first_run
    within = " (no interval)" if interval is None else f" ({interval[0]:.4f} to {interval[1]:.4f})"
    own_threshold = f", {test.threshold} {threshold:.4f}" if isinstance(test.threshold, str) else ""
    return (
        f"{shown_as(run)} {test.metric} {variant.mean(test.metric):.4f}{within}{own_threshold}; "
        f"{len(variant.runs)} seed{'s' * (len(variant.runs) > 1)}, {count_in_words(run, run.n_examples)}"
    )


def rank_numbers(ranks: Mapping[str, Estimate]) -> str:
    return "; ".join(
        f"{system} mean rank {rank.mean:.2f} ({rank.interval[0]:.2f} to {rank.interval[1]:.2f})"
        for system, rank in ranks.items()
    )
