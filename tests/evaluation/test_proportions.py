"""Shares with Wilson's interval."""

import pytest
from scipy.stats import binomtest

from llm4rec_cli.evaluation.proportions import Proportion


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (3, 7), (50, 50), (600, 1000)])
def test_the_interval_is_wilsons(k, n):
    result = Proportion.of(k / n, n)
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_without_cases_any_share_is_possible():
    assert (Proportion.of(0.0, 0).low, Proportion.of(0.0, 0).high) == (0, 1)


def test_a_share_exceeds_another_where_the_cases_suffice():
    assert Proportion.of(0.4, 100).exceeds(Proportion.of(0.2, 100))
    assert not Proportion.of(0.4, 10).exceeds(Proportion.of(0.2, 10))
    assert not Proportion.of(0.4, 100).exceeds(Proportion.of(0.0, 0))
