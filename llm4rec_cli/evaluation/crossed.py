"""Means over users × seeds, and differences of two, with intervals that hold for few seeds.

A metric's value for user u after training with seed s is modelled as y = μ + user + seed + rest, users and seeds drawn
at random and crossed: every seed is evaluated on every user. Both count as a source of error, as readers and cases do
in studies of diagnostic tests; see Satterthwaite (Biometrics 1946) for the degrees of freedom, and Owen (Annals of
Applied Statistics 2007) on why resampling both factors estimates the same variance, but not its tails where one factor
has few levels: with three seeds the percentile interval of a bootstrap over seeds is [min, max], whatever its level.

The variance of the grand mean is σ²_user/U + σ²_seed/S + σ²_rest/(US). The sample variances of user means and of seed
means, over U and S, each hold the last term once, so that it is taken off once: V = V_user + V_seed − MS_rest/(US).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Estimate:
    """An estimate whose error is t-distributed.

    Attributes:
        value: the mean, or the difference of two.
        error: its standard error; 0 where nothing varies.
        df: degrees of freedom of the error.
    """

    value: float
    error: float
    df: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The two-sided t interval at this level."""
        half = stats.t.ppf((1 + level) / 2, self.df) * self.error if self.error > 0 else 0.0
        return self.value - float(half), self.value + float(half)

    def p_value(self, null: float = 0.0) -> float:
        """The two-sided p-value of the hypothesis that the true value is `null`; the interval inverts it."""
        if self.error == 0:
            return 1.0 if self.value == null else 0.0
        return float(2 * stats.t.sf(abs(self.value - null) / self.error, self.df))


def mean(values: FloatArray) -> Estimate:
    """The mean over users and seeds.

    Args:
        values: (users, seeds), at least two users. With one seed the error is over users alone.
    """
    return _estimate(float(values.mean()), values.mean(axis=1), [values])


def difference(b: FloatArray, a: FloatArray) -> Estimate:
    """The mean of b less that of a: users are paired, seeds are not.

    Seed i of one model has nothing in common with seed i of another one. A model with one column, such as a floor
    that is not trained, adds no variance over seeds.

    Args:
        b: (users, seeds of b), at least two users.
        a: (users, seeds of a), of the same users.
    """
    by_user = b.mean(axis=1) - a.mean(axis=1)
    return _estimate(float(by_user.mean()), by_user, [b, a])


def _estimate(value: float, by_user: FloatArray, samples: Sequence[FloatArray]) -> Estimate:
    """The estimate whose error has a part over users, and one over the seeds of each sample that has several."""
    n_users = len(by_user)
    over_users = float(by_user.var(ddof=1)) / n_users
    several = [sample for sample in samples if sample.shape[1] > 1]
    over_seeds = [float(sample.mean(axis=0).var(ddof=1)) / sample.shape[1] for sample in several]
    rest = sum(_rest_mean_square(sample) / sample.size for sample in several)
    variance = max(over_users + sum(over_seeds) - rest, over_users, sum(over_seeds))
    parts = [(over_users, n_users - 1), *((v, s.shape[1] - 1) for v, s in zip(over_seeds, several, strict=True))]
    spread = sum(part**2 / df for part, df in parts)
    # Rounding alone is no variance: equal values leave about 1e-17 of their size.
    if variance <= (1e-12 * max(1e-300, abs(value))) ** 2:
        return Estimate(value, 0.0, float(n_users - 1))
    return Estimate(value, variance**0.5, variance**2 / spread)


def _rest_mean_square(values: FloatArray) -> float:
    """The mean square of what neither user nor seed explains, which estimates σ²_rest."""
    n_users, n_seeds = values.shape
    residuals = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
    return float(np.square(residuals).sum()) / ((n_users - 1) * (n_seeds - 1))


def on_log_scale(values: FloatArray) -> FloatArray:
    """The values as contributions to the log of their mean, by the delta method: a difference is a log ratio then.

    Args:
        values: (users, seeds) whose seed means are all above 0.
    """
    means = values.mean(axis=0, keepdims=True)
    return np.log(means) + (values - means) / means


def contributions(per_user: FloatArray, gradient: FloatArray, value: float) -> FloatArray:
    """Users' contributions to a metric that is a smooth function of sums over users (RMSE, BLEU): its infinitesimal
    jackknife (Efron 1982, chapter 6). Their mean is the metric's value, and their variance over U its variance.

    Args:
        per_user: (users, columns) whose column sums the metric is a function of.
        gradient: (columns,) derivative of the metric by each sum, at those sums.
        value: the metric.

    Returns:
        (users,)
    """
    deviations = per_user - per_user.mean(axis=0, keepdims=True)
    return value + len(per_user) * (deviations @ gradient)
