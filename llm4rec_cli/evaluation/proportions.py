"""Shares of counted cases, with intervals that are valid for few cases: one of five proves little."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z = 1.959964  # 95 %


@dataclass(frozen=True)
class Proportion:
    """A share of n cases with its 95 % interval.

    Attributes:
        low, high: ends of Wilson's interval (JASA 1927).
    """

    share: float  # in [0, 1]
    n: float  # number of cases
    low: float
    high: float

    @classmethod
    def of(cls, share: float, n: float) -> Proportion:
        """Return a share with its interval, which is wide enough for a mean of n values in [0, 1], too: those vary no
        more than zeros and ones of the same mean."""
        if n <= 0:
            return cls(share, 0.0, 0.0, 1.0)
        centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
        half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + (Z / (2 * n)) ** 2)
        return cls(share, n, max(0.0, centre - half), min(1.0, centre + half))

    def exceeds(self, other: Proportion) -> bool:
        """Return whether this share exceeds another: the 95 % interval of the difference, built from the two
        intervals (Newcombe, Statistics in Medicine 1998), lies above 0."""
        return self.share - other.share > math.hypot(self.share - self.low, other.high - other.share)
