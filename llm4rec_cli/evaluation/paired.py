"""Two models on the same examples: how far apart their means are, and how easily chance alone would part them so.

The null hypothesis: for each user it is a toss of a coin which of the two values came from which model. Then every
user's difference may as well have the other sign, and the observed mean difference is one of the equally likely ones
that all choices of signs give. Nothing is assumed about how the values are distributed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec_cli.evaluation.bootstrap import bootstrap_intervals
from llm4rec_cli.evaluation.rating import direction

FloatArray = NDArray[np.floating[Any]]

PERMUTATIONS = 10_000
SIGNS_AT_ONCE = 4_000_000  # 32 MB: a block of permutations, whatever the number of users


@dataclass(frozen=True)
class Difference:
    """One metric of two models, A and B.

    Attributes:
        a, b: the means.
        difference: b - a.
        interval: 95 % bootstrap interval of the difference, over users.
        p: two-sided, of the sign-flip test.
        p_holm: the same, corrected for the number of metrics compared together.
        better, equal, worse: for how many users B is; of an error the lower is better.
    """

    a: float
    b: float
    difference: float
    interval: tuple[float, float]
    p: float
    p_holm: float
    better: int
    equal: int
    worse: int


def paired_differences(
    a: Mapping[str, FloatArray],
    b: Mapping[str, FloatArray],
    bootstrap: np.random.Generator,
    permutation: np.random.Generator,
) -> dict[str, Difference]:
    """Compares every metric of A with the same of B.

    Args:
        a, b: (n,) values a metric; position i of both belongs to the same user.
        bootstrap, permutation: what draws the resamples of intervals and the signs of the test; all metrics share them.
    """
    differences = {name: b[name] - a[name] for name in a}
    intervals = bootstrap_intervals(differences, bootstrap)
    p = sign_flip_p(np.stack(list(differences.values()), axis=1), permutation)
    return {
        name: Difference(
            a=float(a[name].mean()),
            b=float(b[name].mean()),
            difference=float(d.mean()),
            interval=intervals[name],
            p=float(p[i]),
            p_holm=float(holm(p)[i]),
            better=int((direction(name) * d > 0).sum()),
            equal=int((d == 0).sum()),
            worse=int((direction(name) * d < 0).sum()),
        )
        for i, (name, d) in enumerate(differences.items())
    }


def sign_flip_p(differences: FloatArray, rng: np.random.Generator, permutations: int = PERMUTATIONS) -> FloatArray:
    """Two-sided p-values of paired permutation tests of the mean.

    Args:
        differences: (n, metrics) one row a user.
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
