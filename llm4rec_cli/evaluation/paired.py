"""Paired comparison of two models on the same examples: differences of means, t intervals, and margins.

The interval and p come from the t distribution of a mean over users and seeds (`crossed`): users are paired, as both
models are evaluated on the same ones, seeds are not. With one seed of each they say nothing about new trainings.

A large p does not show that two models are equivalent. For that, a margin is fixed before the numbers are seen: they
are equivalent if the 90 % interval lies within it, which amounts to both one-sided tests at 5 % (TOST). A relative
margin is compared with the interval of the ratio of the means, by the delta method on logs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.evaluation import crossed
from llm4rec_cli.evaluation.metrics import direction

FloatArray = NDArray[np.floating[Any]]
Values = Mapping[str, FloatArray]  # metric -> (n,), one per example


@dataclass(frozen=True)
class Margin:
    """An equivalence margin: the difference up to which two means count as equal."""

    size: float  # a difference, or a fraction of A's mean
    relative: bool = False  # whether `size` is a fraction

    @classmethod
    def parse(cls, text: str) -> Margin:
        """Return the margin of a text: `0.005`, or `5%` of A's mean. Raises ValueError if the text is neither, or below
        zero."""
        number, percent, rest = text.strip().partition("%")
        size = float(number) / (100 if percent else 1)
        if rest or not 0 <= size < math.inf:
            raise ValueError(f"cannot read the margin '{text}'")
        return cls(size, bool(percent))

    def absolute(self, mean: float) -> float:
        """Return the margin as a difference, for this mean of A."""
        return self.size * abs(mean) if self.relative else self.size

    def __str__(self) -> str:
        return f"{100 * self.size:g} %" if self.relative else f"{self.size:g}"


@dataclass(frozen=True)
class Difference:
    """One metric of two models, A and B.

    Attributes:
        a, b: the means over seeds and examples.
        difference: b - a.
        ratio, ratio_interval: b / a, and its 95 % t interval on the log scale; None where a mean is not above 0.
        interval, interval_90: t intervals of the difference at 95 and 90 %, over users and seeds.
        p: two-sided; the 95 % interval inverts it. Where nothing varies, `_p_without_error`.
        p_holm: p, Holm-corrected for the differences reported together.
        better, equal, worse: number of examples where B is, by the mean over seeds. A lower error is better.
        margin: the difference up to which they count as equal; None = no margin.
        margin_interval, margin_interval_90: the intervals that a margin is compared with: those of the difference, or
            under a relative margin those of the ratio of the means less 1, times A's mean.
        equivalent: whether the second lies within the margin.
        p_above: one-sided p-values of the hypotheses that B − A is at most −margin, and at most +margin; 1 − p is that
            of the opposite hypothesis. The intervals that a margin is compared with invert them.
    """

    a: float
    b: float
    difference: float
    ratio: float | None
    ratio_interval: tuple[float, float] | None
    interval: tuple[float, float]
    interval_90: tuple[float, float]
    p: float
    p_holm: float
    better: int
    equal: int
    worse: int
    margin_interval: tuple[float, float]
    margin_interval_90: tuple[float, float]
    margin: float | None = None
    equivalent: bool | None = None
    p_above: tuple[float, float] | None = None


def paired_differences(
    a: Sequence[Values],
    b: Sequence[Values],
    user: NDArray[Any],
    margin: Margin | None = None,
) -> dict[str, Difference]:
    """Compare A and B in every metric; p_holm corrects for all metrics.

    Args:
        a, b: for each seed (n,) values per metric; position i is the same example in all. A model that is not trained
            has one.
        user: (n,) the user of each example.
    """
    names = list(a[0])
    values_a, values_b = ({name: [run[name] for run in runs] for name in names} for runs in (a, b))
    over_seeds = {name: np.mean(values_b[name], axis=0) - np.mean(values_a[name], axis=0) for name in names}
    n_users = len(np.unique(user))
    differences = {}
    for name in names:
        means_a, means_b = (np.mean(values[name], axis=1) for values in (values_a, values_b))
        by_user_a, by_user_b = (crossed.means_by_user(values[name], user) for values in (values_a, values_b))
        estimate = crossed.difference(by_user_b, by_user_a)
        n_seeds = len(means_a), len(means_b)
        p = estimate.p_value() if estimate.error > 0 else _p_without_error(estimate.value, n_users, n_seeds)
        mean_a = float(means_a.mean())
        wide, narrow = estimate.interval(0.95), estimate.interval(0.90)
        margin_wide, margin_narrow = wide, narrow
        allowed = None if margin is None else margin.absolute(mean_a)
        p_above = None if allowed is None else (estimate.p_above(-allowed), estimate.p_above(allowed))
        ratio = None
        if min(*means_a, *means_b) > 0:
            ratio = crossed.difference(crossed.on_log_scale(by_user_b), crossed.on_log_scale(by_user_a))
        if margin is not None and margin.relative and ratio:
            margin_wide, margin_narrow = (_scaled(ratio.interval(level), mean_a) for level in (0.95, 0.90))
            bounds = (math.log1p(-margin.size) if margin.size < 1 else -math.inf, math.log1p(margin.size))
            p_above = (ratio.p_above(bounds[0]), ratio.p_above(bounds[1]))
        gains = direction(name) * over_seeds[name]
        differences[name] = Difference(
            a=mean_a,
            b=float(means_b.mean()),
            difference=estimate.value,
            ratio=float(np.exp(ratio.value)) if ratio else None,
            ratio_interval=_exponential(ratio.interval()) if ratio else None,
            interval=wide,
            interval_90=narrow,
            p=p,
            p_holm=p,
            better=int((gains > 0).sum()),
            equal=int((gains == 0).sum()),
            worse=int((gains < 0).sum()),
            margin_interval=margin_wide,
            margin_interval_90=margin_narrow,
            margin=allowed,
            equivalent=None if allowed is None else -allowed < margin_narrow[0] and margin_narrow[1] < allowed,
            p_above=p_above,
        )
    (corrected,) = as_one_family([differences])
    return corrected


def _p_without_error(difference: float, n_users: int, n_seeds: tuple[int, int]) -> float:
    """Return p where no user and no training differs from another, so that t has no error to go by.

    It is the larger p of two permutation tests: of all signs of the users' differences, and of all ways to divide the
    trainings between A and B, only these and their mirror images are as far apart.
    """
    if difference == 0:
        return 1.0
    a, b = n_seeds
    over_seeds = (2 if a == b else 1) / math.comb(a + b, a) if min(a, b) > 1 else 0.0
    return max(2.0 ** (1 - n_users), over_seeds)


def _exponential(log_ratio: tuple[float, float]) -> tuple[float, float]:
    """Return the interval of a log ratio as one of the ratio."""
    with np.errstate(over="ignore"):  # of an interval that says nothing: up to infinity
        low, high = (float(np.exp(end)) for end in log_ratio)
    return low, high


def _scaled(log_ratio: tuple[float, float], mean_a: float) -> tuple[float, float]:
    """Return the interval of a log ratio as one of differences from A's mean."""
    low, high = _exponential(log_ratio)
    return mean_a * (low - 1), mean_a * (high - 1)


def as_one_family(compared: Sequence[Mapping[str, Difference]]) -> list[dict[str, Difference]]:
    """Return the differences with p_holm corrected over all metrics of all pairs."""
    corrected = iter(holm(np.array([d.p for pair in compared for d in pair.values()])))
    return [
        {name: dataclasses.replace(d, p_holm=float(next(corrected))) for name, d in pair.items()} for pair in compared
    ]


def holm(p: FloatArray) -> FloatArray:
    """Return (m,) Holm-corrected p-values of a family. The probability of any false rejection is at most α."""
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected
