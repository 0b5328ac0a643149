"""What holds for the metrics of any run on any machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

STARS = 4.0  # the largest error of a rating from 1 to 5
HIGHEST = {"rmse": STARS, "mae": STARS, "mse": STARS**2, "novelty": math.inf, "loss": math.inf, "mean_length": math.inf}
OF_ANSWERS = ("said/", "said_paper/", "valid/")  # they are left out if no answer is valid, but for the coverage
CUTOFFS = (1, 5, 10, 20, 50)


def hold(metrics: Mapping[str, float | None]) -> None:
    """Assert that each metric is in its range, and that hit rates and recall rise with the cutoff."""
    for name, value in metrics.items():
        highest = math.inf if name == "listed/mean" else HIGHEST.get(_kind(name), 1.0)
        assert value is None or 0 <= value <= highest + 1e-12, (name, value)
    for kind in ("hr", "recall"):
        rates = [metrics[f"{kind}@{k}"] or 0.0 for k in CUTOFFS if f"{kind}@{k}" in metrics]
        assert all(lower <= higher for lower, higher in pairwise(rates)), (kind, rates)


def always_there(metrics: Mapping[str, float | None]) -> list[str]:
    """Return the names of the metrics that do not depend on whether some answer is valid."""
    return sorted(name for name in metrics if not name.startswith(OF_ANSWERS) or name.endswith("coverage"))


def _kind(name: str) -> str:
    """Return `mse` of `valid/mse`, and `novelty` of `novelty@10`, and `loss` of `loss/rating`."""
    return "loss" if name.startswith("loss/") else name.rpartition("/")[2].partition("@")[0]
