"""Simulate the intervals of `llm4rec compare` and `--claims`: do 95 % intervals cover the truth, with few seeds?

Users' values are drawn from a real table of answers (or from a skewed distribution like one); seeds and what neither
explains are added with known variances. Each cell draws many studies of two models that do not differ, and counts how
often the interval of the difference covers 0, how often its lower end says that B is better (one-sided errors), and
how wide it is, as a multiple of the interval of an oracle that knows all variances.

  python scripts/simulate_intervals.py --predictions outputs/…/predictions.parquet --markdown
  python scripts/simulate_intervals.py --users 20000 --studies 600
  python scripts/simulate_intervals.py --users 200 --studies 200          a quick check
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from llm4rec_cli.evaluation import crossed
from llm4rec_cli.evaluation.ranking import expected_ndcg
from llm4rec_cli.results.tables import Content, markdown, show

Floats = NDArray[np.floating[Any]]
COLUMNS = ("users", "seeds", "seed/user", "case", "coverage", "false B > A", "width")


def user_values(predictions: Path | None) -> Floats:
    """Return NDCG@10 of each user of a finished run, or a skewed stand-in: mostly 0, the rest between 0.3 and 1."""
    if predictions is None:
        rng = np.random.default_rng(0)
        return np.where(rng.random(5_000) < 0.1, 1 / np.log2(rng.integers(2, 12, 5_000)), 0.0)
    import pandas as pd

    rows = pd.read_parquet(predictions)
    return expected_ndcg(rows["n_better"].to_numpy(), rows["n_tied"].to_numpy(), 10)


def study(
    rng: np.random.Generator, values: Floats, n_users: int, n_seeds: int, ratio: float, case: str
) -> tuple[Floats, Floats, float]:
    """Draw the values of two models that do not differ, (users, seeds) each, and the true error of their difference.

    Args:
        ratio: of the variance of the difference that is over seeds to that over users.
        case: `normal` or `skewed` seeds; or `rest`, where the interaction of users and seeds rules.
    """
    user = rng.choice(values, size=(n_users, 1))
    own = rng.choice(values, size=(2, n_users, 1)) - values.mean()  # what each model adds for a user
    over_users = 2 * values.var() / n_users
    scale = np.sqrt(ratio * over_users * n_seeds / 2)
    draws = rng.standard_normal((2, 1, n_seeds))
    if case == "skewed":
        draws = rng.exponential(size=draws.shape) - 1
    deviation = values.std() * (3.0 if case == "rest" else 0.5)
    a, b = user + own + scale * draws + deviation * rng.standard_normal((2, n_users, n_seeds))
    error = np.sqrt(over_users * (1 + ratio) + 2 * deviation**2 / (n_users * n_seeds))
    return a, b, float(error)


def cell(values: Floats, n_users: int, n_seeds: int, ratio: float, case: str, studies: int) -> dict[str, str]:
    """Simulate one row of the table."""
    rng = np.random.default_rng([n_users, n_seeds, round(10 * ratio), len(case)])
    intervals, errors = [], []
    for _ in range(studies):
        a, b, error = study(rng, values, n_users, n_seeds, ratio, case)
        intervals.append(crossed.difference(b, a).interval())
        errors.append(error)
    low, high = np.array(intervals).T
    oracle = 2 * stats.norm.ppf(0.975) * np.mean(errors)
    cells = (
        *(f"{n_users:,}", str(n_seeds), f"{ratio:g}", case),
        f"{100 * np.mean((low <= 0) & (high >= 0)):.1f} %",
        f"{100 * np.mean(low > 0):.1f} %",
        f"{np.median(high - low) / oracle:.2f}",
    )
    return dict(zip(COLUMNS, cells, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=Path, help="predictions.parquet of a ranking run (default: a stand-in)")
    parser.add_argument("--users", type=int, nargs="+", default=[200, 2_000, 20_000])
    parser.add_argument("--studies", type=int, default=300, help="per row")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    values = user_values(options.predictions)
    cases = [("normal", ratio) for ratio in (0.1, 1.0, 10.0)] + [("skewed", 1.0), ("rest", 0.1)]
    rows = [
        cell(values, n_users, n_seeds, ratio, case, options.studies)
        for n_users in options.users
        for n_seeds in (3, 5, 10)
        for case, ratio in cases
    ]
    cells = [list(row.values()) for row in rows]
    if options.markdown:
        print(markdown([*rows[0]], cells))
    else:
        show(Content("95 % intervals of a difference of 0", [*rows[0]], cells))


if __name__ == "__main__":
    main()
