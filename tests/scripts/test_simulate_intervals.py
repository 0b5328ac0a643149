"""The simulation of intervals: its draws have the variances that it says, and ours cover."""

import numpy as np
import pytest
import simulate_intervals as simulation

VALUES = simulation.user_values(None)


@pytest.mark.parametrize("case", ["normal", "skewed", "rest"])
def test_the_true_error_is_that_of_the_draws(case):
    rng = np.random.default_rng(0)
    studies = [simulation.study(rng, VALUES, 50, 3, 1.0, case) for _ in range(3000)]
    differences = [b.mean() - a.mean() for a, b, _ in studies]
    assert np.std(differences) == pytest.approx(studies[0][2], rel=0.06)


def test_three_seeds_cover_where_they_decide():
    row = simulation.cell(VALUES, 200, 3, 10.0, "normal", 500)
    assert 92 <= float(row["coverage"].split()[0]) <= 99.5
