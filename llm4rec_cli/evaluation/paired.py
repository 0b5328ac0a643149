"""Two models on the same examples: how far apart their means are, and how easily chance alone would part them so.

Of one run each the null hypothesis is: for each user it is a toss of a coin which of the two values came from which
model. Then every user's difference may as well have the other sign, and the observed mean difference is one of the
equally likely ones that all choices of signs give. Nothing is assumed about how the values are distributed.

Of several seeds, users × seeds, there are two ways in which a difference may be chance, and so two null hypotheses:

- over users: the coin above, one a user for all seeds together, as what one user gets of several trainings is alike;
- over trainings: the two models are one, and any of all their trainings might have been called A's.

The first says nothing of a model trained anew, the second nothing of other users. p is the larger of the two: it is
small only where both are refused. That is a test of the hypothesis that at least one of them holds, and needs no
correction. Two times three trainings can be parted in 20 ways, so p cannot fall below 0.1 with three seeds, below 0.029
with four, below 0.008 with five. Intervals are bootstraps in which users and seeds are drawn, both with replacement.

No small p shows that two models are alike. That is what a margin is for, written down before the numbers are seen: they
are equivalent where the 90 % interval lies within it, which is both one-sided tests at 5 % (TOST).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.evaluation.bootstrap import bootstrap_over_seeds
from llm4rec_cli.evaluation.metrics import direction

FloatArray = NDArray[np.floating[Any]]
Values = Mapping[str, FloatArray]  # metric -> (n,), one an example

PERMUTATIONS = 10_000
SIGNS_AT_ONCE = 4_000_000  # 32 MB: a block of permutations, whatever the number of users
COUNT = "n"  # no metric's name


@dataclass(frozen=True)
class Margin:
    """How far apart two means may be and still count as equal.

    Attributes:
        size: a difference, or a share of A's mean.
        relative: whether it is a share.
    """

    size: float
    relative: bool = False

    @classmethod
    def read(cls, text: str) -> Margin:
        """`0.005`, or `5%` of A's mean.

        Raises:
            ValueError: it is neither, or below zero.
        """
        number, percent, rest = text.strip().partition("%")
        size = float(number) / (100 if percent else 1)
        if rest or not 0 <= size < math.inf:
            raise ValueError(f"'{text}' is no margin")
        return cls(size, bool(percent))

    def of(self, mean: float) -> float:
        """The difference that it allows, where A's mean is this."""
        return self.size * abs(mean) if self.relative else self.size

    def __str__(self) -> str:
        return f"{100 * self.size:g} %" if self.relative else f"{self.size:g}"


@dataclass(frozen=True)
class Difference:
    """One metric of two models, A and B.

    Attributes:
        a, b: the means, over seeds and examples.
        difference: b - a.
        interval: 95 % bootstrap interval of the difference, over users and seeds.
        interval_90: the same of 90 %.
        p: two-sided; of several seeds the larger of the next two.
        p_users: of the sign-flip test over users.
        p_seeds: of the permutation test over trainings; None of one seed.
        p_holm: p, corrected for the number of differences told together.
        better, equal, worse: for how many examples B is, by the mean over seeds; of an error the lower is better.
        margin: the difference up to which they count as equal; None where none was given.
        equivalent: whether the interval of 90 % lies within the margin.
    """

    a: float
    b: float
    difference: float
    interval: tuple[float, float]
    interval_90: tuple[float, float]
    p: float
    p_users: float
    p_seeds: float | None
    p_holm: float
    better: int
    equal: int
    worse: int
    margin: float | None = None
    equivalent: bool | None = None


def paired_differences(
    a: Sequence[Values],
    b: Sequence[Values],
    user: NDArray[Any],
    bootstrap: np.random.Generator,
    permutation: np.random.Generator,
    margin: Margin | None = None,
) -> dict[str, Difference]:
    """Compares every metric of A with the same of B.

    Args:
        a, b: of each seed (n,) values a metric; position i of all is about the same example.
        user: (n,) whose example it is.
        bootstrap, permutation: what draws the resamples of intervals and the signs of the test; all metrics share them.
        margin: of equivalence.

    Returns:
        A difference a metric; p_holm is of these together.
    """
    names = list(a[0])
    by_seed = [{name: of_b[name] - of_a[name] for name in names} for of_a, of_b in zip(a, b, strict=True)]
    over_seeds = {name: np.mean([of[name] for of in by_seed], axis=0) for name in names}
    wide, narrow = (_intervals(by_seed, user, bootstrap, level) for level in (0.95, 0.90))
    _, number = np.unique(user, return_inverse=True)
    by_user: FloatArray = np.stack([np.bincount(number, over_seeds[name]) for name in names], axis=1).astype(float)
    found = {}
    for name, p_users in zip(names, sign_flip_p(by_user, permutation), strict=True):
        of_a, of_b = (np.array([of[name].mean() for of in side]) for side in (a, b))
        p_seeds = seed_permutation_p(of_a, of_b, permutation) if len(by_seed) > 1 else None
        p = max(float(p_users), p_seeds or 0.0)
        d, mean_a, mean_b = direction(name) * over_seeds[name], float(of_a.mean()), float(of_b.mean())
        allowed = None if margin is None else margin.of(mean_a)
        found[name] = Difference(
            a=mean_a,
            b=mean_b,
            difference=float(over_seeds[name].mean()),
            interval=wide[name],
            interval_90=narrow[name],
            p=p,
            p_users=float(p_users),
            p_seeds=p_seeds,
            p_holm=p,
            better=int((d > 0).sum()),
            equal=int((d == 0).sum()),
            worse=int((d < 0).sum()),
            margin=allowed,
            equivalent=None if allowed is None else -allowed < narrow[name][0] and narrow[name][1] < allowed,
        )
    (corrected,) = as_one_family([found])
    return corrected


def as_one_family(compared: Sequence[Mapping[str, Difference]]) -> list[dict[str, Difference]]:
    """The same differences, p_holm corrected for all metrics of all pairs together."""
    corrected = iter(holm(np.array([d.p for pair in compared for d in pair.values()])))
    return [
        {name: dataclasses.replace(d, p_holm=float(next(corrected))) for name, d in pair.items()} for pair in compared
    ]


def _intervals(
    by_seed: Sequence[Values], user: NDArray[Any], rng: np.random.Generator, level: float
) -> dict[str, tuple[float, float]]:
    """Of the mean of each metric, over users and seeds."""
    names = list(by_seed[0])

    def means(sums: Values) -> dict[str, FloatArray]:
        return {name: sums[name] / sums[COUNT] for name in names}

    columns = [{**of, COUNT: np.ones(len(user))} for of in by_seed]
    return bootstrap_over_seeds(columns, means, user, rng, level=level)


def sign_flip_p(differences: FloatArray, rng: np.random.Generator, permutations: int = PERMUTATIONS) -> FloatArray:
    """Two-sided p-values of paired permutation tests of the mean.

    Args:
        differences: (n, metrics) one row a user: the sum or mean of the user's.
        rng: what draws the signs; a permutation serves all metrics.
        permutations: how many of the 2^n choices of signs are drawn.

    Returns:
        (metrics,) p = (1 + #{|permuted mean| >= |observed mean|}) / (1 + permutations): the observed signs count as
        one draw, so p is never 0, and at most a share α of true null hypotheses get p <= α.
    """
    n, n_words = len(differences), -(-len(differences) // 64)
    total = differences.sum(axis=0)
    rounding = 1e-12 * np.abs(differences).sum(axis=0)  # sums of the same numbers in another order differ a little
    observed = np.abs(total) - rounding
    as_far = np.zeros(differences.shape[1], dtype=int)
    block = max(1, SIGNS_AT_ONCE // n)
    for start in range(0, permutations, block):
        words = rng.integers(2**64, size=(min(block, permutations - start), n_words), dtype=np.uint64)
        flipped = np.unpackbits(words.view(np.uint8), axis=1, count=n).astype(np.float64)
        as_far += (np.abs(total - 2 * (flipped @ differences)) >= observed).sum(axis=0)
    p: FloatArray = (1 + as_far) / (1 + permutations)
    return p


def seed_permutation_p(a: FloatArray, b: FloatArray, rng: np.random.Generator) -> float:
    """Two-sided p-value of the difference of two models' means, each training being as likely A's as B's.

    Args:
        a, b: (seeds,) the mean of each training.
        rng: what draws ways to part them where they are more than PERMUTATIONS, from eight seeds on.

    Returns:
        The share of the ways to call as many of all trainings A's whose means are as far apart.
    """
    from scipy.stats import permutation_test

    def apart(x: FloatArray, y: FloatArray, axis: int) -> FloatArray:
        difference: FloatArray = np.mean(x, axis=axis) - np.mean(y, axis=axis)
        return difference

    found = permutation_test((b, a), apart, vectorized=True, n_resamples=PERMUTATIONS, random_state=rng)
    return float(found.pvalue)


def smallest_p(seeds: int) -> float:
    """The smallest p that so many seeds of each model can have: all of B's above all of A's, or below."""
    return 2 / math.comb(2 * seeds, seeds)


def holm(p: FloatArray) -> FloatArray:
    """p-values of a family, corrected after Holm: one below α anywhere by chance happens with probability α at most.

    Args:
        p: (m,).

    Returns:
        (m,) the smallest times m, the next times m - 1, …; never below one that was smaller, and at most 1.
    """
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected
