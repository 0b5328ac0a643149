"""Claims as data: what `claims.yaml` states, and the result of one test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from llm4rec_cli.evaluation.paired import Margin


class Rule(Enum):
    """What a test claims about B."""

    superior = "superior"
    not_inferior = "not_inferior"
    equivalent = "equivalent"
    inferior = "inferior"
    above = "above"
    preferred = "preferred"


class Verdict(Enum):
    """What the runs say about a claim."""

    supported = "supported"
    not_supported = "not supported"
    inconclusive = "inconclusive"
    not_testable = "not testable with this backbone or data"
    not_run = "not run"


@dataclass(frozen=True)
class Side:
    """The finished runs on one side of a comparison; models with tokens only if `settings` name them."""

    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)  # dotted key of config.yaml -> value, or alternatives
    labels: Sequence[str] = ()  # must be present; runs with unusual labels are excluded unless listed here
    trained_for: str | None = None  # the training run's task, `all` or a single one; None = any
    pretrained: bool | None = None  # whether training started from another run's weights; None = either
    best: bool = False  # of several variants take the one with the best mean


@dataclass(frozen=True)
class ClaimTest:
    """One way to test a claim about B, by comparison with A or by B's own metrics."""

    task: str
    metric: str
    rule: Rule
    margin: Margin
    b: Side
    commands: Sequence[str]  # produce the required runs
    experiments: Sequence[str] = ()  # that test the claim
    about: str = ""  # the part of the claim that is tested, if there are several
    a: Side | None = None  # None: B's own metrics decide
    threshold: str | float | None = None  # of rule `above`: another metric of the same run, or a number
    protocol: str | None = None  # None = any
    targets: str | None = None  # `cold` or `warm`: only these count
    may_differ: Sequence[str] | None = None  # settings, besides those that a side names; None = all
    untestable: Mapping[str, str] = field(default_factory=dict)  # label, `llm=NAME` or `FACT!=VALUE` -> reason

    @property
    def level(self) -> int:
        """The confidence level in percent; 90 corresponds to one-sided tests at 5 %."""
        return 90 if self.rule in (Rule.not_inferior, Rule.equivalent) else 95


@dataclass(frozen=True)
class Claim:
    """A claim in our words, its source, and its tests."""

    id: str
    words: str
    source: str
    family: str  # of the claims whose comparisons are corrected together for multiple testing
    tests: Sequence[ClaimTest]


@dataclass(frozen=True)
class ClaimResult:
    """The result of one test on one dataset under one protocol."""

    claim: Claim
    test: ClaimTest
    verdict: Verdict
    reason: str = ""  # why it is undecided, or what else to know
    data: str = ""  # dataset and protocol; empty if nothing was run
    numbers: str = ""  # those that decided, or those of synthetic data
    runs: Sequence[Path] = ()  # folders
    p: float | None = None  # at most 5 % where the interval supports the claim; None if nothing was compared
    split: str = ""  # rule by which the runs were split; a verdict holds under that rule alone

    @property
    def commands(self) -> Sequence[str]:
        """Commands that produce the missing runs; empty if none are missing."""
        return self.test.commands if self.verdict is Verdict.not_run else ()

    @property
    def verdict_in_words(self) -> str:
        """Return `supported under leave-one-out`: the verdict, and the split that a decision holds under."""
        decided = self.verdict in (Verdict.supported, Verdict.not_supported)
        return (
            f"{self.verdict.value} under {self.split.replace('_', '-')}"
            if decided and self.split
            else self.verdict.value
        )


@cache
def shipped_claims() -> tuple[Claim, ...]:
    """Return the claims of claims.yaml."""
    return parse_claims((files("llm4rec_studies.claims") / "claims.yaml").read_text(encoding="utf-8"))


def parse_claims(text: str) -> tuple[Claim, ...]:
    """Return the claims of a YAML text whose keys are the attributes of `Claim`, `ClaimTest` and `Side`. Raises
    TypeError or ValueError if a key is unknown or missing, or a value is invalid."""
    return tuple(
        Claim(**{**claim, "tests": tuple(_parse_test(test) for test in claim["tests"])})
        for claim in yaml.safe_load(text)
    )


def _parse_test(test: Mapping[str, Any]) -> ClaimTest:
    sides = {name: Side(**test[name]) for name in ("a", "b") if name in test}
    rule = {"rule": Rule(test["rule"]), "margin": Margin.parse(str(test["margin"]))}
    return ClaimTest(**{**test, **sides, **rule})
